using System.Collections.Immutable;
using VmFuzz.Arch;
using VmFuzz.Fuzzing;
using VmFuzz.Kvm;
using VmFuzz.Vmx;

namespace VmFuzz.Bugs.Planted;

/// <summary>Exit handlers: checks of privilege and mode, exits without a handler, MSRs.</summary>
internal static class HandlerBugs
{
    private const string Cves = "cve.org/CVERecord?id=";
    private const string Commits = "git.kernel.org/torvalds/c/";

    private static readonly ImmutableArray<ExitReason> VmxInstructions =
    [
        ExitReason.Vmclear, ExitReason.Vmlaunch, ExitReason.Vmptrld, ExitReason.Vmptrst, ExitReason.Vmread,
        ExitReason.Vmresume, ExitReason.Vmwrite, ExitReason.Vmxoff, ExitReason.Vmxon,
    ];

    public static readonly ImmutableArray<PlantedBug> Rows =
    [
        new("CVE-2009-3722", "MOV to and from debug registers without a look at CPL",
            "The exit handler of debug-register accesses went on at any privilege level, although that exit comes before the processor's own check: programs in a guest could reach the debug registers.",
            Cves + "CVE-2009-3722", FuzzTarget.ExitHandlers, 1,
            static o => o with { Rules = o.Rules.Without("mov-dr.privilege") }),
        new("CVE-2009-3290", "hypercalls from any CPL",
            "Hypercalls were carried out whatever ring the caller was in, so that a program could have the hypervisor act on the guest kernel's memory. Since the repair only ring 0 may call.",
            Commits + "07708c4af1346", FuzzTarget.ExitHandlers, 1,
            static o => o with { Rules = o.Rules.Without("vmcall.privilege") }),
        new("CVE-2014-3610", "WRMSR takes non-canonical addresses",
            "Addresses written to the MSRs of SYSCALL, SYSENTER and the segment bases were not checked, and loading them into the processor later faulted in the host.",
            Commits + "854e8bb1aa06c", FuzzTarget.ExitHandlers, 2,
            static o => o with { Msrs = static inner => new UncheckedAddressMsrs(inner) }),
        new("CVE-2014-3645", "INVEPT exits without a handler",
            "INVEPT always exits, at any privilege level, and there was no handler: the unknown exit went to userspace, which ends the VM.",
            Cves + "CVE-2014-3645", FuzzTarget.GuestCode, 1,
            static o => o with { Exits = o.Exits.Without(ExitReason.Invept) }),
        new("CVE-2014-3646", "INVVPID exits without a handler",
            "INVVPID exits on processors that have it, and there was no handler: the unknown exit went to userspace, which ends the VM.",
            Commits + "a642fc305053c", FuzzTarget.GuestCode, 1,
            static o => o with { Exits = o.Exits.Without(ExitReason.Invvpid) }),
        new("e3c7cb6ad719", "VMX instructions of a guest without handlers",
            "A guest that used VMX instructions crashed instead of being told by #UD that it has none; its programs could do that too.",
            Commits + "e3c7cb6ad7191", FuzzTarget.GuestCode, 1,
            static o => o with { Exits = VmxInstructions.Aggregate(o.Exits, static (table, reason) => table.Without(reason)) }),
        new("CVE-2016-3713", "MSR 0x2F8 outside the array of variable MTRRs",
            "The list of MTRRs had an extra number, 0x2F8, which the access then took for a variable range and used as an index far behind the array.",
            Cves + "CVE-2016-3713", FuzzTarget.ExitHandlers, 1,
            static o => o with { Msrs = static inner => new ExtraMtrr(inner) }),
        new("CVE-2018-1087", "INT1 guessed from an empty exit qualification",
            "An intercepted #DB whose qualification says nothing was taken for an INT1, and an instruction was skipped by whatever length the exit field held; a #DB put off by MOV SS can look like that.",
            Cves + "CVE-2018-1087", FuzzTarget.ExitHandlers, 1,
            static o => o with { Exits = o.Exits.With(ExitReason.ExceptionOrNmi, GuessInt1) }),
        new("fd2a445a94d2", "INT1 returns to itself",
            "After an intercepted INT1 the handler of #DB got the address of the instruction itself instead of the one behind it.",
            Commits + "fd2a445a94d2a", FuzzTarget.ExitHandlers, 1,
            static o => o with { Exits = o.Exits.With(ExitReason.ExceptionOrNmi, RepeatInt1) }),
        new("b9bed78e2fa9", "single step under a shadow: no further entry",
            "After an intercepted single-step #DB right behind STI or MOV SS the field of pending debug exceptions lacked its single-step bit, which an entry demands there: the next entry failed.",
            Commits + "b9bed78e2fa95", FuzzTarget.ExitHandlers, 2,
            static o => o with { Rules = o.Rules.Without("debug.step-under-shadow") }),
        new("777ab82d7ce0", "64-bit code switches paging off",
            "MOV to CR0 let a guest clear PG in 64-bit mode, which the processor answers with #GP.",
            Commits + "777ab82d7ce04", FuzzTarget.ExitHandlers, 1,
            static o => o with { Rules = o.Rules.Without("mov-cr0.paging-in-64-bit") }),
    ];

    private static ExitOutcome Correct(Vcpu vcpu, in VmExit exit) =>
        ExitTable.Default.Find((ushort)ExitReason.ExceptionOrNmi)!.Handler(vcpu, exit);

    private static ExitOutcome GuessInt1(Vcpu vcpu, in VmExit exit)
    {
        const ulong Causes = 0x600F;
        InterruptionInfo info = exit.InterruptionInfo;
        bool plain = info.Vector == Vector.Db && info.Type == InterruptionType.HardwareException
            && !exit.IdtVectoringInfo.Valid && vcpu.GuestDebug == GuestDebug.None;
        if (plain && (exit.Qualification & Causes) == 0)
        {
            vcpu.Retire(exit.InstructionLength);
        }

        return Correct(vcpu, exit);
    }

    private static ExitOutcome RepeatInt1(Vcpu vcpu, in VmExit exit)
    {
        InterruptionInfo info = exit.InterruptionInfo;
        return info.Type == InterruptionType.PrivilegedSoftwareException && !exit.IdtVectoringInfo.Valid
            ? Correct(vcpu, exit with { InterruptionInfo = new InterruptionInfo(InterruptionType.HardwareException, info.Vector) })
            : Correct(vcpu, exit);
    }
}
