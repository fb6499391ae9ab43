using System.Collections.Immutable;
using Iced.Intel;
using VmFuzz.Arch;

namespace VmFuzz.Cpu.Microcode;

/// <summary>Instructions without an effect on this model.</summary>
internal static class Misc
{
    public static readonly ImmutableArray<InstructionRow> Rows =
    [
        new(Mnemonic.Nop, Ops.Nothing),
        new(Mnemonic.Reservednop, Ops.Nothing),
        new(Mnemonic.Endbr32, Ops.Nothing),
        new(Mnemonic.Endbr64, Ops.Nothing),

        // Hints, and RDSSP without shadow stacks, are no-operations on processors that lack them.
        new(Mnemonic.Rdsspd, Ops.Nothing),
        new(Mnemonic.Rdsspq, Ops.Nothing),
        new(Mnemonic.Cldemote, Ops.Nothing),
        new(Mnemonic.Prefetchit0, Ops.Nothing),
        new(Mnemonic.Prefetchit1, Ops.Nothing),
        new(Mnemonic.Prefetch, Ops.Nothing),
        new(Mnemonic.Prefetchw, Ops.Nothing),
        new(Mnemonic.Prefetchwt1, Ops.Nothing),
        new(Mnemonic.Prefetchnta, Ops.Nothing),
        new(Mnemonic.Prefetcht0, Ops.Nothing),
        new(Mnemonic.Prefetcht1, Ops.Nothing),
        new(Mnemonic.Prefetcht2, Ops.Nothing),
        new(Mnemonic.Lfence, Ops.Nothing, Feature: CpuFeatures.Sse2),
        new(Mnemonic.Mfence, Ops.Nothing, Feature: CpuFeatures.Sse2),
        new(Mnemonic.Sfence, Ops.Nothing, Feature: CpuFeatures.Sse),
        new(Mnemonic.Clflush, Clflush, Feature: CpuFeatures.Clflush),
    ];

    // SDM "CLFLUSH": checked like a load of one byte; there is no cache to flush.
    private static ExecResult Clflush(Processor cpu, in Instruction ins)
    {
        ulong offset = cpu.EffectiveAddress(ins, out SegmentRegister segment);
        return cpu.Linearize(segment, offset, 1, write: false, out ulong linear) && cpu.ProbeLinear(linear, 1, AccessKind.Read)
            ? ExecResult.Next
            : ExecResult.Abort;
    }
}
