namespace VmFuzz.Cpu;

// Delivery of events through the IDT.
public sealed unsafe partial class Processor
{
    /// <summary>
    /// Delivers an event through the IDT of the current mode, with double-fault and triple-fault rules.
    /// </summary>
    /// <returns>False when it did not end in a handler: <see cref="CpuState.Stop"/> is Exit, Shutdown or Unimplemented.</returns>
    public bool DeliverEvent(in GuestEvent raised) => false;

    private bool DeliverPendingFault() => false;
}
