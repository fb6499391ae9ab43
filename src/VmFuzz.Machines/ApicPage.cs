using VmFuzz.Devices;
using VmFuzz.Devices.Apic;

namespace VmFuzz.Machines;

/// <summary>The registers of the local APICs on one bus: each processor reaches its own.</summary>
/// <param name="own">The APIC of the processor that runs.</param>
internal sealed class ApicPage(Func<LocalApic> own) : IMovableMmio
{
    public ulong? MmioStart => own().MmioStart;

    public ulong MmioLength => own().MmioLength;

    public ulong ReadMmio(ulong offset, int size) => Touched().ReadMmio(offset, size);

    public void WriteMmio(ulong offset, int size, ulong value) => Touched().WriteMmio(offset, size, value);

    private LocalApic Touched()
    {
        LocalApic apic = own();
        apic.Touch();
        return apic;
    }
}
