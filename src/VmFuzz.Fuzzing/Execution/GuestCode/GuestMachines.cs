using VmFuzz.Cpu;
using VmFuzz.Kvm;
using VmFuzz.Machines;

namespace VmFuzz.Fuzzing;

/// <summary>The ways in which an executor runs one guest.</summary>
internal enum GuestMachineKind
{
    /// <summary>Under the hypervisor; what a single run uses.</summary>
    Kvm,
    /// <summary>Under the hypervisor once more: for what is compared with it.</summary>
    Twin,
    /// <summary>Under the hypervisor: where runs are moved to.</summary>
    Target,
    /// <summary>Under the hypervisor, every instruction by its reference microcode.</summary>
    Reference,
    /// <summary>Under the hypervisor without virtual NMIs, with a TSC that is caught up and RIPs that are counted.</summary>
    Options,
    /// <summary>Without a hypervisor.</summary>
    Bare,
    /// <summary>Without a hypervisor, every instruction by its reference microcode.</summary>
    BareReference,
}

/// <summary>The machines of an executor, by kind and mode; made when first asked for.</summary>
internal sealed class GuestMachines : IDisposable
{
    private const int Modes = 3;
    private readonly MachineVariants _variants;
    private readonly InvariantTable _invariants;
    private readonly FeatureMap _features;
    private readonly FeatureMap _unused = new();
    private readonly GuestRunner?[] _runners = new GuestRunner?[Enum.GetValues<GuestMachineKind>().Length * Modes];

    /// <summary>No machines yet.</summary>
    /// <param name="variants">Rows under test.</param>
    /// <param name="invariants">What must hold at entries and exits.</param>
    /// <param name="features">Where the machines of kind Kvm count.</param>
    public GuestMachines(MachineVariants variants, InvariantTable invariants, FeatureMap features)
    {
        _variants = variants;
        _invariants = invariants;
        _features = features;
    }

    public GuestComparison Comparison { get; } = new();

    /// <summary>Id of the row whose handler runs on one of them; empty when none does. May be asked from another thread.</summary>
    public string Place
    {
        get
        {
            foreach (GuestRunner? runner in _runners)
            {
                if (runner?.Place is { Length: > 0 } place)
                {
                    return place;
                }
            }

            return "";
        }
    }

    /// <summary>The machine of a kind.</summary>
    public GuestRunner Get(GuestMachineKind kind, FlatMode mode) => _runners[((int)kind * Modes) + (int)mode] ??= Create(kind, mode);

    /// <summary>The machine of a kind, holding the run of an input: what several oracles compare with runs once.</summary>
    /// <remarks>Inputs are told apart as objects, so they must not change between <see cref="Forget"/> and the last use.</remarks>
    public GuestRunner Base(GuestMachineKind kind, FuzzInput input)
    {
        GuestRunner runner = Get(kind, input.Mode);
        if (!ReferenceEquals(runner.Held, input))
        {
            runner.Run(input);
        }

        return runner;
    }

    /// <summary>Inputs may have changed: nothing held counts any more.</summary>
    public void Forget()
    {
        foreach (GuestRunner? runner in _runners)
        {
            runner?.Held = null;
        }
    }

    /// <summary>A machine that nothing has run on; the caller disposes it.</summary>
    public GuestRunner Create(GuestMachineKind kind, FlatMode mode)
    {
        Accelerator accelerator = kind is GuestMachineKind.Bare or GuestMachineKind.BareReference ? Accelerator.Bare : Accelerator.Kvm;
        MachineVariants variants = kind == GuestMachineKind.Options ? _variants with { Kvm = WithOtherOptions } : _variants;
        var runner = new GuestRunner(
            FuzzLayout.Options(mode, accelerator, GuestCodeExecutor.MostInstructions), variants, _invariants, kind == GuestMachineKind.Kvm ? _features : _unused);
        runner.Machine.Processor.ReferenceOnly = kind is GuestMachineKind.Reference or GuestMachineKind.BareReference;
        return runner;
    }

    /// <summary>Runs an input on a machine of its own and writes the trace.</summary>
    public Violation? Record(FuzzInput input, string path, FuzzOrigin origin)
    {
        using var runner = new GuestRunner(FuzzTraces.Options(input, origin.Target), _variants, _invariants, _unused);
        runner.Load(input);
        FuzzTraces.Record(runner.Machine, runner.Observer, path, origin);
        return runner.Judge();
    }

    /// <summary>Throws all machines away: one of them may be broken.</summary>
    public void Drop()
    {
        foreach (GuestRunner? runner in _runners)
        {
            runner?.Dispose();
        }

        Array.Clear(_runners);
    }

    public void Dispose() => Drop();

    private VmOptions WithOtherOptions(VmOptions options)
    {
        VmOptions changed = _variants.Kvm?.Invoke(options) ?? options;
        return changed with { VirtualNmis = false, TscCatchup = true, ProfileRips = true };
    }
}
