using System.Collections.Immutable;
using Iced.Intel;
using VmFuzz.Arch;

namespace VmFuzz.Cpu.Microcode;

/// <summary>MOV to and from control and debug registers, LMSW, SMSW, CLTS, INVLPG, INVPCID, XSETBV, SWAPGS and the FS/GS base instructions.</summary>
internal static unsafe class ControlRegisters
{
    public static readonly ImmutableArray<InstructionRow> Rows =
    [
        .. Segments.Forms(Mnemonic.Mov, FromCr, InstructionTraits.EndsBlock, Code.Mov_r32_cr, Code.Mov_r64_cr),
        .. Segments.Forms(Mnemonic.Mov, ToCr, InstructionTraits.EndsBlock, Code.Mov_cr_r32, Code.Mov_cr_r64),
        .. Segments.Forms(Mnemonic.Mov, FromDr, InstructionTraits.EndsBlock, Code.Mov_r32_dr, Code.Mov_r64_dr),
        .. Segments.Forms(Mnemonic.Mov, ToDr, InstructionTraits.EndsBlock, Code.Mov_dr_r32, Code.Mov_dr_r64),
        new(Mnemonic.Lmsw, Lmsw, InstructionTraits.EndsBlock),
        new(Mnemonic.Smsw, Smsw, InstructionTraits.EndsBlock),
        new(Mnemonic.Clts, Clts, InstructionTraits.EndsBlock),
        new(Mnemonic.Invlpg, Invlpg, InstructionTraits.EndsBlock),
        new(Mnemonic.Invpcid, Invpcid, InstructionTraits.EndsBlock, CpuFeatures.Pcid),
        new(Mnemonic.Xsetbv, Xsetbv, InstructionTraits.EndsBlock, CpuFeatures.Xsave),
        new(Mnemonic.Xgetbv, Xgetbv, InstructionTraits.None, CpuFeatures.Xsave),
        new(Mnemonic.Rdpkru, Rdpkru, InstructionTraits.None, CpuFeatures.Pku),
        new(Mnemonic.Wrpkru, Wrpkru, InstructionTraits.EndsBlock, CpuFeatures.Pku),
        new(Mnemonic.Swapgs, Swapgs, InstructionTraits.EndsBlock),
        new(Mnemonic.Rdfsbase, ReadBase, InstructionTraits.None, CpuFeatures.Fsgsbase),
        new(Mnemonic.Rdgsbase, ReadBase, InstructionTraits.None, CpuFeatures.Fsgsbase),
        new(Mnemonic.Wrfsbase, WriteBase, InstructionTraits.EndsBlock, CpuFeatures.Fsgsbase),
        new(Mnemonic.Wrgsbase, WriteBase, InstructionTraits.EndsBlock, CpuFeatures.Fsgsbase),
    ];

    private static bool ControlExists(int register) => register is 0 or 2 or 3 or 4 or 8;

    private static Gpr General(Register register) => (Gpr)InstructionInformation.Number(register);

    private static ExecResult FromCr(Processor cpu, in Instruction ins)
    {
        int register = ins.Op1Register - Register.CR0;
        if (!ControlExists(register))
        {
            return cpu.Fault(GuestFault.Ud);
        }

        if (cpu.Cpl > 0)
        {
            return cpu.Fault(GuestFault.Gp());
        }

        ulong value = register switch
        {
            0 => cpu.State->Cr0,
            2 => cpu.State->Cr2,
            3 => cpu.State->Cr3,
            4 => cpu.State->Cr4,
            _ => cpu.Interrupts?.TaskPriority ?? 0UL,
        };
        Gpr destination = General(ins.Op0Register);
        if (register != 2 && cpu.NonRoot is { } policy && policy.MovFromCr(register, destination, ins.Length, ref value))
        {
            return cpu.Exit();
        }

        cpu.WriteGpr(ins.Op0Register, value);
        return ExecResult.Next;
    }

    private static ExecResult ToCr(Processor cpu, in Instruction ins)
    {
        int register = ins.Op0Register - Register.CR0;
        if (!ControlExists(register))
        {
            return cpu.Fault(GuestFault.Ud);
        }

        if (cpu.Cpl > 0)
        {
            return cpu.Fault(GuestFault.Gp());
        }

        ulong value = cpu.ReadGpr(ins.Op1Register);
        if (register != 2 && cpu.NonRoot is { } policy && policy.MovToCr(register, General(ins.Op1Register), ins.Length, ref value))
        {
            return cpu.Exit();
        }

        bool loaded;
        switch (register)
        {
            case 0:
                loaded = cpu.LoadCr0(value);
                break;
            case 2:
                cpu.State->Cr2 = value;
                loaded = true;
                break;
            case 3:
                loaded = cpu.LoadCr3(value);
                break;
            case 4:
                loaded = cpu.LoadCr4(value);
                break;
            default:
                loaded = value <= 15 || cpu.RaiseFault(GuestFault.Gp());
                if (loaded)
                {
                    if (cpu.Interrupts is { } controller)
                    {
                        controller.TaskPriority = (byte)value;
                    }

                    cpu.Look();
                }

                break;
        }

        return loaded ? ExecResult.NextAndLook : ExecResult.Abort;
    }

    // DR4 and DR5 are DR6 and DR7 unless CR4.DE is set. The general-detect fault comes after the exit.
    private static bool CheckDebug(Processor cpu, in Instruction ins, ref int register, bool write, Register gpr, out ExecResult stopped)
    {
        stopped = ExecResult.Abort;
        if (register > 7)
        {
            return cpu.RaiseFault(GuestFault.Ud);
        }

        // SDM "Relative Priority of Faults and VM Exits": this exit comes before the checks of DE and CPL.
        if (cpu.NonRoot is { } policy && policy.MovDr(register, write, General(gpr), ins.Length))
        {
            stopped = cpu.Exit();
            return false;
        }

        if (register is 4 or 5 && (cpu.State->Cr4 & Cr4.De) != 0)
        {
            return cpu.RaiseFault(GuestFault.Ud);
        }

        if (cpu.Cpl > 0)
        {
            return cpu.RaiseFault(GuestFault.Gp());
        }

        if (register is 4 or 5)
        {
            register += 2;
        }

        return (cpu.State->Dr7 & Processor.GeneralDetect) == 0
            || cpu.RaiseFault(new GuestFault(Vector.Db, 0, Processor.GeneralDetect));
    }

    private static ExecResult FromDr(Processor cpu, in Instruction ins)
    {
        int register = ins.Op1Register - Register.DR0;
        if (!CheckDebug(cpu, ins, ref register, false, ins.Op0Register, out ExecResult stopped))
        {
            return stopped;
        }

        cpu.WriteGpr(ins.Op0Register, register switch
        {
            6 => cpu.State->Dr6,
            7 => cpu.State->Dr7,
            _ => (&cpu.State->Dr0)[register],
        });
        return ExecResult.Next;
    }

    private static ExecResult ToDr(Processor cpu, in Instruction ins)
    {
        int register = ins.Op0Register - Register.DR0;
        if (!CheckDebug(cpu, ins, ref register, true, ins.Op1Register, out ExecResult stopped))
        {
            return stopped;
        }

        ulong value = cpu.ReadGpr(ins.Op1Register);
        if (register >= 6 && value >> 32 != 0)
        {
            return cpu.Fault(GuestFault.Gp());
        }

        switch (register)
        {
            case 6:
                cpu.State->Dr6 = (value & 0xE00F) | 0xFFFF_0FF0;
                break;
            case 7:
                cpu.State->Dr7 = (value & 0xFFFF_23FF) | 0x400;
                break;
            default:
                (&cpu.State->Dr0)[register] = value;
                break;
        }

        cpu.StateChanged();
        return ExecResult.NextAndLook;
    }

    private static ExecResult Lmsw(Processor cpu, in Instruction ins)
    {
        if (cpu.Cpl > 0)
        {
            return cpu.Fault(GuestFault.Gp());
        }

        if (!cpu.ReadOperand(ins, 0, out ulong source))
        {
            return ExecResult.Abort;
        }

        // PE can be set but not cleared.
        ulong value = (cpu.State->Cr0 & ~0xEUL) | (source & 0xF);
        if (cpu.NonRoot is { } policy)
        {
            bool memory = ins.Op0Kind == OpKind.Memory;
            ulong linear = 0;
            if (memory)
            {
                ulong offset = cpu.EffectiveAddress(ins, out SegmentRegister segment);
                cpu.Linearize(segment, offset, 2, false, out linear);
            }

            if (policy.Lmsw((ushort)source, memory, linear, ins.Length, ref value))
            {
                return cpu.Exit();
            }
        }

        return cpu.LoadCr0(value) ? ExecResult.NextAndLook : ExecResult.Abort;
    }

    private static ExecResult Smsw(Processor cpu, in Instruction ins)
    {
        if (DescriptorTables.UmipForbids(cpu))
        {
            return cpu.Fault(GuestFault.Gp());
        }

        ulong value = cpu.State->Cr0;
        if (cpu.NonRoot is { } policy && policy.MovFromCr(0, Gpr.Rax, ins.Length, ref value))
        {
            return cpu.Exit();
        }

        return cpu.WriteOperand(ins, 0, value) ? ExecResult.Next : ExecResult.Abort;
    }

    private static ExecResult Clts(Processor cpu, in Instruction ins)
    {
        if (cpu.Cpl > 0)
        {
            return cpu.Fault(GuestFault.Gp());
        }

        bool clear = true;
        if (cpu.NonRoot is { } policy && policy.Clts(ins.Length, out clear))
        {
            return cpu.Exit();
        }

        if (clear)
        {
            cpu.State->Cr0 &= ~Cr0.Ts;
        }

        cpu.StateChanged();
        return ExecResult.NextAndLook;
    }

    // The address as the instruction uses it: no limit or type checks.
    private static ulong Linear(Processor cpu, in Instruction ins)
    {
        ulong offset = cpu.EffectiveAddress(ins, out SegmentRegister segment);
        if (cpu.Code64)
        {
            return segment is SegmentRegister.Fs or SegmentRegister.Gs ? offset + cpu.Segment(segment).Base : offset;
        }

        return (uint)(offset + cpu.Segment(segment).Base);
    }

    private static ExecResult Invlpg(Processor cpu, in Instruction ins)
    {
        if (cpu.Cpl > 0)
        {
            return cpu.Fault(GuestFault.Gp());
        }

        ulong linear = Linear(cpu, ins);
        if (Halt.Exits(cpu, ins, SensitiveInstruction.Invlpg, linear))
        {
            return cpu.Exit();
        }

        cpu.FlushTlb();
        return ExecResult.NextAndLook;
    }

    private static ExecResult Invpcid(Processor cpu, in Instruction ins)
    {
        if (cpu.Virtual8086 || cpu.Cpl > 0)
        {
            return cpu.Fault(GuestFault.Gp());
        }

        if (cpu.NonRoot is { } policy
            && policy.Instruction(
                SensitiveInstruction.Invpcid,
                ins.Length,
                InstructionInformation.Displacement(ins),
                InstructionInformation.Vmx(ins, 1, 0)))
        {
            return cpu.Exit();
        }

        ulong type = cpu.ReadGpr(ins.Op0Register);
        ulong offset = cpu.EffectiveAddress(ins, out SegmentRegister segment);
        if (!cpu.ReadMemory(segment, offset, 8, out ulong pcid)
            || !cpu.ReadMemory(segment, (offset + 8) & Processor.AddressMask(ins), 8, out ulong linear))
        {
            return ExecResult.Abort;
        }

        bool bad = type > 3 || pcid >> 12 != 0 || (type == 0 && !cpu.IsCanonical(linear))
            || (type < 2 && pcid != 0 && (cpu.State->Cr4 & Cr4.Pcide) == 0);
        if (bad)
        {
            return cpu.Fault(GuestFault.Gp());
        }

        // Cached translations carry no PCID: drop all of them, whatever the type.
        cpu.FlushTlb();
        return ExecResult.NextAndLook;
    }

    private static ExecResult Xsetbv(Processor cpu, in Instruction ins)
    {
        if ((cpu.State->Cr4 & Cr4.Osxsave) == 0)
        {
            return cpu.Fault(GuestFault.Ud);
        }

        if (cpu.Cpl > 0)
        {
            return cpu.Fault(GuestFault.Gp());
        }

        if (Halt.Exits(cpu, ins, SensitiveInstruction.Xsetbv))
        {
            return cpu.Exit();
        }

        ulong value = ((ulong)(uint)cpu[Gpr.Rdx] << 32) | (uint)cpu[Gpr.Rax];
        if ((uint)cpu[Gpr.Rcx] != 0 || !cpu.IsXcr0Allowed(value))
        {
            return cpu.Fault(GuestFault.Gp());
        }

        cpu.State->Xcr0 = value;
        cpu.StateChanged();
        return ExecResult.NextAndLook;
    }

    private static ExecResult Xgetbv(Processor cpu, in Instruction ins)
    {
        if ((cpu.State->Cr4 & Cr4.Osxsave) == 0)
        {
            return cpu.Fault(GuestFault.Ud);
        }

        if ((uint)cpu[Gpr.Rcx] != 0)
        {
            return cpu.Fault(GuestFault.Gp());
        }

        cpu[Gpr.Rax] = (uint)cpu.State->Xcr0;
        cpu[Gpr.Rdx] = cpu.State->Xcr0 >> 32;
        return ExecResult.Next;
    }

    private static bool KeysAllowed(Processor cpu) =>
        ((cpu.State->Cr4 & Cr4.Pke) != 0 || cpu.RaiseFault(GuestFault.Ud))
        && ((uint)cpu[Gpr.Rcx] == 0 || cpu.RaiseFault(GuestFault.Gp()));

    private static ExecResult Rdpkru(Processor cpu, in Instruction ins)
    {
        if (!KeysAllowed(cpu))
        {
            return ExecResult.Abort;
        }

        cpu[Gpr.Rax] = cpu.State->Pkru;
        cpu[Gpr.Rdx] = 0;
        return ExecResult.Next;
    }

    private static ExecResult Wrpkru(Processor cpu, in Instruction ins)
    {
        if (!KeysAllowed(cpu))
        {
            return ExecResult.Abort;
        }

        if ((uint)cpu[Gpr.Rdx] != 0)
        {
            return cpu.Fault(GuestFault.Gp());
        }

        cpu.SetPageKeys(ref cpu.State->Pkru, (uint)cpu[Gpr.Rax]);
        return ExecResult.NextAndLook;
    }

    private static ExecResult Swapgs(Processor cpu, in Instruction ins)
    {
        if (!cpu.Code64)
        {
            return cpu.Fault(GuestFault.Ud);
        }

        if (cpu.Cpl > 0)
        {
            return cpu.Fault(GuestFault.Gp());
        }

        (cpu.State->Gs.Base, cpu.State->KernelGsBase) = (cpu.State->KernelGsBase, cpu.State->Gs.Base);
        return ExecResult.NextAndLook;
    }

    private static ref SegmentState BaseSegment(Processor cpu, in Instruction ins) => ref cpu.Segment(
        ins.Mnemonic is Mnemonic.Rdfsbase or Mnemonic.Wrfsbase ? SegmentRegister.Fs : SegmentRegister.Gs);

    private static bool BaseAllowed(Processor cpu) => cpu.Code64 && (cpu.State->Cr4 & Cr4.Fsgsbase) != 0;

    private static ExecResult ReadBase(Processor cpu, in Instruction ins)
    {
        if (!BaseAllowed(cpu))
        {
            return cpu.Fault(GuestFault.Ud);
        }

        cpu.WriteGpr(ins.Op0Register, BaseSegment(cpu, ins).Base);
        return ExecResult.Next;
    }

    private static ExecResult WriteBase(Processor cpu, in Instruction ins)
    {
        if (!BaseAllowed(cpu))
        {
            return cpu.Fault(GuestFault.Ud);
        }

        ulong value = cpu.ReadGpr(ins.Op0Register);
        if (!cpu.IsCanonical(value))
        {
            return cpu.Fault(GuestFault.Gp());
        }

        BaseSegment(cpu, ins).Base = value;
        return ExecResult.NextAndLook;
    }
}
