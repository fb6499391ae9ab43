using VmFuzz.Devices;
using VmFuzz.Devices.Apic;

namespace VmFuzz.Machines;

/// <summary>
/// The interrupt lines of a PC's devices: each ends at the 8259A pair and at the IO APIC, line 0 there at pin 2
/// (MultiProcessor Specification, "Interrupt Assignment Entries").
/// </summary>
internal sealed class IsaLines(Pic8259Pair pic, IoApic ioApic) : IInterruptSink
{
    /// <inheritdoc/>
    public void SetLine(int line, bool level)
    {
        pic.SetLine(line, level);
        ioApic.SetLine(line == 0 ? 2 : line, level);
    }
}
