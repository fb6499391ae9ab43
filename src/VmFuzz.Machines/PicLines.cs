using VmFuzz.Devices;

namespace VmFuzz.Machines;

/// <summary>Drives the inputs of a PC's interrupt controllers and lets the processor look.</summary>
internal sealed class PicLines(Pic8259Pair pic, Action changed) : IInterruptSink
{
    public void SetLine(int line, bool level)
    {
        pic.SetLine(line, level);
        changed();
    }

    /// <summary>A line that falls before the processor acknowledges: the controllers answer with their spurious vector.</summary>
    public void Spurious()
    {
        pic.SetLine(7, true);
        pic.SetLine(7, false);
        changed();
    }
}
