using System.Collections.Immutable;
using VmFuzz.Arch;
using VmFuzz.Fuzzing;
using VmFuzz.Machines;
using VmFuzz.Vmx;

namespace VmFuzz.Bugs.Tests;

/// <summary>The least input that a universal oracle needs: it fires with the fault and not without.</summary>
public class TriggerTests
{
    private static readonly FieldOverride[] User64 =
    [
        new(VmcsField.GuestCsSelector, 0x1B), new(VmcsField.GuestCsAccessRights, 0xA0FB),
        new(VmcsField.GuestSsSelector, 0x23), new(VmcsField.GuestSsAccessRights, 0xC0F3),
    ];

    private static readonly VmExit Mmio = new((uint)ExitReason.EptMisconfiguration, GuestPhysical: 0xD000_0000);

    private static readonly VmExit Violation = new((uint)ExitReason.EptViolation, EptViolationQualification.ReadBit, GuestPhysical: 0x5000);

    private static readonly VmExit Vmfail = new(VmExit.EntryFailureBit);

    private static readonly ImmutableArray<(string Id, string Oracle, FuzzInput Input)> Triggers =
    [
        ("CVE-2009-3290", "privilege.hypercall", Made(Exit(ExitReason.Vmcall, 3), User64)),
        ("CVE-2014-3610", "privilege.canonical", Made(Exit(ExitReason.Wrmsr, 2), [], (Gpr.Rcx, Msr.Lstar), (Gpr.Rdx, 0x8000_0000))),
        ("CVE-2018-1087", "retire.event", Made(Debug(InterruptionType.HardwareException, 3))),
        ("fd2a445a94d2", "retire.software-event", Made(Debug(InterruptionType.PrivilegedSoftwareException, 1))),
        ("b9bed78e2fa9", "guest-kill.entry-failure", Made(
            Debug(InterruptionType.HardwareException, 0, PendingDebugExceptions.Bs),
            [new(VmcsField.GuestRflags, 0x302), new(VmcsField.GuestInterruptibility, 1), new(VmcsField.GuestPendingDebug, PendingDebugExceptions.Bs)])),
        ("777ab82d7ce0", "privilege.mode", Made(Exit(ExitReason.ControlRegisterAccess, 3), [], (Gpr.Rax, 0x31))),
        ("bb663c7ada38", "retire.emulated-rf", Coded([0x89, 0xC8], Made(Mmio))),
        ("310b5d306c1a", "retire.emulated-shadow", Coded([0x89, 0xC8], Made(Mmio, [new(VmcsField.GuestRflags, 0x202), new(VmcsField.GuestInterruptibility, 1)]))),
        ("0be9c7a89f75", "liveness.nmi-unblocked", WithNmi(
            Made(Violation with { Qualification = EptViolationQualification.ReadBit | EptViolationQualification.NmiUnblockingBit }))),
        ("S75", "liveness.vectoring", Made(Violation with
        {
            IdtVectoringInfo = new InterruptionInfo(InterruptionType.PrivilegedSoftwareException, Vector.Db), InstructionLength = 1,
        })),
        ("4f350c6dbcb9", "liveness.failed-entry", Then(Vmfail, Made(Exit(ExitReason.Vmxoff, 3)))),
        ("S52", "ledger.host-vectors", Then(Vmfail, Made(
            new VmExit((uint)ExitReason.ExternalInterrupt, InterruptionInfo: new InterruptionInfo(InterruptionType.ExternalInterrupt, 0x55))))),
        ("48ae0fb49b2e", "ledger.host-vectors", Made(new VmExit(VmExit.EntryFailureBit | (uint)ExitReason.EntryFailureMachineCheck))),
        ("CVE-2009-3722", "privilege.system-registers", Made(Exit(ExitReason.MovDr, 3, 7), User64, (Gpr.Rax, 0x401))),
        ("CVE-2014-3645", "guest-kill.unknown-exit", Made(Exit(ExitReason.Invept, 5))),
        ("CVE-2014-3646", "guest-kill.unknown-exit", Made(Exit(ExitReason.Invvpid, 5))),
        ("e3c7cb6ad719", "guest-kill.unknown-exit", Made(Exit(ExitReason.Vmxoff, 3))),
        ("CVE-2016-3713", "crash.exception", Made(Exit(ExitReason.Rdmsr, 2), [], (Gpr.Rcx, 0x2F8))),
        ("6affcbedcac7", "retire.single-step", Made(Exit(ExitReason.Cpuid, 2), [new(VmcsField.GuestRflags, 0x102)])),
        ("CVE-2014-7842", "guest-kill.internal-error", Coded([0xDB, 0xE3], Made(Mmio, User64))),
        ("CVE-2014-3647", "guest-kill.entry-failure",
            Patched(FuzzLayout.Stack, [0, 0, 0, 0, 0, 0, 0, 0x80, 8], Coded([0x48, 0xCB], Made(Mmio)))),
        ("CVE-2017-2583", "guest-kill.entry-failure", Coded([0x8E, 0xD0], Made(Mmio, User64, (Gpr.Rax, 3)))),
    ];

    public static TheoryData<string> Ids() => [.. Triggers.Select(static t => t.Id)];

    [Theory]
    [MemberData(nameof(Ids))]
    public void MadeExits_WithTheFault_FireAnOracle_WithoutItNone(string id)
    {
        (_, string oracle, FuzzInput input) = Triggers.Single(t => t.Id == id);
        input.Normalise();
        using IFuzzExecutor product = FuzzTargetRow.BuiltIn.Single(static row => row.Kind == FuzzTarget.ExitHandlers).CreateExecutor();
        using IFuzzExecutor faulty = (PlantedBugs.Find(id)!.Row with { Kind = FuzzTarget.ExitHandlers }).CreateExecutor();
        Assert.Null(product.Run(input).Violation?.ToString());
        Assert.Equal(oracle, faulty.Run(input).Violation?.Oracle);
    }

    private static VmExit Exit(ExitReason reason, uint length, ulong qualification = 0) => new((uint)reason, qualification, InstructionLength: length);

    private static FuzzInput Made(VmExit exit, FieldOverride[]? fields = null, params (Gpr Register, ulong Value)[] registers)
    {
        FuzzInput input = new() { Target = FuzzTarget.ExitHandlers };
        input.Exits.Add(new MadeExit(
            exit,
            [.. registers.Select(static r => new RegisterOverride((ushort)r.Register, r.Value))],
            [.. fields ?? []]));
        return input;
    }

    private static FuzzInput Coded(byte[] code, FuzzInput input)
    {
        input.Code.AddRange(code);
        return input;
    }

    private static FuzzInput Patched(ulong address, byte[] bytes, FuzzInput input)
    {
        input.Patches.Add(new MemoryPatch(address, [.. bytes]));
        return input;
    }

    private static VmExit Debug(InterruptionType type, uint length, ulong qualification = 0) =>
        new((uint)ExitReason.ExceptionOrNmi, qualification, InterruptionInfo: new InterruptionInfo(type, Vector.Db), InstructionLength: length);

    private static FuzzInput Then(VmExit exit, FuzzInput input)
    {
        input.Exits.Add(new MadeExit(exit));
        return input;
    }

    private static FuzzInput WithNmi(FuzzInput input)
    {
        input.Events.Add(new ScheduledEvent(0, InputPoint.AfterRequests, InputKind.Nmi, 0));
        return input;
    }
}
