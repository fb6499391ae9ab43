using System.Collections.Immutable;
using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Kvm;
using VmFuzz.Vmx;

namespace VmFuzz.Fuzzing;

/// <summary>Takes an exit the way hardware would, or not at all.</summary>
/// <param name="unit">The unit; in non-root operation.</param>
/// <param name="exit">The made exit.</param>
/// <returns>False when no guest can cause it in the present state.</returns>
internal delegate bool ExitTaker(VmxUnit unit, in VmExit exit);

/// <summary>
/// How an exit of one reason comes about. A made exit that hardware would not give under the present controls, at the
/// present privilege level, is left out, so that what a handler does with it is worth looking at.
/// </summary>
/// <param name="Reason">The basic exit reason.</param>
/// <param name="Shortest">Least length of the causing instruction; 0 when none causes it. Unit: bytes.</param>
/// <param name="CplZeroOnly">At CPL 1 to 3 the instruction faults before it can exit (SDM "Relative Priority of Faults and VM Exits").</param>
/// <param name="Taker">Takes it.</param>
internal sealed record ExitWay(ExitReason Reason, int Shortest, bool CplZeroOnly, ExitTaker Taker)
{
    private const int LongestInstruction = 15;
    private const int Reasons = 80;
    private const byte FirstExternalVector = 0x20;
    private const ulong EptAccess = 7;

    private static readonly ImmutableArray<ExitWay> Rows =
    [
        new(ExitReason.ExceptionOrNmi, 0, false, Exception),
        new(ExitReason.ExternalInterrupt, 0, false, ExternalInterrupt),
        new(ExitReason.TripleFault, 0, false, static (unit, in _) => Take(unit, unit.TripleFault())),
        new(ExitReason.TaskSwitch, 2, false, static (unit, in e) => Protected(unit) && Take(unit, unit.TaskSwitch(
            (ushort)e.Qualification, new TaskSwitchQualification(e.Qualification).Source, null, Length(e, 2)))),
        Plain(ExitReason.Cpuid, SensitiveInstruction.Cpuid, 2, cplZeroOnly: false),
        Plain(ExitReason.Hlt, SensitiveInstruction.Hlt, 1),
        Plain(ExitReason.Invd, SensitiveInstruction.Invd, 2),
        Plain(ExitReason.Invlpg, SensitiveInstruction.Invlpg, 3),
        Plain(ExitReason.Invpcid, SensitiveInstruction.Invpcid, 5),
        Plain(ExitReason.Rdpmc, SensitiveInstruction.Rdpmc, 2),
        Plain(ExitReason.Rdtsc, SensitiveInstruction.Rdtsc, 2, cplZeroOnly: false),
        Plain(ExitReason.Rdtscp, SensitiveInstruction.Rdtscp, 3, cplZeroOnly: false),
        Plain(ExitReason.Vmcall, SensitiveInstruction.Vmcall, 3, cplZeroOnly: false),
        VmxInstruction(ExitReason.Vmclear, SensitiveInstruction.Vmclear),
        VmxInstruction(ExitReason.Vmlaunch, SensitiveInstruction.Vmlaunch),
        VmxInstruction(ExitReason.Vmptrld, SensitiveInstruction.Vmptrld),
        VmxInstruction(ExitReason.Vmptrst, SensitiveInstruction.Vmptrst),
        VmxInstruction(ExitReason.Vmread, SensitiveInstruction.Vmread),
        VmxInstruction(ExitReason.Vmresume, SensitiveInstruction.Vmresume),
        VmxInstruction(ExitReason.Vmwrite, SensitiveInstruction.Vmwrite),
        VmxInstruction(ExitReason.Vmxoff, SensitiveInstruction.Vmxoff),
        VmxInstruction(ExitReason.Vmxon, SensitiveInstruction.Vmxon),
        VmxInstruction(ExitReason.Invept, SensitiveInstruction.Invept),
        VmxInstruction(ExitReason.Invvpid, SensitiveInstruction.Invvpid),
        new(ExitReason.ControlRegisterAccess, 2, true, ControlRegister),

        // Debug-register accesses exit before their privilege check (SDM "Relative Priority of Faults and VM Exits").
        new(ExitReason.MovDr, 3, false, static (unit, in e) =>
        {
            DebugRegisterQualification q = new(e.Qualification);
            return Take(unit, unit.MovDr(q.Register, !q.FromDr, Register(unit, q.Gpr), Length(e, 3)));
        }),
        new(ExitReason.IoInstruction, 1, true, Io),
        new(ExitReason.Rdmsr, 2, true, static (unit, in e) => Take(unit, unit.MsrAccess(Ecx(unit), write: false, Length(e, 2)))),
        new(ExitReason.Wrmsr, 2, true, static (unit, in e) => Take(unit, unit.MsrAccess(Ecx(unit), write: true, Length(e, 2)))),
        Plain(ExitReason.Mwait, SensitiveInstruction.Mwait, 3),
        Plain(ExitReason.Monitor, SensitiveInstruction.Monitor, 3),
        Plain(ExitReason.Pause, SensitiveInstruction.Pause, 2, cplZeroOnly: false),
        Plain(ExitReason.Wbinvd, SensitiveInstruction.Wbinvd, 2),
        Plain(ExitReason.Xsetbv, SensitiveInstruction.Xsetbv, 3),
        Plain(ExitReason.GdtrOrIdtrAccess, SensitiveInstruction.GdtrIdtrAccess, 3),
        Plain(ExitReason.LdtrOrTrAccess, SensitiveInstruction.LdtrTrAccess, 3),
        Plain(ExitReason.Rdrand, SensitiveInstruction.Rdrand, 3, cplZeroOnly: false),
        Plain(ExitReason.Rdseed, SensitiveInstruction.Rdseed, 3, cplZeroOnly: false),
        new(ExitReason.EptViolation, 0, false, EptViolation),
        new(ExitReason.EptMisconfiguration, 0, false, static (unit, in e) =>
            HasEpt(unit) && TakeAccess(unit, new VmExit((uint)ExitReason.EptMisconfiguration, GuestPhysical: Physical(unit, e)), e)),
    ];

    private static readonly ImmutableArray<ExitWay?> ByReason = Index();

    /// <summary>The way of a reason; null for one that is not made.</summary>
    public static ExitWay? Find(ExitReason reason) => (int)reason < Reasons ? ByReason[(int)reason] : null;

    /// <summary>Whether an exit reports a debug trap of the guest.</summary>
    public static bool IsTrap(in VmExit exit) =>
        exit.Basic == ExitReason.ExceptionOrNmi && exit.InterruptionInfo is { Type: InterruptionType.HardwareException } info && (info.Vector & 31) == Vector.Db;

    private static ImmutableArray<ExitWay?> Index()
    {
        var index = new ExitWay?[Reasons];
        foreach (ExitWay way in Rows)
        {
            index[(int)way.Reason] = way;
        }

        return [.. index];
    }

    private static ExitWay Plain(ExitReason reason, SensitiveInstruction instruction, int shortest, bool cplZeroOnly = true) =>
        new(reason, shortest, cplZeroOnly, (unit, in e) => Take(unit, unit.Instruction(instruction, Length(e, shortest), e.Qualification, e.InstructionInfo)));

    // SDM: VMX instructions are undefined outside protected mode and exit before their privilege check.
    private static ExitWay VmxInstruction(ExitReason reason, SensitiveInstruction instruction) =>
        new(reason, 3, false, (unit, in e) => Protected(unit) && Take(unit, unit.Instruction(instruction, Length(e, 3), e.Qualification, e.InstructionInfo)));

    private static bool Take(VmxUnit unit, bool exits)
    {
        if (exits)
        {
            unit.TakeNotedExit();
        }

        return exits;
    }

    // An access of an instruction faults; one of a delivery leaves the flags as they were.
    private static bool TakeAccess(VmxUnit unit, in VmExit exit, in VmExit made)
    {
        VmExit taken = InterruptedDelivery.Of(unit, exit, made);
        if (taken.IdtVectoringInfo.Valid)
        {
            unit.TakeExit(taken);
            return true;
        }

        // An IRET had unblocked NMIs before its access faulted.
        if (taken.Basic == ExitReason.EptViolation && (made.Qualification & EptViolationQualification.NmiUnblockingBit) != 0 && unit.TryUnblockNmis())
        {
            taken = taken with { Qualification = taken.Qualification | EptViolationQualification.NmiUnblockingBit };
        }

        unit.TakeFaultLikeExit(taken);
        return true;
    }

    private static bool Exception(VmxUnit unit, in VmExit exit)
    {
        InterruptionInfo info = exit.InterruptionInfo;
        if (info.Type == InterruptionType.Nmi)
        {
            return Take(unit, unit.Nmi());
        }

        byte vector = (byte)(info.Vector & 31);
        bool protectedMode = Protected(unit);
        EventType type = info.Type == InterruptionType.PrivilegedSoftwareException && vector == Vector.Db ? EventType.PrivilegedSoftwareException
            : vector is Vector.Bp or Vector.Of ? EventType.SoftwareException
            : EventType.HardwareException;
        bool software = type != EventType.HardwareException;
        bool heldBack = vector == Vector.Db && !software && (unit.Processor.Interruptibility & InterruptibilityState.BlockingByMovSs) != 0;
        if (vector == Vector.Nmi || heldBack)
        {
            return false;
        }

        bool code = Vector.HasErrorCode(vector) && protectedMode && !software;
        ulong address = vector == Vector.Db ? exit.Qualification & 0xE00F : exit.Qualification;
        GuestEvent raised = new(vector, type, code, code ? exit.InterruptionError & 0xFFFF : 0, software ? (byte)1 : (byte)0, address);
        if (!unit.Exception(raised, null))
        {
            return false;
        }

        if (software)
        {
            unit.TakeNotedExit();
            return true;
        }

        if (vector == Vector.Db)
        {
            // The exit reports them: none is pending any more.
            unit.DropPendingDebug();
        }

        // No instruction caused it, so its length is not defined.
        unit.TakeNotedExit(Math.Min(exit.InstructionLength, LongestInstruction));
        return true;
    }

    // A device of the host wants its processor.
    private static bool ExternalInterrupt(VmxUnit unit, in VmExit exit)
    {
        if (unit.Processor.Interrupts is not HostCpu host)
        {
            return false;
        }

        host.RaiseVector(Math.Max(exit.InterruptionInfo.Vector, FirstExternalVector));
        return Take(unit, unit.ExternalInterrupt(host));
    }

    private static bool ControlRegister(VmxUnit unit, in VmExit exit)
    {
        ControlRegisterQualification q = new(exit.Qualification);
        int length = Length(exit, 2);
        ulong value;
        switch (q.AccessType)
        {
            case ControlRegisterAccessType.MovToCr when q.Register is 0 or 3 or 4 or 8:
                value = Word(unit, Register(unit, q.Gpr));
                return Take(unit, unit.MovToCr(q.Register, Register(unit, q.Gpr), length, ref value));
            case ControlRegisterAccessType.MovFromCr when q.Register is 0 or 3 or 4 or 8:
                value = 0;
                return Take(unit, unit.MovFromCr(q.Register, Register(unit, q.Gpr), length, ref value));
            case ControlRegisterAccessType.Clts:
                return Take(unit, unit.Clts(length, out _));
            case ControlRegisterAccessType.Lmsw:
                value = 0;
                return Take(unit, unit.Lmsw(q.LmswSource, q.LmswMemory, exit.GuestLinear, length, ref value));
            default:
                return false;
        }
    }

    private static bool Io(VmxUnit unit, in VmExit exit)
    {
        IoQualification q = new(exit.Qualification);
        if (q.Size is not (1 or 2 or 4))
        {
            return false;
        }

        int size = unit.Processor.Code64 ? 8 : unit.Processor.Protected ? 4 : 2;
        IoAccess access = new(q.Port, q.Size, q.IsIn, q.IsString, q.IsString && q.IsRep, !q.IsString && q.IsImmediate, exit.GuestLinear, size, SegmentRegister.Ds);
        return Take(unit, unit.Io(access, Length(exit, 1)));
    }

    private static bool EptViolation(VmxUnit unit, in VmExit exit)
    {
        ulong access = exit.Qualification & EptAccess;
        if (!HasEpt(unit))
        {
            return false;
        }

        // Exactly one kind of access, nothing permitted, a linear address with its final translation.
        access = access == 0 ? EptViolationQualification.ReadBit : access & (~access + 1);
        ulong paging = (exit.Qualification >> 1) % 16 == 0 ? 0 : EptViolationQualification.FinalTranslationBit;
        return TakeAccess(
            unit,
            new VmExit(
                (uint)ExitReason.EptViolation,
                access | EptViolationQualification.LinearAddressValidBit | paging,
                exit.GuestLinear & 0x7FFF_FFFF_FFFF,
                Physical(unit, exit)),
            exit);
    }

    private static bool HasEpt(VmxUnit unit) =>
        unit.Current.Has(VmcsField.PrimaryControls, PrimaryControls.ActivateSecondaryControls)
        && unit.Current.Has(VmcsField.SecondaryControls, SecondaryControls.EnableEpt);

    private static ulong Physical(VmxUnit unit, in VmExit exit) =>
        exit.GuestPhysical & (ulong.MaxValue >> (64 - unit.Capabilities.PhysicalBits));

    private static int Length(in VmExit exit, int shortest) => Math.Clamp((int)Math.Min(exit.InstructionLength, LongestInstruction), shortest, LongestInstruction);

    private static bool Protected(VmxUnit unit) => unit.Processor.Protected;

    private static uint Ecx(VmxUnit unit) => (uint)Word(unit, Gpr.Rcx);

    private static ulong Word(VmxUnit unit, Gpr register) => unit.Processor.GetGpr(register);

    // R8 to R15 exist in 64-bit code only.
    private static Gpr Register(VmxUnit unit, Gpr gpr) => unit.Processor.Code64 ? gpr : (Gpr)((int)gpr & 7);
}
