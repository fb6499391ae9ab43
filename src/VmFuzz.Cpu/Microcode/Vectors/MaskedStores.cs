using System.Collections.Immutable;
using System.Runtime.Intrinsics;
using Iced.Intel;
using VmFuzz.Arch;

namespace VmFuzz.Cpu.Microcode.Vectors;

/// <summary>MASKMOVQ and MASKMOVDQU: bytes with a mask to where rDI points.</summary>
internal static class MaskedStores
{
    public static readonly ImmutableArray<InstructionRow> Rows =
    [
        new(Mnemonic.Maskmovq, Store, Feature: CpuFeatures.Sse),
        new(Mnemonic.Maskmovdqu, Store, Feature: CpuFeatures.Sse2),
    ];

    private static ExecResult Store(Processor cpu, in Instruction ins)
    {
        if (!VectorOperands.Available(cpu, ins))
        {
            return ExecResult.Abort;
        }

        Vector128<byte> bytes = VectorOperands.Get(cpu, ins.Op1Register);
        uint mask = Vector128.ExtractMostSignificantBits(VectorOperands.Get(cpu, ins.Op2Register));
        ulong addresses = Processor.MaskOfSize(StringOps.AddressSize(ins));
        ulong start = cpu[Gpr.Rdi] & addresses;
        SegmentRegister segment = Processor.ToSegment(ins.MemorySegment);

        // Which bytes without a mask are looked at is left open: here all of them are, as on AMD's processors.
        if (!cpu.ProbeWrite(segment, start, ins.MemorySize.GetSize(), alignment: 1))
        {
            return ExecResult.Abort;
        }

        for (int i = 0; mask != 0; i++, mask >>= 1)
        {
            if ((mask & 1) != 0)
            {
                cpu.WriteMemory(segment, (start + (ulong)i) & addresses, 1, bytes[i]);
            }
        }

        return VectorOperands.Complete(cpu, ins);
    }
}
