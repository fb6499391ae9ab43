using System.Collections.Immutable;

namespace VmFuzz.Kvm;

/// <summary>Numbers of the rows of <see cref="GuestRules.Rows"/>, as code names them.</summary>
internal enum Rule : byte
{
    MovDrPrivilege,
    HypercallPrivilege,
    Cr0PagingIn64Bit,
    RetireResumeFlag,
    RetireTrap,
    StepUnderShadow,
    EmulatorUserFailure,
    EmulatorFarTarget,
    EmulatorShadow,
}

/// <summary>
/// One rule of the processor that an exit handler or the emulator holds in its place, because the exit came before the
/// processor looked or because no processor executes the instruction.
/// </summary>
/// <param name="Id">Id, unique.</param>
/// <param name="Source">SDM section title or kernel function.</param>
/// <param name="What">What must hold.</param>
public sealed record GuestRule(string Id, string Source, string What)
{
    internal Rule Number { get; init; }
}

/// <summary>The rules in force: an immutable value. A rule costs one bit test.</summary>
public sealed class GuestRules
{
    private readonly ulong _dropped;

    private GuestRules(ulong dropped) => _dropped = dropped;

    /// <summary>Every rule.</summary>
    public static GuestRules Default { get; } = new(0);

    /// <summary>The rows, in the order of their numbers.</summary>
    public static ImmutableArray<GuestRule> Rows { get; } =
    [
        Row(Rule.MovDrPrivilege, "mov-dr.privilege", "MOV - Move to/from Debug Registers",
            "an access to a debug register at CPL 1 to 3 is #GP; the exit comes before that check"),
        Row(Rule.HypercallPrivilege, "vmcall.privilege", "kvm_emulate_hypercall",
            "hypercalls are for CPL 0; VMCALL exits at any"),
        Row(Rule.Cr0PagingIn64Bit, "mov-cr0.paging-in-64-bit", "MOV - Move to/from Control Registers",
            "paging cannot be switched off in 64-bit mode or with CR4.PCIDE set"),
        Row(Rule.RetireResumeFlag, "retire.resume-flag", "Resume Flag",
            "RF is clear behind an instruction that a handler or the emulator completes"),
        Row(Rule.RetireTrap, "retire.trap", "Single-Step Exception Condition",
            "TF traps behind an instruction that a handler skips"),
        Row(Rule.StepUnderShadow, "debug.step-under-shadow", "Checks on Guest Non-Register State",
            "after an intercepted #DB under a shadow the pending single step is noted, or no entry is possible"),
        Row(Rule.EmulatorUserFailure, "emulator.failure.user", "handle_emulation_failure",
            "what the emulator does not know is #UD at CPL 1 to 3: a program must not end its VM"),
        Row(Rule.EmulatorFarTarget, "emulator.far-target.canonical", "RET - Return From Procedure",
            "the target of a far transfer to 64-bit code is canonical"),
        Row(Rule.EmulatorShadow, "emulator.shadow", "Interruptibility state",
            "the shadows of STI and MOV SS end with the instruction that the emulator completes"),
    ];

    /// <summary>Whether every rule is in force.</summary>
    public bool IsDefault => _dropped == 0;

    /// <summary>A value without one rule: for planted bugs and experiments.</summary>
    /// <param name="id">Id of its row.</param>
    /// <exception cref="ArgumentException">There is no such row.</exception>
    public GuestRules Without(string id)
    {
        foreach (GuestRule row in Rows)
        {
            if (string.Equals(row.Id, id, StringComparison.Ordinal))
            {
                return new(_dropped | (1UL << (int)row.Number));
            }
        }

        throw new ArgumentException($"{id} is not a rule.", nameof(id));
    }

    /// <summary>Ids of the rules that are left out, for the identity of an engine.</summary>
    public IEnumerable<string> DroppedRules() => Rows.Where(row => !Holds(row.Number)).Select(static row => row.Id);

    internal bool Holds(Rule rule) => ((_dropped >> (int)rule) & 1) == 0;

    private static GuestRule Row(Rule number, string id, string source, string what) => new(id, source, what) { Number = number };
}
