using System.Collections.Immutable;
using VmFuzz.Arch;
using VmFuzz.Replay;
using VmFuzz.Vmx;

namespace VmFuzz.Fuzzing;

/// <summary>How an exit of one reason looks when hardware makes it (SDM "Information for VM Exits").</summary>
/// <param name="Reason">The reason.</param>
/// <param name="Make">A plausible one.</param>
internal sealed record ExitTemplate(ExitReason Reason, Func<SplitMix, MadeExit> Make)
{
    private static readonly ImmutableArray<byte> Exceptions = [0, 1, 5, 6, 7, 8, 10, 11, 12, 13, 14, 16, 17, 18, 19, 20, 21];
    private static readonly ImmutableArray<ulong> ControlRegisters = [0, 3, 4, 8];
    private static readonly ImmutableArray<ulong> IoSizes = [0, 0, 1, 3];
    private static readonly ImmutableArray<ulong> Leaves =
        [0, 1, 2, 4, 6, 7, 0xA, 0xB, 0xD, 0x14, 0x4000_0000, 0x4000_0001, 0x8000_0000, 0x8000_0001, 0x8000_0008];

    /// <summary>Reasons that carry more than a length; the others are plain.</summary>
    public static readonly ImmutableArray<ExitTemplate> All =
    [
        new(ExitReason.ExceptionOrNmi, Exception),
        new(ExitReason.ExternalInterrupt, static r => new(new VmExit((uint)ExitReason.ExternalInterrupt,
            InterruptionInfo: new InterruptionInfo(InterruptionType.ExternalInterrupt, (byte)(0x20 + r.Below(0xE0)))))),
        new(ExitReason.TaskSwitch, static r => Plain(ExitReason.TaskSwitch, r, (r.Next() & 0xFFF8) | ((r.Next() & 3) << 30))),
        new(ExitReason.Cpuid, static r => WithRegisters(Plain(ExitReason.Cpuid, r),
            (Gpr.Rax, r.Below(4) == 0 ? Words.Any(r) : Leaf(r)), (Gpr.Rcx, r.Below(8)))),
        new(ExitReason.Invlpg, static r => Plain(ExitReason.Invlpg, r, Words.Any(r))),
        new(ExitReason.Vmcall, static r => WithRegisters(Plain(ExitReason.Vmcall, r), (Gpr.Rax, r.Below(16)), (Gpr.Rbx, Words.Any(r)), (Gpr.Rcx, Words.Any(r)))),
        new(ExitReason.ControlRegisterAccess, ControlRegister),
        new(ExitReason.MovDr, static r => WithSource(Plain(ExitReason.MovDr, r, (r.Next() & 7) | (r.Next() & 0x10) | ((r.Next() & 0xF) << 8)), r)),
        new(ExitReason.IoInstruction, Io),
        new(ExitReason.Rdmsr, static r => WithRegisters(Plain(ExitReason.Rdmsr, r), (Gpr.Rcx, Msr(r)))),
        new(ExitReason.Wrmsr, static r => WithRegisters(Plain(ExitReason.Wrmsr, r),
            (Gpr.Rcx, Msr(r)), (Gpr.Rax, Words.Any(r)), (Gpr.Rdx, r.Below(2) == 0 ? 0UL : Words.Any(r)))),
        new(ExitReason.EntryFailureInvalidGuestState, static r => new(new VmExit(VmExit.EntryFailureBit | (uint)ExitReason.EntryFailureInvalidGuestState, r.Below(5)))),
        new(ExitReason.EntryFailureMsrLoading, static r => new(new VmExit(VmExit.EntryFailureBit | (uint)ExitReason.EntryFailureMsrLoading, 1 + r.Below(4)))),
        new(ExitReason.EntryFailureMachineCheck, static _ => new(new VmExit(VmExit.EntryFailureBit | (uint)ExitReason.EntryFailureMachineCheck))),
        new(ExitReason.ApicAccess, static r => Plain(ExitReason.ApicAccess, r, (r.Next() & 0xFF0) | (r.Below(5) << 12))),
        new(ExitReason.ApicWrite, static r => Plain(ExitReason.ApicWrite, r, r.Next() & 0xFF0)),
        new(ExitReason.VirtualizedEoi, static r => Plain(ExitReason.VirtualizedEoi, r, r.Next() & 0xFF)),
        new(ExitReason.GdtrOrIdtrAccess, WithOperand(ExitReason.GdtrOrIdtrAccess)),
        new(ExitReason.LdtrOrTrAccess, WithOperand(ExitReason.LdtrOrTrAccess)),
        new(ExitReason.EptViolation, Violation),
        new(ExitReason.EptMisconfiguration, static r => new(new VmExit((uint)ExitReason.EptMisconfiguration, GuestPhysical: Physical(r)))),
        new(ExitReason.Invept, WithOperand(ExitReason.Invept)),
        new(ExitReason.Invvpid, WithOperand(ExitReason.Invvpid)),
        new(ExitReason.Invpcid, WithOperand(ExitReason.Invpcid)),
        new(ExitReason.Vmclear, WithOperand(ExitReason.Vmclear)),
        new(ExitReason.Vmptrld, WithOperand(ExitReason.Vmptrld)),
        new(ExitReason.Vmptrst, WithOperand(ExitReason.Vmptrst)),
        new(ExitReason.Vmread, WithOperand(ExitReason.Vmread)),
        new(ExitReason.Vmwrite, WithOperand(ExitReason.Vmwrite)),
        new(ExitReason.Vmxon, WithOperand(ExitReason.Vmxon)),
        new(ExitReason.Xsetbv, static r => WithRegisters(Plain(ExitReason.Xsetbv, r),
            (Gpr.Rcx, r.Below(2)), (Gpr.Rax, Words.Pick(r, FuzzTables.Boundaries)), (Gpr.Rdx, 0UL))),
    ];

    /// <summary>A plausible exit of some reason; now and then it interrupted the delivery of an event.</summary>
    public static MadeExit Of(ExitReason reason, SplitMix random)
    {
        MadeExit made = Plain(reason, random);
        foreach (ExitTemplate template in All)
        {
            if (template.Reason == reason)
            {
                made = template.Make(random);
                break;
            }
        }

        return random.Below(8) != 0 ? made : made with
        {
            Exit = made.Exit with { IdtVectoringInfo = Event(random, out uint code), IdtVectoringError = code },
        };
    }

    /// <summary>An event as interruption information has it.</summary>
    public static InterruptionInfo Event(SplitMix random, out uint errorCode)
    {
        errorCode = 0;
        switch (random.Below(8))
        {
            case 0:
                return new InterruptionInfo(InterruptionType.ExternalInterrupt, (byte)(0x20 + random.Below(0xE0)));
            case 1:
                return new InterruptionInfo(InterruptionType.SoftwareInterrupt, (byte)random.Next());
            case 2:
                return new InterruptionInfo(InterruptionType.SoftwareException, (byte)(Vector.Bp + random.Below(2)));
            case 3:
                return new InterruptionInfo(InterruptionType.PrivilegedSoftwareException, Vector.Db);
            case 4:
                return new InterruptionInfo(InterruptionType.Nmi, Vector.Nmi);
            default:
                byte vector = Words.Pick(random, Exceptions);
                bool code = Vector.HasErrorCode(vector);
                errorCode = code ? (uint)random.Next() & 0xFFFF : 0;
                return new InterruptionInfo(InterruptionType.HardwareException, vector, code);
        }
    }

    private static MadeExit Plain(ExitReason reason, SplitMix random, ulong qualification = 0) =>
        new(new VmExit((uint)reason, qualification, InstructionLength: 2 + (uint)random.Below(2)));

    private static MadeExit Exception(SplitMix random)
    {
        InterruptionInfo info = Event(random, out uint code);
        ulong qualification = info.Vector switch
        {
            Vector.Pf => Words.Any(random),
            Vector.Db => random.Next() & 0x1_E00F,
            _ => 0,
        };
        return new(new VmExit(
            (uint)ExitReason.ExceptionOrNmi,
            qualification,
            InterruptionInfo: info,
            InterruptionError: code,
            InstructionLength: (uint)random.Below(4)));
    }

    private static MadeExit ControlRegister(SplitMix random)
    {
        ulong register = Words.Pick(random, ControlRegisters);
        ulong qualification = register | (random.Below(4) << 4) | (random.Next() & 0xF00) | (random.Below(8) == 0 ? random.Next() & 0xFFFF_0040 : 0);
        return WithSource(Plain(ExitReason.ControlRegisterAccess, random, qualification), random);
    }

    private static MadeExit Io(SplitMix random)
    {
        ulong size = Words.Pick(random, IoSizes);
        ulong qualification = size | (random.Next() & 8) | (random.Below(4) == 0 ? random.Next() & 0x30 : 0)
            | (random.Next() & 0x40) | ((ulong)Words.Pick(random, FuzzTables.Ports) << 16);
        MadeExit made = Plain(ExitReason.IoInstruction, random, qualification);
        made = made with { Exit = made.Exit with { InstructionInfo = (uint)random.Next() & 0x0003_8380 } };
        return WithRegisters(made, (Gpr.Rax, Words.Any(random)), (Gpr.Rcx, random.Below(5)), (Gpr.Rsi, random.Next() & 0xFFFF), (Gpr.Rdi, random.Next() & 0xFFFF));
    }

    private static MadeExit Violation(SplitMix random)
    {
        ulong physical = Physical(random);
        return new(new VmExit(
            (uint)ExitReason.EptViolation,
            (1UL << (int)random.Below(3)) | (random.Next() & 0x1FF8),
            physical,
            physical,
            InstructionLength: (uint)random.Below(8)));
    }

    private static Func<SplitMix, MadeExit> WithOperand(ExitReason reason) => random =>
    {
        MadeExit made = Plain(reason, random, Words.Any(random));
        return WithRegister(made with { Exit = made.Exit with { InstructionInfo = (uint)random.Next() } }, random);
    };

    private static ulong Physical(SplitMix random) => random.Below(4) switch
    {
        0 => 0xFEE0_0000 + (random.Next() & 0xFFF),
        1 => 0xFEC0_0000 + (random.Next() & 0x1F),
        2 => random.Next() & 0xFF_FFFF,
        _ => Words.Any(random) & 0x3FFF_FFFF_FFFF,
    };

    private static ulong Leaf(SplitMix random) => Words.Pick(random, Leaves);

    private static ulong Msr(SplitMix random) => random.Below(8) == 0 ? Words.Any(random) : Words.Pick(random, FuzzTables.Msrs);

    // Bits 11:8 of the qualification name the register with the operand.
    private static MadeExit WithSource(MadeExit made, SplitMix random) =>
        made with { Registers = [new((ushort)((made.Exit.Qualification >> 8) & 0xF), Words.Any(random))] };

    private static MadeExit WithRegister(MadeExit made, SplitMix random) =>
        made with { Registers = [new((ushort)random.Below(16), Words.Any(random))] };

    private static MadeExit WithRegisters(MadeExit made, params ReadOnlySpan<(Gpr Register, ulong Value)> registers)
    {
        var built = ImmutableArray.CreateBuilder<RegisterOverride>(registers.Length);
        foreach ((Gpr register, ulong value) in registers)
        {
            built.Add(new RegisterOverride((ushort)register, value));
        }

        return made with { Registers = built.MoveToImmutable() };
    }
}
