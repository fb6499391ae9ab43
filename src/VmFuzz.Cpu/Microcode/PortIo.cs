using System.Collections.Immutable;
using Iced.Intel;
using VmFuzz.Arch;

namespace VmFuzz.Cpu.Microcode;

/// <summary>IN, OUT, INS, OUTS (SDM "Input/Output").</summary>
internal static unsafe class PortIo
{
    public static readonly ImmutableArray<InstructionRow> Rows =
    [
        new(Mnemonic.In, In, InstructionTraits.EndsBlock),
        new(Mnemonic.Out, Out, InstructionTraits.EndsBlock),
        new(Mnemonic.Insb, InString, InstructionTraits.EndsBlock),
        new(Mnemonic.Insw, InString, InstructionTraits.EndsBlock),
        new(Mnemonic.Insd, InString, InstructionTraits.EndsBlock),
        new(Mnemonic.Outsb, OutString, InstructionTraits.EndsBlock),
        new(Mnemonic.Outsw, OutString, InstructionTraits.EndsBlock),
        new(Mnemonic.Outsd, OutString, InstructionTraits.EndsBlock),
    ];

    /// <summary>SDM "I/O Permission Bit Map": above IOPL, and in virtual-8086 mode always, the bits decide.</summary>
    internal static bool Permitted(Processor cpu, ushort port, int size)
    {
        if (!cpu.Protected || (!cpu.Virtual8086 && cpu.Cpl <= cpu.Iopl))
        {
            return true;
        }

        SegmentState tr = cpu.State->Tr;
        if ((tr.Attributes & 8) == 0 || !tr.Usable || tr.Limit < 103)
        {
            return cpu.RaiseFault(GuestFault.Gp());
        }

        if (!cpu.ReadLinear(Wrap(cpu, tr.Base + TssLayout.IoMap), 2, out ulong map, AccessMode.System))
        {
            return false;
        }

        // Two bytes are always read, so the byte after the last one must be within the limit.
        ulong at = map + ((ulong)port >> 3);
        if (at + 1 > tr.Limit)
        {
            return cpu.RaiseFault(GuestFault.Gp());
        }

        if (!cpu.ReadLinear(Wrap(cpu, tr.Base + at), 2, out ulong bits, AccessMode.System))
        {
            return false;
        }

        ulong wanted = ((1UL << size) - 1) << (port & 7);
        return (bits & wanted) == 0 || cpu.RaiseFault(GuestFault.Gp());
    }

    private static ulong Wrap(Processor cpu, ulong linear) => cpu.LongMode ? linear : (uint)linear;

    private static ExecResult In(Processor cpu, in Instruction ins)
    {
        bool immediate = ins.Op1Kind == OpKind.Immediate8;
        ushort port = immediate ? ins.Immediate8 : (ushort)cpu[Gpr.Rdx];
        int size = Processor.GprSize(ins.Op0Register);
        if (!Permitted(cpu, port, size))
        {
            return ExecResult.Abort;
        }

        if (cpu.NonRoot is { } policy && policy.Io(new IoAccess(port, size, true, false, false, immediate), ins.Length))
        {
            return cpu.Exit();
        }

        cpu.WriteGpr(ins.Op0Register, cpu.ReadPort(port, size));
        return ExecResult.NextAndLook;
    }

    private static ExecResult Out(Processor cpu, in Instruction ins)
    {
        bool immediate = ins.Op0Kind == OpKind.Immediate8;
        ushort port = immediate ? ins.Immediate8 : (ushort)cpu[Gpr.Rdx];
        int size = Processor.GprSize(ins.Op1Register);
        if (!Permitted(cpu, port, size))
        {
            return ExecResult.Abort;
        }

        if (cpu.NonRoot is { } policy && policy.Io(new IoAccess(port, size, false, false, false, immediate), ins.Length))
        {
            return cpu.Exit();
        }

        cpu.WritePort(port, size, cpu.ReadGpr(ins.Op1Register));
        return ExecResult.NextAndLook;
    }

    private static int StringSize(in Instruction ins) => ins.Mnemonic switch
    {
        Mnemonic.Insb or Mnemonic.Outsb => 1,
        Mnemonic.Insw or Mnemonic.Outsw => 2,
        _ => 4,
    };

    private static bool IsRep(in Instruction ins) => ins.HasRepPrefix || ins.HasRepnePrefix;

    private static ExecResult InString(Processor cpu, in Instruction ins)
    {
        int addressSize = ins.Op0Kind switch
        {
            OpKind.MemoryESDI => 2,
            OpKind.MemoryESEDI => 4,
            _ => 8,
        };
        int size = StringSize(ins);
        ushort port = (ushort)cpu[Gpr.Rdx];
        ulong mask = Processor.MaskOfSize(addressSize);
        bool rep = IsRep(ins);
        ulong offset = cpu[Gpr.Rdi] & mask;
        if (!Permitted(cpu, port, size))
        {
            return ExecResult.Abort;
        }

        if (rep && (cpu[Gpr.Rcx] & mask) == 0)
        {
            return ExecResult.Next;
        }

        if (!Intercepted(cpu, ins, SegmentRegister.Es, offset, addressSize, port, size, isIn: true, rep, out ExecResult stopped))
        {
            return stopped;
        }

        // The destination is checked before the port is read: a device must not lose a value to a fault.
        if (!cpu.ProbeWrite(SegmentRegister.Es, offset, size))
        {
            return ExecResult.Abort;
        }

        ulong value = cpu.ReadPort(port, size);
        if (!cpu.WriteMemory(SegmentRegister.Es, offset, size, value))
        {
            return ExecResult.Abort;
        }

        return Advance(cpu, Gpr.Rdi, size, addressSize, rep);
    }

    private static ExecResult OutString(Processor cpu, in Instruction ins)
    {
        int addressSize = ins.Op1Kind switch
        {
            OpKind.MemorySegSI => 2,
            OpKind.MemorySegESI => 4,
            _ => 8,
        };
        int size = StringSize(ins);
        ushort port = (ushort)cpu[Gpr.Rdx];
        ulong mask = Processor.MaskOfSize(addressSize);
        bool rep = IsRep(ins);
        ulong offset = cpu[Gpr.Rsi] & mask;
        SegmentRegister segment = Processor.ToSegment(ins.MemorySegment);
        if (!Permitted(cpu, port, size))
        {
            return ExecResult.Abort;
        }

        if (rep && (cpu[Gpr.Rcx] & mask) == 0)
        {
            return ExecResult.Next;
        }

        if (!Intercepted(cpu, ins, segment, offset, addressSize, port, size, isIn: false, rep, out ExecResult stopped))
        {
            return stopped;
        }

        if (!cpu.ReadMemory(segment, offset, size, out ulong value))
        {
            return ExecResult.Abort;
        }

        cpu.WritePort(port, size, value);
        return Advance(cpu, Gpr.Rsi, size, addressSize, rep);
    }

    // False: the instruction ends with `stopped`. The linear address in the exit is that of ES:rDI or seg:rSI.
    private static bool Intercepted(
        Processor cpu, in Instruction ins, SegmentRegister segment, ulong offset, int addressSize,
        ushort port, int size, bool isIn, bool rep, out ExecResult stopped)
    {
        stopped = ExecResult.Abort;
        if (cpu.NonRoot is not { } policy)
        {
            return true;
        }

        ulong based = cpu.Code64 && segment is not (SegmentRegister.Fs or SegmentRegister.Gs) ? 0 : cpu.Segment(segment).Base;
        ulong linear = cpu.Code64 ? offset + based : (uint)(offset + based);
        IoAccess access = new(port, size, isIn, true, rep, false, linear, addressSize, segment);
        if (policy.Io(access, ins.Length))
        {
            stopped = cpu.Exit();
            return false;
        }

        return true;
    }

    private static ExecResult Advance(Processor cpu, Gpr index, int size, int addressSize, bool rep)
    {
        long step = (cpu.State->Flags & RFlags.Df) != 0 ? -size : size;
        SetAddress(ref cpu[index], cpu[index] + (ulong)step, addressSize);
        if (!rep)
        {
            return ExecResult.NextAndLook;
        }

        SetAddress(ref cpu[Gpr.Rcx], cpu[Gpr.Rcx] - 1, addressSize);
        ulong left = cpu[Gpr.Rcx] & Processor.MaskOfSize(addressSize);
        return left == 0 ? ExecResult.NextAndLook : ExecResult.Repeat;
    }

    private static void SetAddress(ref ulong register, ulong value, int addressSize) => register = addressSize switch
    {
        2 => (register & ~0xFFFFUL) | (value & 0xFFFF),
        4 => (uint)value,
        _ => value,
    };
}
