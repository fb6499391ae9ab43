// What libFuzzer wants as symbols or as C, in front of the .NET host. Linked with all of libclang_rt.fuzzer_no_main.
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MOST (1 << 20)

typedef int (*run_fn)(const uint8_t *data, size_t size);
typedef size_t (*mutate_fn)(uint8_t *data, size_t size, size_t room, unsigned seed);

int LLVMFuzzerRunDriver(int *argc, char ***argv, run_fn run);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t room);
void __sanitizer_cov_8bit_counters_init(uint8_t *first, uint8_t *end);
void __sanitizer_cov_pcs_init(const uintptr_t *first, const uintptr_t *end);

static mutate_fn mutate;
static run_fn target;
static uint8_t *current;

// .NET dies of a stack overflow without asking anybody: the input stays in a file, behind its length.
static int run_and_keep(const uint8_t *data, size_t size)
{
    uint32_t kept = size < MOST ? size : MOST;
    memcpy(current + sizeof kept, data, kept);
    memcpy(current, &kept, sizeof kept);
    int result = target(data, size);
    memset(current, 0, sizeof kept);
    return result;
}

static int keep_in(const char *path)
{
    int file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (file < 0 || ftruncate(file, MOST + sizeof(uint32_t)))
        return 0;
    void *mapped = mmap(0, MOST + sizeof(uint32_t), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    current = mapped == MAP_FAILED ? 0 : mapped;
    return current != 0;
}

// One mutation in four stays with libFuzzer's own, which know nothing of the structure, and so does what cannot be mutated.
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t room, unsigned seed)
{
    size_t changed = mutate && (seed >> 8) % 4 ? mutate(data, size, room, seed) : 0;
    return changed ? changed : LLVMFuzzerMutate(data, size, room);
}

int vmfuzz_run(int argc, char **argv, run_fn run, mutate_fn mutator, uint8_t *counters, size_t count, const char *keep)
{
    // A table of places as long as the counters: two words each, address and flags. The addresses only have to differ.
    uintptr_t *places = malloc(count * 2 * sizeof *places);
    if (!places)
        return 2;
    for (size_t i = 0; i < count; i++) {
        places[2 * i] = 0x1000 + 16 * i;
        places[2 * i + 1] = 0;
    }
    mutate = mutator;
    __sanitizer_cov_8bit_counters_init(counters, counters + count);
    __sanitizer_cov_pcs_init(places, places + 2 * count);

    // libFuzzer leaves a signal alone that has a handler, and .NET has one; without its own it writes no artifact.
    signal(SIGABRT, SIG_DFL);
    target = run;
    return LLVMFuzzerRunDriver(&argc, &argv, keep && keep_in(keep) ? run_and_keep : run);
}

void vmfuzz_abort(void)
{
    abort();
}
