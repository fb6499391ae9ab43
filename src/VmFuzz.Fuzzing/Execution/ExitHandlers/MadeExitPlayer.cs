using System.Collections.Immutable;
using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Machines;
using VmFuzz.Vmx;

namespace VmFuzz.Fuzzing;

/// <summary>
/// Plays the made exits of an input in place of a guest's instructions. What an exit sets first is what a guest can
/// change without leaving, and only if an entry would accept the result; exits that cannot happen are left out. A made
/// entry failure lets the next entry fail.
/// </summary>
internal sealed class MadeExitPlayer : IStandIn, IEntryStandIn
{
    // Fields of the guest-state area that a guest changes without an exit of the hypervisor's choice.
    private static readonly ImmutableArray<bool> Changeable = MakeChangeable();

    /// <summary>Basic reasons of made entry failures; 0 stands for VMfail, which has none.</summary>
    public static readonly ImmutableArray<ExitReason> EntryFailures =
        [default, ExitReason.EntryFailureInvalidGuestState, ExitReason.EntryFailureMsrLoading, ExitReason.EntryFailureMachineCheck];

    private readonly Machine _machine;
    private readonly VmxUnit _unit;
    private readonly KeyValuePair<VmcsField, ulong>[] _fields = new KeyValuePair<VmcsField, ulong>[FuzzLimits.OverridesOfExit];
    private IReadOnlyList<MadeExit> _exits = [];
    private int _next;

    public MadeExitPlayer(Machine machine)
    {
        _machine = machine;
        _unit = machine.Kvm!.Vmx;
        machine.Processor.StandIn = this;
        _unit.EntryStandIn = this;
    }

    /// <summary>Whether an entry failed because the input says so.</summary>
    public bool FailedEntry { get; private set; }

    /// <summary>Starts at the first exit of an input.</summary>
    public void Load(IReadOnlyList<MadeExit> exits)
    {
        _exits = exits;
        _next = 0;
        FailedEntry = false;
    }

    /// <inheritdoc/>
    public bool TryFail(out MadeEntryFailure failure)
    {
        failure = default;
        if (_next >= _exits.Count || !_exits[_next].Exit.IsEntryFailure || !EntryFailures.Contains(_exits[_next].Exit.Basic))
        {
            return false;
        }

        VmExit exit = _exits[_next++].Exit;
        failure = new MadeEntryFailure(exit.Basic, exit.Qualification);
        FailedEntry = true;
        return true;
    }

    /// <inheritdoc/>
    public void Step(Processor processor)
    {
        while (_next < _exits.Count)
        {
            MadeExit made = _exits[_next++];
            if (ExitWay.Find(made.Exit.Basic) is not { } way || made.Exit.IsEntryFailure)
            {
                continue;
            }

            Become(processor, made);
            if ((!way.CplZeroOnly || processor.Cpl == 0) && way.Taker(_unit, made.Exit))
            {
                return;
            }
        }

        _machine.RequestStop(new MachineStop(MachineStopKind.Halted, "all made exits were played"));
    }

    private void Become(Processor processor, MadeExit made)
    {
        foreach (RegisterOverride register in made.Registers.AsSpan())
        {
            if (register.Register < (ushort)ProcessorState.Rip)
            {
                processor.Fields.TrySetWord(register.Register, register.Value);
            }
        }

        int count = 0;
        foreach (FieldOverride field in made.GuestState.AsSpan())
        {
            if (count < _fields.Length && IsChangeable(field.Field))
            {
                _fields[count++] = new(field.Field, Cut(field));
            }
        }

        if (count != 0)
        {
            _unit.TrySetGuestState(_fields.AsSpan(0, count));
        }

        // Traps come before whatever exits, unless they are what exits.
        if (!ExitWay.IsTrap(made.Exit))
        {
            _unit.PassPendingDebug();
        }
    }

    // What the hypervisor owns, or what only an event can change, stays.
    private ulong Cut(in FieldOverride field)
    {
        Vmcs v = _unit.Current;
        switch (field.Field)
        {
            case VmcsField.GuestCr0:
                return Merge(v[VmcsField.GuestCr0], field.Value, v[VmcsField.Cr0GuestHostMask]);
            case VmcsField.GuestCr4:
                return Merge(v[VmcsField.GuestCr4], field.Value, v[VmcsField.Cr4GuestHostMask]);
            case VmcsField.GuestInterruptibility:
                // STI or MOV SS was the last instruction; an IRET may have unblocked NMIs.
                const ulong Shadows = InterruptibilityState.BlockingBySti | InterruptibilityState.BlockingByMovSs;
                ulong now = _machine.Processor.Interruptibility;
                return (field.Value & Shadows) | (field.Value & now & InterruptibilityState.BlockingByNmi);
            default:
                return field.Value;
        }
    }

    private static ulong Merge(ulong now, ulong wanted, ulong owned) => (now & owned) | (wanted & ~owned);

    private static bool IsChangeable(VmcsField field) =>
        VmcsFieldInfo.TryFind((ulong)field, out VmcsFieldInfo info, out bool high) && !high && Changeable[info.Index];

    private static ImmutableArray<bool> MakeChangeable()
    {
        bool[] changeable = new bool[VmcsFieldInfo.All.Length];
        foreach (VmcsFieldInfo info in VmcsFieldInfo.All)
        {
            changeable[info.Index] = info.Field is
                (>= VmcsField.GuestEsSelector and <= VmcsField.GuestTrSelector)
                or (>= VmcsField.GuestEsLimit and <= VmcsField.GuestInterruptibility)
                or (>= VmcsField.GuestCr0 and <= VmcsField.GuestIdtrBase)
                or VmcsField.GuestRsp or VmcsField.GuestRip or VmcsField.GuestRflags or VmcsField.GuestPendingDebug
                or VmcsField.GuestSysenterCs or VmcsField.GuestSysenterEsp or VmcsField.GuestSysenterEip;
        }

        return [.. changeable];
    }
}
