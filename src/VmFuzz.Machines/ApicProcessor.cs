using VmFuzz.Arch;
using VmFuzz.Devices.Apic;

namespace VmFuzz.Machines;

/// <summary>A machine's processor as its local APIC sees it, whoever is in charge.</summary>
internal sealed class ApicProcessor(Machine machine) : IApicProcessor
{
    public unsafe ulong ApicBase => machine.Processor.State->ApicBase;

    public ulong Tsc => machine.Kvm is { } kvm ? kvm.Vcpu.Vmx.GuestTsc : machine.Processor.Tsc;

    public void InterruptChanged() => machine.Processor.Look();

    public void Signal(ApicDelivery delivery, byte vector)
    {
        InputKind kind = delivery switch
        {
            ApicDelivery.Nmi => InputKind.Nmi,
            ApicDelivery.Smi => InputKind.Smi,
            ApicDelivery.Init => InputKind.Init,
            _ => InputKind.Sipi,
        };
        machine.Root.Apply(new Input(kind, vector));
    }
}
