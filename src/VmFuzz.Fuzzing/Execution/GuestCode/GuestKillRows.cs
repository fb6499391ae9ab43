using System.Collections.Immutable;
using VmFuzz.Arch;
using VmFuzz.Kvm;
using VmFuzz.Machines;

namespace VmFuzz.Fuzzing;

/// <summary>A way in which a hypervisor gives a guest up by design.</summary>
/// <param name="Id">Unique id.</param>
/// <param name="Reason">Why it is no finding.</param>
/// <param name="Holds">Whether a stop is of this kind.</param>
internal sealed record GuestKillRow(string Id, string Reason, Func<Vcpu, RunMonitor, bool> Holds);

/// <summary>Which stops with an error are no finding; every other one is.</summary>
internal static class GuestKillRows
{
    public static readonly ImmutableArray<GuestKillRow> Allowed =
    [
        new("emulation.cpl0", "KVM gives an instruction up that its emulator does not know, when the guest's kernel executes it; at other levels the guest gets #UD",
            static (v, _) => Internal(v, KvmInternalError.Emulation) && v.Vmx.Cpl == 0 && !TaskSwitch(v)),
        new("task-switch", "a gap of this model: task switches are not emulated yet, and say so",
            static (v, _) => Internal(v, KvmInternalError.Emulation) && TaskSwitch(v)),
        new("delivery.mmio", "an event is delivered through memory that is not there, which only the guest's kernel can arrange; KVM reports it",
            static (v, _) => Internal(v, KvmInternalError.DeliveryEvent)),
        new("host.no-memory", "an allocation of the host failed: an input, nothing that the guest did",
            static (_, m) => m.AllocationFailed),
        new("debug", "userspace asked for the guest's debug events",
            static (v, _) => v.KvmRun.ExitReason == KvmExitReason.Debug && v.GuestDebug != GuestDebug.None),
    ];

    /// <summary>What a stop of a kvm machine says about the hypervisor, or null.</summary>
    public static Violation? Judge(Machine machine, RunMonitor monitor)
    {
        if (machine.Stop.Kind != MachineStopKind.HypervisorError || machine.Kvm is not { } kvm)
        {
            return null;
        }

        Vcpu vcpu = kvm.Vcpu;
        foreach (GuestKillRow row in Allowed)
        {
            if (row.Holds(vcpu, monitor))
            {
                return null;
            }
        }

        return new Violation("guest-kill.error", Place(kvm, vcpu), machine.Stop.Text);
    }

    private static string Place(KvmAccelerator kvm, Vcpu vcpu) => vcpu.KvmRun.ExitReason switch
    {
        KvmExitReason.FailEntry => "entry:" + (kvm.Vmx.FailedCheck.Length != 0 ? kvm.Vmx.FailedCheck : $"0x{vcpu.KvmRun.HardwareReason:x}"),
        KvmExitReason.InternalError => $"internal:{vcpu.KvmRun.InternalError}:{kvm.Vmx.LastExit.Basic}",
        _ => $"{vcpu.KvmRun.ExitReason}:{kvm.Vmx.LastExit.Basic}",
    };

    private static bool Internal(Vcpu vcpu, KvmInternalError error) =>
        vcpu.KvmRun.ExitReason == KvmExitReason.InternalError && vcpu.KvmRun.InternalError == error;

    private static bool TaskSwitch(Vcpu vcpu) => vcpu.Vmx.Exit.Basic == ExitReason.TaskSwitch;
}
