using System.Runtime.InteropServices;
using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Memory;
using VmFuzz.Vmx;

namespace VmFuzz.Fuzzing;

/// <summary>
/// Enters a VMCS and looks at what the entry did: whether it agrees with the checks, whether what was loaded is a state
/// that a guest may have, whether a failed entry left everything alone, whether an exit at the first instruction saves
/// what was loaded and loads the host, and whether the saved state can be entered again.
/// </summary>
/// <remarks>
/// Guests leave at their first instruction, so code is not run; there is no machine around the processor and hence no
/// trace of such an input.
/// </remarks>
public sealed class VmcsEntryExecutor : IFuzzExecutor
{
    // DEBUGCTL.BTF: TF traps on branches only.
    private const ulong BranchTrapFlag = 2;

    // Units by capabilities; those of other inputs than the two bases are made for one run.
    private readonly EntryRig?[] _bases = new EntryRig?[2];
    private readonly EntryChecks _checks;
    private readonly ulong[] _before = new ulong[Vmcs.GuestAreaWords];
    private EntryRig? _made;
    private EntryRig? _last;

    /// <summary>Makes an executor.</summary>
    /// <param name="checks">The entry checks under test; null for the default.</param>
    public VmcsEntryExecutor(EntryChecks? checks = null) => _checks = checks ?? EntryChecks.Default;

    /// <inheritdoc/>
    public FuzzTarget Target => FuzzTarget.VmcsEntry;

    /// <inheritdoc/>
    public FeatureMap Features { get; } = new();

    /// <inheritdoc/>
    public Execution Run(FuzzInput input)
    {
        ArgumentNullException.ThrowIfNull(input);
        Features.Clear();
        try
        {
            EntryRig rig = RigOf(input);
            _last = rig;
            return new Execution(Enter(rig, input), 1, rig.Processor.Retired);
        }
        catch (Exception e) when (e is not OutOfMemoryException)
        {
            Forget();
            return new Execution(CrashPlace.Of(e), 1, 0);
        }
    }

    /// <inheritdoc/>
    public ulong Digest()
    {
        if (_last is not { } rig)
        {
            return 0;
        }

        ulong digest = MachineDigest.Add(rig.Memory.Digest(), rig.Processor.Fields);
        digest = MachineDigest.Add(digest, rig.Unit.Current);
        digest = MachineDigest.Add(digest, rig.Unit.Host);
        return MachineDigest.Add(digest, rig.Unit);
    }

    /// <inheritdoc/>
    public Violation? RunDeep(FuzzInput input)
    {
        Run(input);
        ulong used = Digest();
        using var fresh = new VmcsEntryExecutor(_checks);
        Execution again = fresh.Run(input);
        return again.Violation is null && fresh.Digest() != used
            ? new Violation("determinism.fresh-unit", "", $"digest 0x{fresh.Digest():x} on a fresh processor, 0x{used:x} on a used one")
            : null;
    }

    /// <inheritdoc/>
    public Violation? Record(FuzzInput input, string path, FuzzOrigin origin) => Run(input).Violation;

    /// <inheritdoc/>
    public void Dispose() => Forget();

    private EntryRig RigOf(FuzzInput input)
    {
        if (input.Capabilities.Count == 0)
        {
            return _bases[input.AllCapabilities ? 1 : 0] ??= new EntryRig(input.BuildCapabilities(), _checks);
        }

        _made?.Dispose();
        _made = new EntryRig(input.BuildCapabilities(), _checks);
        return _made;
    }

    private void Forget()
    {
        _last = null;
        _made?.Dispose();
        _made = null;
        for (int i = 0; i < _bases.Length; i++)
        {
            _bases[i]?.Dispose();
            _bases[i] = null;
        }
    }

    private Violation? Enter(EntryRig rig, FuzzInput input)
    {
        rig.Reset();
        foreach (MemoryPatch patch in input.Patches)
        {
            rig.Memory.TryWrite(new Gpa(patch.Address), patch.Bytes.AsSpan());
        }

        foreach (ref readonly RegisterOverride register in CollectionsMarshal.AsSpan(input.Registers))
        {
            if (register.Register < ProcessorState.Rip)
            {
                rig.Processor.Fields.TrySetWord(register.Register, register.Value);
            }
        }

        Vmcs vmcs = rig.Unit.Current;
        input.FillVmcs(vmcs);
        vmcs.Launched = false;
        EntryContext context = new(vmcs, rig.Unit.Capabilities, rig.Memory, rig.Unit.CurrentPointer, rig.Unit.Host);
        EntryCheck? expected = _checks.FirstFailure(context);
        vmcs.CopyGuestArea(_before);
        ulong checkedDebugCtl = vmcs[VmcsField.GuestDebugCtl];
        var registers = EntryFacts.Of(rig.Processor);
        EntryOutcome outcome = rig.Unit.Enter(launch: true, out VmxResult failure);
        Features.Add(expected?.Id ?? "enters");
        if ((expected?.Id ?? "") != rig.Unit.FailedCheck && rig.Unit.FailedCheck != "entry-msr-load")
        {
            return new Violation("equivalence.check-entry", expected?.Id ?? rig.Unit.FailedCheck,
                $"the checks say '{expected?.Id ?? "enters"}' and the entry says '{(rig.Unit.FailedCheck.Length == 0 ? "enters" : rig.Unit.FailedCheck)}'");
        }

        if (outcome == EntryOutcome.Failed)
        {
            return EntryFacts.Refused(rig, expected, failure, registers);
        }

        if (outcome is not EntryOutcome.Exited)
        {
            return null;
        }

        VmExit exit = rig.Unit.LastExit;
        Features.Add(((ulong)exit.Reason << 8) | (exit.IdtVectoringInfo.Valid ? 1UL : 0));
        Violation? wrong = EntryFacts.HostLoaded(rig);
        if (wrong is not null || exit.IsEntryFailure)
        {
            return wrong ?? EntryFacts.FailedLate(rig, expected, exit, _before);
        }

        foreach (LoadedStateRule rule in LoadedStateRule.All)
        {
            if (rig.Arrived && !rule.Holds(vmcs, rig.Unit.Capabilities))
            {
                return new Violation(rule.Id, "", $"an entry was accepted although not: {rule.Text}");
            }
        }

        return rig.Arrived ? AfterArrival(rig, context, checkedDebugCtl) : null;
    }

    // The guest left at its first instruction: what is saved is what was loaded, and can be entered again.
    private Violation? AfterArrival(EntryRig rig, in EntryContext context, ulong checkedDebugCtl)
    {
        Vmcs vmcs = rig.Unit.Current;
        if (!vmcs.Launched)
        {
            return new Violation("frame.launch-state", "", "an entry by VMLAUNCH left the VMCS clear");
        }

        if ((vmcs[VmcsField.EntryInterruptionInfo] & InterruptionInfo.ValidBit) != 0)
        {
            return new Violation("frame.injection", "", "an exit left the valid bit of the entry's event");
        }

        // Without "load debug controls" the guest has the host's DEBUGCTL: its BTF, saved, may need another pending trap.
        if (((vmcs[VmcsField.GuestDebugCtl] ^ checkedDebugCtl) & BranchTrapFlag) != 0)
        {
            return null;
        }

        if (_checks.FirstFailure(context) is { } failed)
        {
            return new Violation("equivalence.saved-state", failed.Id, $"the state that an exit saved cannot be entered: {failed.Id}");
        }

        vmcs.CopyGuestArea(_before);
        EntryOutcome outcome = rig.Unit.Enter(launch: false, out _);
        return outcome != EntryOutcome.Exited || rig.Unit.LastExit.IsEntryFailure
            ? new Violation("equivalence.resume", rig.Unit.FailedCheck, $"VMRESUME of the state that an exit saved ends with {outcome}")
            : EntryFacts.RoundTrip(rig, _before);
    }
}
