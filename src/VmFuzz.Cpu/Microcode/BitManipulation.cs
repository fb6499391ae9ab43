using System.Collections.Immutable;
using System.Numerics;
using Iced.Intel;
using VmFuzz.Arch;

namespace VmFuzz.Cpu.Microcode;

/// <summary>Bit tests and scans, counts, CRC32.</summary>
/// <remarks>
/// Undefined flags: bit tests leave OF, SF, AF and PF as they were (ZF is defined to stay); scans and counts of
/// leading and trailing zeros clear those they do not define.
/// </remarks>
internal static unsafe class BitManipulation
{
    private const ulong TestUndefined = RFlags.Of | RFlags.Sf | RFlags.Af | RFlags.Pf;
    private const ulong ScanUndefined = TestUndefined | RFlags.Cf;

    public static readonly ImmutableArray<InstructionRow> Rows =
    [
        new(Mnemonic.Bt, Bt, UndefinedFlags: TestUndefined),
        new(Mnemonic.Bts, Bts, UndefinedFlags: TestUndefined),
        new(Mnemonic.Btr, Btr, UndefinedFlags: TestUndefined),
        new(Mnemonic.Btc, Btc, UndefinedFlags: TestUndefined),
        new(Mnemonic.Bsf, Bsf, UndefinedFlags: ScanUndefined),
        new(Mnemonic.Bsr, Bsr, UndefinedFlags: ScanUndefined),

        // Without their features these opcodes are BSR and BSF with an ignored prefix, so they have no feature here.
        new(Mnemonic.Lzcnt, Lzcnt, UndefinedFlags: TestUndefined),
        new(Mnemonic.Tzcnt, Tzcnt, UndefinedFlags: TestUndefined),
        new(Mnemonic.Popcnt, Popcnt, Feature: CpuFeatures.Popcnt),
        new(Mnemonic.Crc32, Crc, Feature: CpuFeatures.Sse42),
    ];

    private static ExecResult Bt(Processor cpu, in Instruction ins) => Test(cpu, ins, write: false, clear: 0, set: 0, flip: 0);

    private static ExecResult Bts(Processor cpu, in Instruction ins) => Test(cpu, ins, write: true, clear: 0, set: 1, flip: 0);

    private static ExecResult Btr(Processor cpu, in Instruction ins) => Test(cpu, ins, write: true, clear: 1, set: 0, flip: 0);

    private static ExecResult Btc(Processor cpu, in Instruction ins) => Test(cpu, ins, write: true, clear: 0, set: 0, flip: 1);

    // SDM "BT": a register bit offset into memory reaches beyond the operand, by whole operands.
    private static ExecResult Test(Processor cpu, in Instruction ins, bool write, ulong clear, ulong set, ulong flip)
    {
        int size = Processor.OperandSize(ins, 0);
        int bits = size * 8;
        bool fromRegister = ins.Op1Kind == OpKind.Register;
        ulong raw = fromRegister ? cpu.ReadGpr(ins.Op1Register) : ins.GetImmediate(1);
        int bit = (int)raw & (bits - 1);
        ulong value;
        SegmentRegister segment = default;
        ulong offset = 0;
        bool memory = ins.Op0Kind == OpKind.Memory;
        if (!memory)
        {
            value = cpu.ReadGpr(ins.Op0Register);
        }
        else
        {
            offset = cpu.EffectiveAddress(ins, out segment);
            if (fromRegister)
            {
                long units = Processor.SignExtend(raw, size) >> BitOperations.Log2((uint)bits);
                offset = (offset + (ulong)(units * size)) & Processor.AddressMask(ins);
            }

            if ((write && !cpu.ProbeWrite(segment, offset, size)) || !cpu.ReadMemory(segment, offset, size, out value))
            {
                return ExecResult.Abort;
            }
        }

        bool carry = ((value >> bit) & 1) != 0;
        if (write)
        {
            ulong result = ((value & ~(clear << bit)) | (set << bit)) ^ (flip << bit);
            if (!memory)
            {
                cpu.WriteGpr(ins.Op0Register, result);
            }
            else if (!cpu.WriteMemory(segment, offset, size, result))
            {
                return ExecResult.Abort;
            }
        }

        cpu.FlagsSet(RFlags.Cf, Ops.Bit(carry, RFlags.Cf));
        return ExecResult.Next;
    }

    // With a zero source the destination keeps all its bits, as on current silicon.
    private static ExecResult Bsf(Processor cpu, in Instruction ins)
    {
        if (!cpu.ReadOperand(ins, 1, out ulong value))
        {
            return ExecResult.Abort;
        }

        if (value != 0)
        {
            cpu.WriteGpr(ins.Op0Register, (ulong)BitOperations.TrailingZeroCount(value));
        }

        cpu.FlagsSet(RFlags.Arithmetic, Ops.Bit(value == 0, RFlags.Zf));
        return ExecResult.Next;
    }

    private static ExecResult Bsr(Processor cpu, in Instruction ins)
    {
        if (!cpu.ReadOperand(ins, 1, out ulong value))
        {
            return ExecResult.Abort;
        }

        if (value != 0)
        {
            cpu.WriteGpr(ins.Op0Register, (ulong)BitOperations.Log2(value));
        }

        cpu.FlagsSet(RFlags.Arithmetic, Ops.Bit(value == 0, RFlags.Zf));
        return ExecResult.Next;
    }

    private static ExecResult Lzcnt(Processor cpu, in Instruction ins)
    {
        if (!cpu.Model.Has(CpuFeatures.Lzcnt))
        {
            return Bsr(cpu, ins);
        }

        if (!cpu.ReadOperand(ins, 1, out ulong value))
        {
            return ExecResult.Abort;
        }

        int bits = Processor.OperandSize(ins, 0) * 8;
        return FinishCount(cpu, ins, value, (ulong)(BitOperations.LeadingZeroCount(value) - (64 - bits)));
    }

    private static ExecResult Tzcnt(Processor cpu, in Instruction ins)
    {
        if (!cpu.Model.Has(CpuFeatures.Bmi1))
        {
            return Bsf(cpu, ins);
        }

        if (!cpu.ReadOperand(ins, 1, out ulong value))
        {
            return ExecResult.Abort;
        }

        int bits = Processor.OperandSize(ins, 0) * 8;
        return FinishCount(cpu, ins, value, value == 0 ? (ulong)bits : (ulong)BitOperations.TrailingZeroCount(value));
    }

    private static ExecResult FinishCount(Processor cpu, in Instruction ins, ulong value, ulong count)
    {
        cpu.WriteGpr(ins.Op0Register, count);
        cpu.FlagsSet(RFlags.Arithmetic, Ops.Bit(value == 0, RFlags.Cf) | Ops.Bit(count == 0, RFlags.Zf));
        return ExecResult.Next;
    }

    private static ExecResult Popcnt(Processor cpu, in Instruction ins)
    {
        if (!cpu.ReadOperand(ins, 1, out ulong value))
        {
            return ExecResult.Abort;
        }

        cpu.WriteGpr(ins.Op0Register, (ulong)BitOperations.PopCount(value));
        cpu.FlagsSet(RFlags.Arithmetic, Ops.Bit(value == 0, RFlags.Zf));
        return ExecResult.Next;
    }

    private static ExecResult Crc(Processor cpu, in Instruction ins)
    {
        if (!cpu.ReadOperand(ins, 1, out ulong data))
        {
            return ExecResult.Abort;
        }

        uint crc = (uint)cpu.ReadGpr(ins.Op0Register);
        crc = Processor.OperandSize(ins, 1) switch
        {
            1 => BitOperations.Crc32C(crc, (byte)data),
            2 => BitOperations.Crc32C(crc, (ushort)data),
            4 => BitOperations.Crc32C(crc, (uint)data),
            _ => BitOperations.Crc32C(crc, data),
        };
        cpu.WriteGpr(ins.Op0Register, crc);
        return ExecResult.Next;
    }
}
