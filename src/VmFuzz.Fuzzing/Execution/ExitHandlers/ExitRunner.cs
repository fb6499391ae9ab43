using VmFuzz.Machines;

namespace VmFuzz.Fuzzing;

/// <summary>One machine of the exit-handlers target with who watches it: plays the made exits of an input.</summary>
internal sealed class ExitRunner : IDisposable
{
    private readonly FuzzMachine _fuzz;
    private readonly MadeExitPlayer _player;
    private readonly ExitMonitor _monitor;
    private readonly InvariantMonitor _invariants;
    private readonly FeatureMap _features;

    /// <summary>Makes a machine.</summary>
    /// <param name="options">From <see cref="FuzzStartRow.Options"/>.</param>
    /// <param name="variants">Rows under test.</param>
    /// <param name="invariants">What must hold at entries and exits.</param>
    /// <param name="features">Where it counts.</param>
    public ExitRunner(MachineOptions options, MachineVariants variants, InvariantTable invariants, FeatureMap features)
    {
        _features = features;
        _fuzz = new FuzzMachine(options, variants);
        _player = new MadeExitPlayer(Machine);
        _monitor = new ExitMonitor(Machine, _fuzz.Source, features);
        _invariants = new InvariantMonitor(Machine, invariants, _monitor);
        Machine.Observe(_invariants);
    }

    public Machine Machine => _fuzz.Machine;

    /// <summary>Who watches the machine.</summary>
    public IMachineObserver Observer => _invariants;

    /// <summary>Id of the row whose handler runs; empty when none does. May be asked from another thread.</summary>
    public string Place => _invariants.Place;

    /// <summary>Exits of the run.</summary>
    public ulong Exits => _monitor.Exits;

    /// <summary>Resets the machine and gives it an input; it has not run yet.</summary>
    public void Load(FuzzInput input)
    {
        _fuzz.Load(input);
        _player.Load(input.Exits);
        _invariants.Begin();
        _monitor.Begin();
    }

    /// <summary>What the run says by itself, or null.</summary>
    public Violation? Judge()
    {
        if (Machine.Kvm!.Vmx.FailedCheck is { Length: > 0 } check)
        {
            _features.Add(check);
        }

        // An entry that the input lets fail is not the guest's doing.
        return _invariants.Broken?.Violation ?? _monitor.Stuck ?? (_player.FailedEntry ? null : GuestKill.Of(Machine));
    }

    public void Dispose() => _fuzz.Dispose();
}
