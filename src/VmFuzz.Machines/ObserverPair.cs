using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Kvm;
using VmFuzz.Vmx;

namespace VmFuzz.Machines;

/// <summary>Two observers of one machine.</summary>
/// <param name="first">Is told first.</param>
/// <param name="second">Is told second.</param>
public sealed class ObserverPair(IMachineObserver first, IMachineObserver second) : IMachineObserver
{
    /// <inheritdoc/>
    public void OnInput(InputPoint point, in Position at, in Input input)
    {
        first.OnInput(point, at, input);
        second.OnInput(point, at, input);
    }

    /// <inheritdoc/>
    public void OnDelivered(in GuestEvent delivered, ulong returnRip)
    {
        first.OnDelivered(delivered, returnRip);
        second.OnDelivered(delivered, returnRip);
    }

    /// <inheritdoc/>
    public void OnEntry(Vcpu vcpu, in EntryRecord entry)
    {
        first.OnEntry(vcpu, entry);
        second.OnEntry(vcpu, entry);
    }

    /// <inheritdoc/>
    public void OnExit(Vcpu vcpu, in VmExit exit, ulong rip)
    {
        first.OnExit(vcpu, exit, rip);
        second.OnExit(vcpu, exit, rip);
    }

    /// <inheritdoc/>
    public void OnHandling(Vcpu vcpu, ExitRow row, in VmExit exit)
    {
        first.OnHandling(vcpu, row, exit);
        second.OnHandling(vcpu, row, exit);
    }

    /// <inheritdoc/>
    public void OnHandled(Vcpu vcpu, ExitRow row, in VmExit exit, ExitOutcome outcome)
    {
        first.OnHandled(vcpu, row, exit, outcome);
        second.OnHandled(vcpu, row, exit, outcome);
    }

    /// <inheritdoc/>
    public void OnInjected(Vcpu vcpu, InterruptionInfo info, uint errorCode, bool again)
    {
        first.OnInjected(vcpu, info, errorCode, again);
        second.OnInjected(vcpu, info, errorCode, again);
    }

    /// <inheritdoc/>
    public void OnUserspaceExit(Vcpu vcpu, KvmExitReason reason, int result)
    {
        first.OnUserspaceExit(vcpu, reason, result);
        second.OnUserspaceExit(vcpu, reason, result);
    }

    /// <inheritdoc/>
    public void OnRequest(Vcpu vcpu, Request request, bool served)
    {
        first.OnRequest(vcpu, request, served);
        second.OnRequest(vcpu, request, served);
    }

    /// <inheritdoc/>
    public void OnConsole(byte value)
    {
        first.OnConsole(value);
        second.OnConsole(value);
    }

    /// <inheritdoc/>
    public void OnFirstAccess(bool isPort, ulong address, bool write)
    {
        first.OnFirstAccess(isPort, address, write);
        second.OnFirstAccess(isPort, address, write);
    }

    /// <inheritdoc/>
    public void OnSync()
    {
        first.OnSync();
        second.OnSync();
    }

    /// <inheritdoc/>
    public void OnEnd(in MachineStop stop)
    {
        first.OnEnd(stop);
        second.OnEnd(stop);
    }
}
