using VmFuzz.Arch;
using VmFuzz.Kvm;
using VmFuzz.Machines;

namespace VmFuzz.Fuzzing;

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

    // What the kernel does by design: an instruction at CPL 0 that the emulator does not know goes to userspace
    // (handle_emulation_failure), and so does an event whose delivery needs MMIO (vmx_handle_exit). The model's own gaps
    // say so and are no finding.
    private static bool IsAllowed(Vcpu vcpu) => vcpu.KvmRun.InternalError switch
    {
        KvmInternalError.Emulation => vcpu.Vmx.Cpl == 0 || vcpu.Vmx.Exit.Basic == ExitReason.TaskSwitch,
        KvmInternalError.DeliveryEvent => vcpu.Vmx.Exit.Basic is ExitReason.EptViolation or ExitReason.EptMisconfiguration,
        KvmInternalError.UnexpectedExitReason => vcpu.Processor.UnimplementedText.Length != 0,
        _ => false,
    };
}
