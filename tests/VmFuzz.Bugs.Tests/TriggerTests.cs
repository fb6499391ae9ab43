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

    private static readonly ImmutableArray<(string Id, string Oracle, FuzzInput Input)> Triggers =
    [
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

    private static FuzzInput Narrow(FuzzInput input)
    {
        input.Mode = FlatMode.Protected32;
        return input;
    }
}
