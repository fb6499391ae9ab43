using VmFuzz.Machines;

namespace VmFuzz.Fuzzing;

/// <summary>
/// Runs guest programs end to end. One machine for each mode and each way to run a guest, made when first needed.
/// </summary>
/// <remarks>
/// A single run is under the crash and guest-kill oracles and the invariants; <see cref="RunDeep"/> adds those of
/// <see cref="DeepOracleRows"/>.
/// </remarks>
public sealed class GuestCodeExecutor : IFuzzExecutor
{
    /// <summary>Instructions after which a run ends.</summary>
    public const ulong MostInstructions = 400;

    private readonly FeatureMap _features = new();
    private readonly GuestMachines _machines;
    private GuestRunner? _last;

    /// <summary>An executor without machines yet.</summary>
    /// <param name="variants">Rows under test; null for the product's own.</param>
    /// <param name="invariants">What must hold at entries and exits; null for the default.</param>
    public GuestCodeExecutor(MachineVariants? variants = null, InvariantTable? invariants = null) =>
        _machines = new GuestMachines(variants ?? MachineVariants.None, invariants ?? InvariantTable.Default, _features);

    /// <inheritdoc/>
    public FuzzTarget Target => FuzzTarget.GuestCode;

    /// <inheritdoc/>
    public FeatureMap Features => _features;

    /// <inheritdoc/>
    public string Place => _machines.Place;

    /// <inheritdoc/>
    public Execution Run(FuzzInput input)
    {
        ArgumentNullException.ThrowIfNull(input);
        _features.Clear();
        _last = null;
        try
        {
            GuestRunner runner = _machines.Get(GuestMachineKind.Kvm, input.Mode);
            runner.Run(input);
            _last = runner;
            return new Execution(runner.Judge(), runner.Monitor.Exits, runner.Machine.Processor.Retired);
        }
        catch (Exception e) when (e is not OutOfMemoryException)
        {
            _machines.Drop();
            return new Execution(CrashPlace.Of(e), 0, 0);
        }
    }

    /// <inheritdoc/>
    public ulong Digest() => _last?.Digest() ?? 0;

    /// <inheritdoc/>
    public Violation? RunDeep(FuzzInput input)
    {
        ArgumentNullException.ThrowIfNull(input);
        _last = null;
        _machines.Forget();
        try
        {
            var compared = new ComparableInput(input);
            foreach (DeepOracleRow row in DeepOracleRows.All)
            {
                if (row.Check(_machines, compared) is { } violation)
                {
                    return violation;
                }
            }

            return null;
        }
        catch (Exception e) when (e is not OutOfMemoryException)
        {
            _machines.Drop();
            return CrashPlace.Of(e);
        }
    }

    /// <inheritdoc/>
    public Violation? Record(FuzzInput input, string path, FuzzOrigin origin)
    {
        ArgumentNullException.ThrowIfNull(input);
        ArgumentNullException.ThrowIfNull(origin);
        try
        {
            return _machines.Record(input, path, origin);
        }
        catch (Exception e) when (e is not (OutOfMemoryException or IOException or UnauthorizedAccessException))
        {
            return CrashPlace.Of(e);
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _machines.Dispose();
}
