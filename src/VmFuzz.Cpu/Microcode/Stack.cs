using System.Collections.Immutable;
using Iced.Intel;
using VmFuzz.Arch;

namespace VmFuzz.Cpu.Microcode;

/// <summary>PUSH, POP and frames. The forms with segment registers and PUSHF, POPF are system rows.</summary>
internal static unsafe class Stack
{
    public static readonly ImmutableArray<InstructionRow> Rows =
    [
        new(Mnemonic.Push, Push),
        new(Mnemonic.Pop, Pop),
        new(Mnemonic.Pusha, static (Processor cpu, in Instruction _) => PushAll(cpu, 2)),
        new(Mnemonic.Pushad, static (Processor cpu, in Instruction _) => PushAll(cpu, 4)),
        new(Mnemonic.Popa, static (Processor cpu, in Instruction _) => PopAll(cpu, 2)),
        new(Mnemonic.Popad, static (Processor cpu, in Instruction _) => PopAll(cpu, 4)),
        new(Mnemonic.Enter, Enter),
        new(Mnemonic.Leave, Leave),
    ];

    /// <summary>PUSH of a general register, an immediate or memory.</summary>
    public static ExecResult Push(Processor cpu, in Instruction ins)
    {
        int size = -ins.StackPointerIncrement;
        if (!cpu.ReadOperand(ins, 0, out ulong value))
        {
            return ExecResult.Abort;
        }

        return cpu.Push(size, value) ? ExecResult.Next : ExecResult.Abort;
    }

    /// <summary>POP of a general register or memory.</summary>
    public static ExecResult Pop(Processor cpu, in Instruction ins)
    {
        int size = ins.StackPointerIncrement;
        if (!cpu.PeekStack(size, 0, out ulong value))
        {
            return ExecResult.Abort;
        }

        // The stack pointer moves first: the address of a memory operand uses the new one, and POP SP overwrites it.
        ulong before = cpu[Gpr.Rsp];
        cpu.AdjustStack(size);
        if (cpu.WriteOperand(ins, 0, value))
        {
            return ExecResult.Next;
        }

        cpu[Gpr.Rsp] = before;
        return ExecResult.Abort;
    }

    private static ExecResult PushAll(Processor cpu, int size)
    {
        if (cpu.Code64)
        {
            return Ops.Undefined(cpu);
        }

        ulong mask = cpu.StackMask;
        ulong top = cpu[Gpr.Rsp];
        for (int i = 1; i <= 8; i++)
        {
            if (!cpu.ProbeWrite(SegmentRegister.Ss, (top - (ulong)(i * size)) & mask, size))
            {
                return ExecResult.Abort;
            }
        }

        for (int i = 0; i < 8; i++)
        {
            if (!cpu.WriteMemory(SegmentRegister.Ss, (top - (ulong)((i + 1) * size)) & mask, size, cpu[(Gpr)i]))
            {
                return ExecResult.Abort;
            }
        }

        cpu.AdjustStack(-8 * size);
        return ExecResult.Next;
    }

    private static ExecResult PopAll(Processor cpu, int size)
    {
        if (cpu.Code64)
        {
            return Ops.Undefined(cpu);
        }

        ulong* values = stackalloc ulong[8];
        for (int i = 0; i < 8; i++)
        {
            if (!cpu.PeekStack(size, i * size, out values[7 - i]))
            {
                return ExecResult.Abort;
            }
        }

        cpu.AdjustStack(8 * size);
        for (int i = 0; i < 8; i++)
        {
            if (i != (int)Gpr.Rsp)
            {
                Ops.Write(cpu, (Gpr)i, size, values[i]);
            }
        }

        return ExecResult.Next;
    }

    // SDM "ENTER": the last step touches the new top of the stack for writing.
    private static ExecResult Enter(Processor cpu, in Instruction ins)
    {
        int size = ins.Code switch
        {
            Code.Enterw_imm16_imm8 => 2,
            Code.Enterd_imm16_imm8 => 4,
            _ => 8,
        };
        int level = (int)ins.GetImmediate(1) & 31;
        ulong mask = cpu.StackMask;
        ulong rsp = cpu[Gpr.Rsp];
        ulong rbp = cpu[Gpr.Rbp];
        ulong frame = (rsp - (ulong)size) & mask;
        ulong* values = stackalloc ulong[33];
        int count = 0;
        values[count++] = rbp;
        for (int i = 1; i < level; i++)
        {
            if (!cpu.ReadMemory(SegmentRegister.Ss, (rbp - (ulong)(i * size)) & mask, size, out values[count++]))
            {
                return ExecResult.Abort;
            }
        }

        if (level > 0)
        {
            values[count++] = frame;
        }

        for (int i = 0; i < count; i++)
        {
            if (!cpu.ProbeWrite(SegmentRegister.Ss, (rsp - (ulong)((i + 1) * size)) & mask, size))
            {
                return ExecResult.Abort;
            }
        }

        ulong top = (rsp - (ulong)(count * size) - (ushort)ins.GetImmediate(0)) & mask;
        if (!cpu.ProbeWrite(SegmentRegister.Ss, top, size))
        {
            return ExecResult.Abort;
        }

        for (int i = 0; i < count; i++)
        {
            if (!cpu.WriteMemory(SegmentRegister.Ss, (rsp - (ulong)((i + 1) * size)) & mask, size, values[i]))
            {
                return ExecResult.Abort;
            }
        }

        Ops.Write(cpu, Gpr.Rbp, size, mask == 0xFFFF ? (rsp & ~0xFFFFUL) | frame : frame);
        cpu.SetStackPointer(top);
        return ExecResult.Next;
    }

    private static ExecResult Leave(Processor cpu, in Instruction ins)
    {
        int size = ins.Code switch
        {
            Code.Leavew => 2,
            Code.Leaved => 4,
            _ => 8,
        };
        ulong mask = cpu.StackMask;
        ulong frame = cpu[Gpr.Rbp] & mask;
        if (!cpu.ReadMemory(SegmentRegister.Ss, frame, size, out ulong value))
        {
            return ExecResult.Abort;
        }

        cpu.SetStackPointer((frame + (ulong)size) & mask);
        Ops.Write(cpu, Gpr.Rbp, size, value);
        return ExecResult.Next;
    }
}
