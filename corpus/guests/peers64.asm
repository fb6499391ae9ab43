; Kernels that are timed beside other emulators: what the table at `kernels` names, a number of rounds of one of them, then its
; checksum in hexadecimal digits on port 0xe9, and the end. 64-bit code, first 4 GiB identity-mapped; where it starts is of no
; concern (-machine flat, the ROM of peersrom.asm, an emulator's library).
;
; Whoever loads it sets `kernel` and `rounds` in the first bytes. With 0 rounds only the start and the end are left, for a
; time to subtract. RBX is the checksum at `finish`.

        bits 64
        org 0x10000

%define STACK   0x80000
%define DATA    0x100000
%define TABLE   0x180000

        jmp     short start
        align 8
kernel: dq      0
rounds: dq      1
        dq      finish

start:  mov     rsp, STACK
        xor     ebx, ebx
        mov     rax, [rel kernel]
        lea     rcx, [rel kernels]
        mov     r15, [rcx + rax * 8]
        call    fill
        mov     r14, [rel rounds]
        test    r14, r14
        jz      finish
round:  call    r15
        dec     r14
        jnz     round

finish: mov     ecx, 16
digit:  rol     rbx, 4
        mov     al, bl
        and     al, 15
        add     al, '0'
        cmp     al, '9'
        jbe     .put
        add     al, 'a' - '0' - 10
.put:   out     0xe9, al
        dec     ecx
        jnz     digit
        mov     al, 10
        out     0xe9, al
        lea     rsi, [rel shutdown]             ; Bochs
        mov     ecx, 8
        mov     edx, 0x8900
.end:   lodsb
        out     dx, al
        dec     ecx
        jnz     .end
        xor     eax, eax                        ; QEMU, VmFuzz
        out     0xf4, al
        hlt
        jmp     $ - 1

shutdown: db    "Shutdown"

        align 8
kernels: dq     crc, sieve, sort, copy, bytecode, divide

; 64 KiB of pseudo-random bytes at DATA, the table of the CRC at TABLE.
fill:   mov     rdi, DATA
        mov     ecx, 8192
        mov     rax, 88172645463325252
.next:  mov     rdx, rax
        shl     rdx, 13
        xor     rax, rdx
        mov     rdx, rax
        shr     rdx, 7
        xor     rax, rdx
        mov     rdx, rax
        shl     rdx, 17
        xor     rax, rdx
        mov     [rdi], rax
        add     rdi, 8
        dec     ecx
        jnz     .next
        mov     rdi, TABLE
        xor     ecx, ecx
.entry: mov     eax, ecx
        mov     edx, 8
.bit:   shr     eax, 1
        jnc     .even
        xor     eax, 0xedb88320
.even:  dec     edx
        jnz     .bit
        mov     [rdi + rcx * 4], eax
        inc     ecx
        cmp     ecx, 256
        jb      .entry
        ret

; CRC-32 of 64 KiB, a table look-up a byte.
crc:    mov     rsi, DATA
        mov     rdi, TABLE
        mov     ecx, 65536
        mov     eax, -1
.next:  movzx   edx, byte [rsi]
        xor     dl, al
        movzx   edx, dl
        shr     eax, 8
        xor     eax, [rdi + rdx * 4]
        inc     rsi
        dec     ecx
        jnz     .next
        not     eax
        add     rbx, rax
        rol     rbx, 5
        ret

; Primes below 65536, a byte each, behind the table.
sieve:  mov     rdi, TABLE + 4096
        mov     rax, 0x0101010101010101
        xor     ecx, ecx
.set:   mov     [rdi + rcx], rax
        add     ecx, 8
        cmp     ecx, 65536
        jb      .set
        mov     ecx, 2
.prime: cmp     byte [rdi + rcx], 0
        je      .after
        inc     rbx
        lea     edx, [rcx + rcx]
        cmp     edx, 65536
        jae     .after
.strike: mov    byte [rdi + rdx], 0
        add     edx, ecx
        cmp     edx, 65536
        jb      .strike
.after: inc     ecx
        cmp     ecx, 65536
        jb      .prime
        ret

; Quicksort of 4096 words of 4 bytes, by calls; the data are copied first.
sort:   mov     rsi, DATA
        mov     rdi, TABLE + 4096
        xor     ecx, ecx
.copy:  mov     eax, [rsi + rcx * 4]
        mov     [rdi + rcx * 4], eax
        inc     ecx
        cmp     ecx, 4096
        jb      .copy
        mov     rsi, rdi
        lea     rdi, [rdi + 4095 * 4]
        call    .range
        mov     rdi, TABLE + 4096
        mov     eax, [rdi + 1000 * 4]
        add     rbx, rax
        mov     eax, [rdi + 4095 * 4]
        xor     rbx, rax
        ret
.range: cmp     rsi, rdi                        ; sorts [rsi, rdi]
        jae     .done
        push    rsi
        push    rdi
        call    .split                          ; rax: where the pivot came to
        mov     rdi, [rsp]
        push    rax
        lea     rsi, [rax + 4]
        call    .range
        pop     rax
        pop     rdi
        pop     rsi
        lea     rdi, [rax - 4]
        call    .range
.done:  ret
.split: mov     edx, [rdi]
        mov     rax, rsi
        mov     rcx, rsi
.step:  cmp     rcx, rdi
        jae     .last
        mov     r8d, [rcx]
        cmp     r8d, edx
        jae     .keep
        mov     r9d, [rax]
        mov     [rax], r8d
        mov     [rcx], r9d
        add     rax, 4
.keep:  add     rcx, 4
        jmp     .step
.last:  mov     r9d, [rax]
        mov     [rax], edx
        mov     [rdi], r9d
        ret

; Copies 64 KiB, 32 bytes a turn.
copy:   mov     rsi, DATA
        mov     rdi, TABLE + 4096
        mov     ecx, 2048
.next:  mov     rax, [rsi]
        mov     rdx, [rsi + 8]
        mov     r8, [rsi + 16]
        mov     r9, [rsi + 24]
        mov     [rdi], rax
        mov     [rdi + 8], rdx
        mov     [rdi + 16], r8
        mov     [rdi + 24], r9
        add     rsi, 32
        add     rdi, 32
        dec     ecx
        jnz     .next
        add     rbx, [rdi - 8]
        rol     rbx, 3
        ret

; An interpreter of bytecode: 20000 turns of a loop of seven instructions.
bytecode:
        lea     rsi, [rel program]
        lea     rdi, [rel .table]
        mov     r8d, 20000                      ; counter
        mov     r9, rbx                         ; accumulator
.fetch: movzx   eax, byte [rsi]
        inc     rsi
        jmp     [rdi + rax * 8]
.add:   movzx   eax, byte [rsi]
        inc     rsi
        add     r9, rax
        jmp     .fetch
.xor:   movzx   eax, byte [rsi]
        inc     rsi
        xor     r9, rax
        jmp     .fetch
.rol:   rol     r9, 7
        jmp     .fetch
.mul:   lea     r9, [r9 + r9 * 4]
        jmp     .fetch
.store: mov     rdx, TABLE + 4096
        mov     [rdx], r9
        jmp     .fetch
.load:  mov     rdx, TABLE + 4096
        add     r9, [rdx]
        jmp     .fetch
.loop:  dec     r8d
        jz      .fetch
        lea     rsi, [rel program]
        jmp     .fetch
.end:   mov     rbx, r9
        ret
        align 8
.table: dq      .add, .xor, .rol, .mul, .store, .load, .loop, .end
program: db     0, 17, 1, 99, 2, 3, 4, 5, 6, 7

; Products and quotients of 64 bits.
divide: mov     rsi, DATA
        mov     ecx, 4096
.next:  mov     rax, [rsi + rcx * 8 - 8]
        mov     r8, 6364136223846793005
        mul     r8
        add     rbx, rdx
        mov     r9, rax
        xor     edx, edx
        mov     r8d, ecx
        div     r8
        add     rbx, rax
        xor     rbx, rdx
        mov     rax, r9
        cqo
        lea     r8, [rcx + 2]
        idiv    r8
        add     rbx, rax
        imul    rbx, rbx, 33
        dec     ecx
        jnz     .next
        ret
