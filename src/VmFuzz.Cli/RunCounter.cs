using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Kvm;
using VmFuzz.Machines;
using VmFuzz.Replay;
using VmFuzz.Vmx;

namespace VmFuzz.Cli;

/// <summary>Counts what happens in a run that is not recorded.</summary>
internal sealed class RunCounter : IMachineObserver
{
    public RunCounts Counts { get; } = new();

    public void OnInput(InputPoint point, in Position at, in Input input) => Counts.Inputs++;

    public void OnDelivered(in GuestEvent delivered, ulong returnRip) => Counts.Delivered++;

    public void OnEntry(Vcpu vcpu, in EntryRecord entry) => Counts.Entries++;

    public void OnExit(Vcpu vcpu, in VmExit exit, ulong rip) => Counts.Exits++;

    public void OnInjected(Vcpu vcpu, InterruptionInfo info, uint errorCode, bool again) => Counts.Injected++;

    public void OnUserspaceExit(Vcpu vcpu, KvmExitReason reason, int result)
    {
    }

    public void OnRequest(Vcpu vcpu, Request request, bool served)
    {
    }

    public void OnConsole(byte value)
    {
    }

    public void OnFirstAccess(bool isPort, ulong address, bool write)
    {
    }

    public void OnSync()
    {
    }

    public void OnEnd(in MachineStop stop)
    {
    }
}
