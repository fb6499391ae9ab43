using System.Collections.Immutable;
using Iced.Intel;
using VmFuzz.Arch;

namespace VmFuzz.Cpu.Microcode;

/// <summary>SYSENTER, SYSEXIT, SYSCALL, SYSRET.</summary>
internal static unsafe class FastCalls
{
    public static readonly ImmutableArray<InstructionRow> Rows =
    [
        new(Mnemonic.Sysenter, Sysenter, InstructionTraits.EndsBlock, CpuFeatures.Sep),
        new(Mnemonic.Sysexit, Sysexit, InstructionTraits.EndsBlock, CpuFeatures.Sep),
        new(Mnemonic.Sysexitq, Sysexit, InstructionTraits.EndsBlock, CpuFeatures.Sep),
        new(Mnemonic.Syscall, Syscall, InstructionTraits.EndsBlock, CpuFeatures.Syscall),
        new(Mnemonic.Sysret, Sysret, InstructionTraits.EndsBlock, CpuFeatures.Syscall),
        new(Mnemonic.Sysretq, Sysret, InstructionTraits.EndsBlock, CpuFeatures.Syscall),
    ];

    private const uint FlatCode = 0x809B | (uint)SegmentAttributes.S;
    private const uint FlatData = 0xC093 | (uint)SegmentAttributes.S;

    // The hidden parts are fixed: base 0, limit 4 GiB; nothing is read from the tables.
    private static SegmentState Code(ulong selector, int dpl, bool wide) => new()
    {
        Limit = uint.MaxValue,
        Attributes = FlatCode | ((uint)dpl << SegmentAttributes.DplShift) | (wide ? SegmentAttributes.L : SegmentAttributes.Db),
        Selector = selector & 0xFFFF,
    };

    private static SegmentState Stack(ulong selector, int dpl) => new()
    {
        Limit = uint.MaxValue,
        Attributes = FlatData | ((uint)dpl << SegmentAttributes.DplShift),
        Selector = selector & 0xFFFF,
    };

    private static ExecResult Sysenter(Processor cpu, in Instruction ins)
    {
        CpuState* s = cpu.State;
        if (!cpu.Protected || (s->SysenterCs & 0xFFFC) == 0)
        {
            return cpu.Fault(GuestFault.Gp());
        }

        bool wide = cpu.LongMode;
        ulong selector = s->SysenterCs & 0xFFFC;
        s->Flags &= ~(RFlags.Vm | RFlags.If | RFlags.Rf);
        s->Cs = Code(selector, 0, wide);
        s->Ss = Stack(selector + 8, 0);
        cpu[Gpr.Rsp] = wide ? s->SysenterEsp : (uint)s->SysenterEsp;
        cpu.Rip = wide ? s->SysenterEip : (uint)s->SysenterEip;
        cpu.StateChanged();
        return ExecResult.Jump;
    }

    private static ExecResult Sysexit(Processor cpu, in Instruction ins)
    {
        CpuState* s = cpu.State;
        bool wide = ins.Mnemonic == Mnemonic.Sysexitq;
        if (!cpu.Protected || (s->SysenterCs & 0xFFFC) == 0 || cpu.Cpl > 0
            || (wide && (!cpu.IsCanonical(cpu[Gpr.Rcx]) || !cpu.IsCanonical(cpu[Gpr.Rdx]))))
        {
            return cpu.Fault(GuestFault.Gp());
        }

        ulong selector = (s->SysenterCs & 0xFFFC) + (wide ? 32UL : 16UL);
        cpu[Gpr.Rsp] = wide ? cpu[Gpr.Rcx] : (uint)cpu[Gpr.Rcx];
        cpu.Rip = wide ? cpu[Gpr.Rdx] : (uint)cpu[Gpr.Rdx];
        s->Cs = Code(selector | 3, 3, wide);
        s->Ss = Stack((selector + 8) | 3, 3);
        cpu.StateChanged();
        return ExecResult.Jump;
    }

    private static ExecResult Syscall(Processor cpu, in Instruction ins)
    {
        CpuState* s = cpu.State;
        if (!cpu.Code64 || (s->Efer & Efer.Sce) == 0)
        {
            return cpu.Fault(GuestFault.Ud);
        }

        ulong flags = cpu.RFlagsValue;
        ulong selector = (s->Star >> 32) & 0xFFFC;
        cpu[Gpr.Rcx] = cpu.Rip + (ulong)ins.Length;
        cpu[Gpr.R11] = flags & ~RFlags.Rf;
        cpu.RFlagsValue = flags & ~s->Fmask & ~RFlags.Rf;
        cpu.Rip = s->Lstar;
        s->Cs = Code(selector, 0, wide: true);
        s->Ss = Stack(selector + 8, 0);
        cpu.StateChanged();
        return ExecResult.Jump;
    }

    private static ExecResult Sysret(Processor cpu, in Instruction ins)
    {
        CpuState* s = cpu.State;
        if (!cpu.Code64 || (s->Efer & Efer.Sce) == 0)
        {
            return cpu.Fault(GuestFault.Ud);
        }

        bool wide = ins.Mnemonic == Mnemonic.Sysretq;
        if (cpu.Cpl > 0 || (wide && !cpu.IsCanonical(cpu[Gpr.Rcx])))
        {
            return cpu.Fault(GuestFault.Gp());
        }

        // RF and VM of R11 are cleared, reserved bits too.
        ulong selector = s->Star >> 48;
        cpu.RFlagsValue = cpu[Gpr.R11] & 0x3C_7FD7;
        cpu.Rip = wide ? cpu[Gpr.Rcx] : (uint)cpu[Gpr.Rcx];
        s->Cs = Code((wide ? selector + 16 : selector) | 3, 3, wide);
        s->Ss = Stack((selector + 8) | 3, 3);
        cpu.StateChanged();
        return ExecResult.Jump;
    }
}
