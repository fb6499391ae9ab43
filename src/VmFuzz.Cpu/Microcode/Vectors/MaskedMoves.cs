using System.Buffers.Binary;
using System.Collections.Immutable;
using System.Runtime.Intrinsics;
using Iced.Intel;
using VmFuzz.Arch;

namespace VmFuzz.Cpu.Microcode.Vectors;

/// <summary>Moves with a mask: MASKMOVQ and MASKMOVDQU, of bytes to where rDI points, and those of AVX, of elements.</summary>
internal static class MaskedMoves
{
    private static readonly ImmutableArray<(Mnemonic Mnemonic, int Bytes, CpuFeatures Feature)> Elements =
    [
        (Mnemonic.Vmaskmovps, 4, CpuFeatures.Avx), (Mnemonic.Vmaskmovpd, 8, CpuFeatures.Avx),
        (Mnemonic.Vpmaskmovd, 4, CpuFeatures.Avx2), (Mnemonic.Vpmaskmovq, 8, CpuFeatures.Avx2),
    ];

    public static readonly ImmutableArray<InstructionRow> Rows =
    [
        new(Mnemonic.Maskmovq, Store, Feature: CpuFeatures.Sse),
        new(Mnemonic.Maskmovdqu, Store, Feature: CpuFeatures.Sse2),
        new(Mnemonic.Vmaskmovdqu, Store, Feature: CpuFeatures.Avx),
        .. Elements.Select(static row => new InstructionRow(
            row.Mnemonic,
            (Processor cpu, in Instruction ins) => ins.Op0Kind == OpKind.Register ? LoadElements(cpu, ins, row.Bytes) : StoreElements(cpu, ins, row.Bytes),
            Feature: row.Feature)),
    ];

    private static ExecResult Store(Processor cpu, in Instruction ins)
    {
        if (!(ins.Encoding == EncodingKind.VEX ? VexOperands.Available(cpu) : VectorOperands.Available(cpu, ins)))
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

    // SDM "VMASKMOV": elements without a mask are zero, and are not looked at.
    private static ExecResult LoadElements(Processor cpu, in Instruction ins, int bytes)
    {
        if (!VexOperands.Available(cpu))
        {
            return ExecResult.Abort;
        }

        Span<byte> image = stackalloc byte[Vector256<byte>.Count + sizeof(ulong)];
        image.Clear();
        Vector256<byte> mask = VexOperands.Get(cpu, ins.Op1Register);
        ulong start = cpu.EffectiveAddress(ins, out SegmentRegister segment);
        for (int at = 0; at < Vector256<byte>.Count; at += bytes)
        {
            if (IsChosen(mask, at, bytes))
            {
                if (!cpu.ReadMemory(segment, (start + (ulong)at) & Processor.AddressMask(ins), bytes, out ulong element))
                {
                    return ExecResult.Abort;
                }

                BinaryPrimitives.WriteUInt64LittleEndian(image[at..], element);
            }
        }

        VexOperands.Set(cpu, ins.Op0Register, Vector256.Create<byte>(image));
        return ExecResult.Next;
    }

    private static ExecResult StoreElements(Processor cpu, in Instruction ins, int bytes) =>
        VexOperands.Available(cpu) && TryStoreElements(cpu, ins, bytes, write: false) && TryStoreElements(cpu, ins, bytes, write: true)
            ? ExecResult.Next
            : ExecResult.Abort;

    private static bool TryStoreElements(Processor cpu, in Instruction ins, int bytes, bool write)
    {
        Vector256<byte> mask = VexOperands.Get(cpu, ins.Op1Register);
        Vector256<ulong> source = VexOperands.Get(cpu, ins.Op2Register).AsUInt64();
        ulong start = cpu.EffectiveAddress(ins, out SegmentRegister segment);
        for (int at = 0; at < Vector256<byte>.Count; at += bytes)
        {
            ulong address = (start + (ulong)at) & Processor.AddressMask(ins);
            if (IsChosen(mask, at, bytes)
                && !(write ? cpu.WriteMemory(segment, address, bytes, source[at / 8] >> (at % 8 * 8)) : cpu.ProbeWrite(segment, address, bytes)))
            {
                return false;
            }
        }

        return true;
    }

    // The sign of an element; an XMM register has zeros above it.
    private static bool IsChosen(Vector256<byte> mask, int at, int bytes) => (mask[at + bytes - 1] & 0x80) != 0;
}
