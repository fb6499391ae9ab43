using System.Collections.Immutable;
using VmFuzz.Arch;
using VmFuzz.Kvm;
using VmFuzz.Machines;

namespace VmFuzz.Fuzzing;

/// <summary>A way in which a hypervisor gives a guest up by design.</summary>
/// <param name="Id">Unique id.</param>
/// <param name="Reason">Why it is no finding.</param>
/// <param name="Holds">Whether the present end of a VCPU is of this kind.</param>
internal sealed record GuestKillRow(string Id, string Reason, Func<Vcpu, bool> Holds);

/// <summary>Ends of a VM that a guest alone must not bring about, and those that it may, by design.</summary>
internal static class GuestKill
{
    /// <summary>Passes without progress.</summary>
    public const string NoProgress = "guest-kill.no-progress";

    /// <summary>Judges the end of a run.</summary>
    /// <param name="machine">The machine; under the hypervisor.</param>
    /// <returns>The violation, or null when the guest may end this way.</returns>
    public static Violation? Of(Machine machine)
    {
        if (machine.Stop.Kind != MachineStopKind.HypervisorError)
        {
            return null;
        }

        KvmAccelerator kvm = machine.Kvm!;
        if (kvm.Errno != 0)
        {
            // An allocation of the host that fails is not the guest's doing.
            return kvm.Errno == Errno.ENOMEM ? null : new Violation("guest-kill.errno", $"{kvm.Errno}", machine.Stop.Text);
        }

        KvmRun run = kvm.Vcpu.KvmRun;
        string reason = kvm.Vcpu.Vmx.Exit.Basic.ToString();
        return run.ExitReason switch
        {
            KvmExitReason.FailEntry => new Violation("guest-kill.entry-failure", kvm.Vmx.FailedCheck, machine.Stop.Text),
            KvmExitReason.InternalError when IsAllowed(kvm.Vcpu) => null,
            KvmExitReason.InternalError => new Violation("guest-kill.internal-error", $"{run.InternalError}:{reason}", machine.Stop.Text),
            KvmExitReason.Unknown => new Violation("guest-kill.unknown-exit", reason, machine.Stop.Text),
            _ => new Violation("guest-kill.userspace", $"{run.ExitReason}:{reason}", machine.Stop.Text),
        };
    }

    /// <summary>What a guest may bring about by design.</summary>
    public static readonly ImmutableArray<GuestKillRow> Allowed =
    [
        new("emulation.cpl0", "an instruction that the emulator does not know goes to userspace when the guest's kernel executes it; at other levels the guest gets #UD (handle_emulation_failure)",
            static v => Internal(v, KvmInternalError.Emulation) && v.Vmx.Cpl == 0 && v.Vmx.Exit.Basic != ExitReason.TaskSwitch),
        new("emulation.task-switch", "a gap of this model: task switches are not emulated yet, and say so",
            static v => Internal(v, KvmInternalError.Emulation) && v.Vmx.Exit.Basic == ExitReason.TaskSwitch),
        new("delivery.mmio", "an event whose delivery needs MMIO goes to userspace; only the guest's kernel can arrange that (vmx_handle_exit)",
            static v => Internal(v, KvmInternalError.DeliveryEvent) && v.Vmx.Exit.Basic is ExitReason.EptViolation or ExitReason.EptMisconfiguration),
        new("delivery.alignment", "an alignment check on the way of another event, on a stack that belongs to CPL 3, goes to userspace; only the guest's kernel can arrange that (handle_exception)",
            static v => Internal(v, KvmInternalError.SimultaneousExceptions) && v.Vmx.Exit.InterruptionInfo.Vector == Vector.Ac),
        new("model.gap", "the model does not know what the guest needs, and says so",
            static v => Internal(v, KvmInternalError.UnexpectedExitReason) && v.Processor.UnimplementedText.Length != 0),
    ];

    private static bool IsAllowed(Vcpu vcpu)
    {
        foreach (GuestKillRow row in Allowed)
        {
            if (row.Holds(vcpu))
            {
                return true;
            }
        }

        return false;
    }

    private static bool Internal(Vcpu vcpu, KvmInternalError error) =>
        vcpu.KvmRun.ExitReason == KvmExitReason.InternalError && vcpu.KvmRun.InternalError == error;
}
