using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Devices.Apic;

namespace VmFuzz.Machines;

/// <summary>One of a machine's processors as its local APIC sees it, whoever is in charge.</summary>
internal sealed class ApicProcessor(Machine machine, Processor processor) : IApicProcessor
{
    public unsafe ulong ApicBase => processor.State->ApicBase;

    public ulong Tsc => machine.Kvm is { } kvm ? kvm.Vcpu.Vmx.GuestTsc : processor.Tsc;

    public void InterruptChanged() => processor.Look();

    public void Signal(ApicDelivery delivery, byte vector)
    {
        InputKind kind = delivery switch
        {
            ApicDelivery.Nmi => InputKind.Nmi,
            ApicDelivery.Smi => InputKind.Smi,
            ApicDelivery.Init => InputKind.Init,
            _ => InputKind.Sipi,
        };
        machine.Root.Apply(processor.Index, new Input(kind, vector));
    }
}
