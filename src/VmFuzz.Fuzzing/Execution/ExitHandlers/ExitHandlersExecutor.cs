using VmFuzz.Arch;
using VmFuzz.Machines;
using VmFuzz.Vmx;

namespace VmFuzz.Fuzzing;

/// <summary>
/// Feeds made exits to the run path: a guest is entered, with all checks and injections, and instead of running it leaves
/// with the next exit of the input, until there is none.
/// </summary>
public sealed class ExitHandlersExecutor : IFuzzExecutor
{
    private const int Modes = 3;
    private const ulong FreshOnceIn = 64;

    // An exit can be repeated by what it causes (EPT violations while an event is delivered); far more passes than this are a loop.
    private const ulong MostInstructions = 100_000;

    private readonly MachineVariants _variants;
    private readonly InvariantTable _invariants;
    private readonly Slot?[] _slots = new Slot?[Modes];
    private Slot? _last;
    private ExitHandlersExecutor? _twin;

    /// <summary>Makes an executor; machines are made when they are needed.</summary>
    /// <param name="variants">Rows under test; null for the product's own.</param>
    /// <param name="invariants">The invariants; null for the default.</param>
    public ExitHandlersExecutor(MachineVariants? variants = null, InvariantTable? invariants = null)
    {
        _variants = variants ?? MachineVariants.None;
        _invariants = invariants ?? InvariantTable.Default;
    }

    /// <inheritdoc/>
    public FuzzTarget Target => FuzzTarget.ExitHandlers;

    /// <inheritdoc/>
    public FeatureMap Features { get; } = new();

    /// <inheritdoc/>
    public string Place => _last?.Monitor.Place ?? "";

    /// <inheritdoc/>
    public Execution Run(FuzzInput input)
    {
        ArgumentNullException.ThrowIfNull(input);
        Features.Clear();
        int mode = (int)input.Mode;
        Slot slot = _slots[mode] ??= new Slot(input.Mode, _variants, _invariants, Features);
        _last = slot;
        try
        {
            return slot.Run(input);
        }
        catch (Exception e) when (e is not OutOfMemoryException)
        {
            Execution ended = new(CrashPlace.Of(e), slot.Monitor.Exits, 0);
            Drop(mode);
            return ended;
        }
    }

    /// <inheritdoc/>
    public ulong Digest() => _last is { } slot ? MachineDigest.Of(slot.Machine.Machine) : 0;

    /// <inheritdoc/>
    public Violation? RunDeep(FuzzInput input)
    {
        ArgumentNullException.ThrowIfNull(input);
        Run(input);
        ulong used = Digest();
        ExitHandlersExecutor twin = TwinOf(input);
        Execution again = twin.Run(input);
        return again.Violation is null && _last is not null && twin.Digest() is ulong other && other != used
            ? new Violation("determinism.other-machine", "", $"digest 0x{used:x} on one machine, 0x{other:x} on another that has run other inputs")
            : null;
    }

    // A machine with another past; a fresh one for some inputs, always the same ones.
    private ExitHandlersExecutor TwinOf(FuzzInput input)
    {
        ulong hash = (ulong)input.Exits.Count;
        foreach (MadeExit exit in input.Exits)
        {
            hash = StateHash.Step(hash, exit.Exit.Qualification + exit.Exit.Reason);
        }

        if (hash % FreshOnceIn == 0)
        {
            _twin?.Dispose();
            _twin = null;
        }

        return _twin ??= new ExitHandlersExecutor(_variants, _invariants);
    }

    /// <inheritdoc/>
    public Violation? Record(FuzzInput input, string path) => Run(input).Violation;

    /// <inheritdoc/>
    public void Dispose()
    {
        _twin?.Dispose();
        for (int i = 0; i < Modes; i++)
        {
            Drop(i);
        }
    }

    private void Drop(int mode)
    {
        if (_last == _slots[mode])
        {
            _last = null;
        }

        _slots[mode]?.Machine.Dispose();
        _slots[mode] = null;
    }

    // The machine of one mode with what watches it.
    private sealed class Slot
    {
        private readonly MadeExitPlayer _player;
        private readonly FeatureMap _features;

        public Slot(FlatMode mode, MachineVariants variants, InvariantTable invariants, FeatureMap features)
        {
            _features = features;
            Machine = new FuzzMachine(FuzzLayout.Options(mode, Accelerator.Kvm, MostInstructions), variants);
            _player = new MadeExitPlayer(Machine.Machine);
            Monitor = new InvariantMonitor(Machine.Machine, invariants, features);
            Machine.Machine.Observe(Monitor);
        }

        public FuzzMachine Machine { get; }

        public InvariantMonitor Monitor { get; }

        public Execution Run(FuzzInput input)
        {
            Machine machine = Machine.Machine;
            Machine.Load(input);
            _player.Load(input.Exits);
            Monitor.Begin();
            MachineStop stop = machine.Run();
            Violation? violation = Monitor.Violation ?? GuestKill.Of(machine);
            if (violation is null && Monitor.Stuck)
            {
                violation = new Violation(GuestKill.NoProgress, machine.Kvm!.Vcpu.Vmx.Exit.Basic.ToString(), stop.Text);
            }

            if (machine.Kvm!.Vmx.FailedCheck is { Length: > 0 } check)
            {
                _features.Add(check);
            }

            return new Execution(violation, Monitor.Exits, machine.Processor.Retired);
        }
    }
}
