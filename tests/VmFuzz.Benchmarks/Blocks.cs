using VmFuzz.Arch;
using VmFuzz.Machines;

namespace VmFuzz.Benchmarks;

/// <summary>Blocks that are decoded, run once and forgotten.</summary>
internal static class Blocks
{
    private const int Count = 4000;

    /// <summary>Runs code that is all blocks of six instructions, each entered once, behind a drop of all decoded code.</summary>
    public static Func<long> Create()
    {
        // add rax, rcx / mov rdx, [rsp] / xor edx, 0x1234 / lea rcx, [rax + rdx*4 + 8] / cmp rcx, rax / jmp next
        byte[] block = [0x48, 0x01, 0xC8, 0x48, 0x8B, 0x14, 0x24, 0x81, 0xF2, 0x34, 0x12, 0x00, 0x00, 0x48, 0x8D, 0x4C, 0x90, 0x08, 0x48, 0x39, 0xC1, 0xEB, 0x00];
        byte[] code = [.. Enumerable.Repeat(block, Count).SelectMany(static b => b), 0xF4];
        Machine machine = Machine.Create(Guests.Options(code, Accelerator.Bare), NoInputs.Instance);
        return () =>
        {
            machine.Processor.DropBlocks();
            machine.Reset();
            machine.Run();
            return Count;
        };
    }
}
