using VmFuzz.Machines;

namespace VmFuzz.Fuzzing;

/// <summary>One machine of an executor, with its door: loads an input after a reset, runs it.</summary>
internal sealed class FuzzMachine : IDisposable
{
    // Programs are short and new, and an executor has many machines. Unit: MiB.
    private const int CodeCache = 8;

    // What lies behind an exit is often not executed.
    private const int Block = 16;

    /// <summary>Makes a machine.</summary>
    /// <param name="options">From <see cref="FuzzLayout.Options"/>.</param>
    /// <param name="variants">Rows under test.</param>
    public FuzzMachine(MachineOptions options, MachineVariants variants)
    {
        Source = new FuzzSource();
        Action<Machine>? prepare = variants.Prepare;
        Machine = Machine.Create(options, Source, variants with
        {
            Prepare = machine =>
            {
                FuzzLayout.Prepare(machine);
                prepare?.Invoke(machine);
            },
        });
        Machine.Processor.CodeCacheLimit = CodeCache;
        Machine.Processor.BlockLimit = Block;
        Machine.Processor.RegionThreshold = 0; // Inputs are short: what would be compiled is over.
    }

    public FuzzSource Source { get; }

    public Machine Machine { get; }

    /// <summary>Resets the machine and gives it the start state of an input.</summary>
    public void Load(FuzzInput input)
    {
        Source.Load(input);
        Machine.Reset();
        FuzzStart.Apply(Machine, input);
    }

    public void Dispose() => Machine.Dispose();
}
