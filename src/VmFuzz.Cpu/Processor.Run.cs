namespace VmFuzz.Cpu;

// The dispatcher.
public sealed unsafe partial class Processor
{
    /// <summary>Runs until something stops the processor.</summary>
    public CpuStop Run() => CpuStop.Requested;
}
