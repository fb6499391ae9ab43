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

    /// <summary>As <see cref="Pic8259Pair.RaiseSpurious"/>.</summary>
    public void Spurious()
    {
        pic.RaiseSpurious();
        changed();
    }
}
