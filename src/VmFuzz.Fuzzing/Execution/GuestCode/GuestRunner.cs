using VmFuzz.Machines;

namespace VmFuzz.Fuzzing;

/// <summary>One machine of the guest-code target with who watches it: runs an input from its start.</summary>
internal sealed class GuestRunner : IDisposable
{
    public GuestRunner(MachineOptions options, MachineVariants variants)
        : this(new FuzzMachine(options, variants))
    {
    }

    private GuestRunner(FuzzMachine fuzz)
    {
        Fuzz = fuzz;
        Monitor = new RunMonitor(Fuzz.Machine, Fuzz.Source);
        Fuzz.Machine.Observe(Monitor);
    }

    public FuzzMachine Fuzz { get; }

    public Machine Machine => Fuzz.Machine;

    public RunMonitor Monitor { get; }

    /// <summary>Resets the machine and gives it an input; it has not run yet.</summary>
    public void Load(FuzzInput input)
    {
        Monitor.Begin();
        Monitor.AtExit = null;
        Monitor.AtEntry = null;
        Machine.Processor.Door.Source = Fuzz.Source;
        Fuzz.Load(input);
    }

    /// <summary>Runs an input to its end.</summary>
    public MachineStop Run(FuzzInput input)
    {
        Load(input);
        return Machine.Run();
    }

    /// <summary>What the run says by itself, or null.</summary>
    public Violation? Judge()
    {
        if (Monitor.Stuck is { } stuck)
        {
            return new Violation("guest-kill.no-progress", stuck, $"{RunMonitor.MostStuck} exits in a row ({stuck}) at RIP 0x{Machine.Processor.Rip:x} retired and delivered nothing");
        }

        return GuestKillRows.Judge(Machine, Monitor);
    }

    /// <summary>Digest of everything that the run left, memory too.</summary>
    public ulong Digest() => MachineDigest.Of(Machine);

    public void Dispose() => Fuzz.Dispose();
}
