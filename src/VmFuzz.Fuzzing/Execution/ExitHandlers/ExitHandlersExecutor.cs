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

    // Each exit may complete an instruction, and a few more are run on the way: never reached.
    internal const ulong MostInstructions = 100_000;

    private readonly MachineVariants _variants;
    private readonly InvariantTable _invariants;
    private readonly ExitRunner?[] _runners = new ExitRunner?[Modes];
    private ExitRunner? _last;
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
    public string Place => _last?.Place ?? "";

    /// <inheritdoc/>
    public Execution Run(FuzzInput input)
    {
        ArgumentNullException.ThrowIfNull(input);
        Features.Clear();
        int mode = (int)input.Mode;
        ExitRunner runner = _runners[mode] ??= new ExitRunner(FuzzLayout.Options(input.Mode, Accelerator.Kvm, MostInstructions), _variants, _invariants, Features);
        _last = runner;
        try
        {
            runner.Load(input);
            runner.Machine.Run();
            return new Execution(runner.Judge(), runner.Exits, runner.Machine.Processor.Retired);
        }
        catch (Exception e) when (e is not OutOfMemoryException)
        {
            Execution ended = new(CrashPlace.Of(e), runner.Exits, 0);
            Drop(mode);
            return ended;
        }
    }

    /// <inheritdoc/>
    public ulong Digest() => _last is { } runner ? MachineDigest.Of(runner.Machine) : 0;

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
    public Violation? Record(FuzzInput input, string path, FuzzOrigin origin)
    {
        ArgumentNullException.ThrowIfNull(input);
        ArgumentNullException.ThrowIfNull(origin);
        try
        {
            using var runner = new ExitRunner(FuzzTraces.Options(input, origin.Target), _variants, _invariants, new FeatureMap());
            runner.Load(input);
            FuzzTraces.Record(runner.Machine, runner.Observer, path, origin);
            return runner.Judge();
        }
        catch (Exception e) when (e is not (OutOfMemoryException or IOException or UnauthorizedAccessException))
        {
            return CrashPlace.Of(e);
        }
    }

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
        if (_last == _runners[mode])
        {
            _last = null;
        }

        _runners[mode]?.Dispose();
        _runners[mode] = null;
    }
}
