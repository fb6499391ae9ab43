using VmFuzz.Machines;

namespace VmFuzz.Fuzzing;

/// <summary>One machine of the guest-code target with who watches it: runs an input from its start.</summary>
internal sealed class GuestRunner : IDisposable
{
    private readonly InvariantMonitor? _invariants;
    private readonly ExitMonitor? _exits;

    /// <summary>Makes a machine.</summary>
    /// <param name="options">From <see cref="FuzzLayout.Options"/>.</param>
    /// <param name="variants">Rows under test.</param>
    /// <param name="invariants">What must hold at entries and exits.</param>
    /// <param name="features">Where it counts.</param>
    public GuestRunner(MachineOptions options, MachineVariants variants, InvariantTable invariants, FeatureMap features)
    {
        Fuzz = new FuzzMachine(options, variants);
        Monitor = new RunMonitor(Fuzz.Machine, Fuzz.Source, features);
        if (Machine.UnderHypervisor)
        {
            _exits = new ExitMonitor(Machine, Fuzz.Source, features, Monitor);
            _invariants = new InvariantMonitor(Machine, invariants, _exits);
        }

        Machine.Observe(Observer);
    }

    /// <summary>Who watches the machine.</summary>
    public IMachineObserver Observer => _invariants is { } monitor ? monitor : Monitor;

    /// <summary>Id of the row whose handler runs; empty when none does. May be asked from another thread.</summary>
    public string Place => _invariants?.Place ?? "";

    public FuzzMachine Fuzz { get; }

    public Machine Machine => Fuzz.Machine;

    public RunMonitor Monitor { get; }

    /// <summary>The input whose undisturbed run the machine holds; null when it holds none.</summary>
    public FuzzInput? Held { get; set; }

    /// <summary>Resets the machine and gives it an input; it has not run yet.</summary>
    public void Load(FuzzInput input)
    {
        Held = null;
        Monitor.Begin();
        _invariants?.Begin();
        _exits?.Begin();
        Monitor.AtExit = null;
        Monitor.AtEntry = null;
        Machine.Processor.Door.Source = Fuzz.Source;
        Fuzz.Load(input);
    }

    /// <summary>Runs an input to its end.</summary>
    public MachineStop Run(FuzzInput input)
    {
        Load(input);
        MachineStop stop = Machine.Run();
        Held = input;
        return stop;
    }

    /// <summary>What the run says by itself, or null.</summary>
    public Violation? Judge()
    {
        if ((_invariants?.Broken?.Violation ?? _exits?.Stuck) is { } wrong)
        {
            return wrong;
        }

        // A failed allocation of the host is an input, nothing that the guest did.
        return Monitor.AllocationFailed ? null : GuestKill.Of(Machine);
    }

    /// <summary>Digest of everything that the run left, memory too.</summary>
    public ulong Digest() => MachineDigest.Of(Machine);

    public void Dispose() => Fuzz.Dispose();
}
