using VmFuzz.Devices;
using VmFuzz.Devices.Apic;

namespace VmFuzz.Machines;

/// <summary>
/// The interrupt lines of a PC's devices: each ends at the 8259A pair and at the IO APIC, line 0 there at pin 2
/// (MultiProcessor Specification, "Interrupt Assignment Entries"); lines from 16 on end at the IO APIC alone. An HPET can
/// take lines 0 and 8 over.
/// </summary>
internal sealed class IsaLines(Pic8259Pair pic, IoApic ioApic) : IInterruptSink
{
    private const int TimerPin = 2;
    private const int PicLines = 16;

    /// <summary>The event timers that may take lines over; null for none.</summary>
    public Hpet? Hpet { get; set; }

    /// <summary>Where the event timers' interrupts end, by the number of an IO APIC's pin.</summary>
    public IInterruptSink OfHpet => new PinLines(this);

    /// <inheritdoc/>
    public void SetLine(int line, bool level)
    {
        if (line is not (0 or 8) || Hpet is not { LegacyReplacement: true })
        {
            Drive(line, level);
        }
    }

    private void Drive(int line, bool level)
    {
        if (line < PicLines)
        {
            pic.SetLine(line, level);
        }

        ioApic.SetLine(line == 0 ? TimerPin : line, level);
    }

    private void DrivePin(int pin, bool level)
    {
        if (pin is TimerPin or 8)
        {
            Drive(pin == TimerPin ? 0 : pin, level);
        }
        else
        {
            ioApic.SetLine(pin, level);
        }
    }

    private sealed class PinLines(IsaLines lines) : IInterruptSink
    {
        public void SetLine(int line, bool level) => lines.DrivePin(line, level);
    }
}
