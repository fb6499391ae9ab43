using System.Collections.Immutable;
using VmFuzz.Arch;
using VmFuzz.Memory;

namespace VmFuzz.Vmx;

/// <summary>What a failed entry check causes, in the order in which a VM entry performs them.</summary>
public enum EntryCheckStage : byte
{
    /// <summary>VMfailValid(7).</summary>
    Controls = 0,
    /// <summary>VMfailValid(8).</summary>
    Host = 1,
    /// <summary>A VM exit with reason 33.</summary>
    Guest = 2,
}

/// <summary>What an entry check looks at.</summary>
/// <param name="vmcs">The VMCS.</param>
/// <param name="capabilities">The capability MSRs.</param>
/// <param name="memory">Host-physical memory, for rows that read it.</param>
/// <param name="currentPointer">The current-VMCS pointer.</param>
/// <param name="host">The modelled host's registers: EFER.LMA, CR4 for some host checks.</param>
public readonly struct EntryContext(Vmcs vmcs, VmxCapabilities capabilities, GuestMemory? memory, ulong currentPointer, HostRegisters? host)
{
    /// <summary>The VMCS.</summary>
    public Vmcs Vmcs { get; } = vmcs;

    /// <summary>The capability MSRs.</summary>
    public VmxCapabilities Capabilities { get; } = capabilities;

    /// <summary>Host-physical memory; null reads as all ones.</summary>
    public GuestMemory? Memory { get; } = memory;

    /// <summary>The current-VMCS pointer.</summary>
    public ulong CurrentPointer { get; } = currentPointer;

    /// <summary>The host's registers; null is a 64-bit host.</summary>
    public HostRegisters? Host { get; } = host;
}

/// <summary>A rule: true when it holds.</summary>
public delegate bool EntryPredicate(in EntryContext context);

/// <summary>One change of a field, by which a test breaks a rule of the golden VMCS.</summary>
/// <param name="Field">The field.</param>
/// <param name="And">The bits to keep.</param>
/// <param name="Or">The bits to set.</param>
public readonly record struct FieldChange(VmcsField Field, ulong And, ulong Or)
{
    /// <summary>The new value.</summary>
    public ulong Apply(ulong value) => (value & And) | Or;
}

/// <summary>What makes a rule worth evaluating: bits of a field. While they differ from the value, the rule holds.</summary>
/// <param name="Field">The field.</param>
/// <param name="Bits">The bits looked at; 0 is always.</param>
/// <param name="Value">The value they must have.</param>
public readonly record struct EntryGate(VmcsField Field, ulong Bits, ulong Value)
{
    /// <summary>Whether the rule must be evaluated.</summary>
    internal bool IsOpen(Vmcs vmcs) => (vmcs[Field] & Bits) == Value;
}

/// <summary>One rule of the SDM's sections on VM-entry checks.</summary>
/// <param name="Id">Id, unique: area, field, rule.</param>
/// <param name="Section">SDM section title.</param>
/// <param name="Stage">What a failure causes.</param>
/// <param name="Reads">Fields the predicate reads: it is evaluated again only when one of them changed.</param>
/// <param name="Holds">The rule.</param>
/// <param name="Violate">Changes that make the golden VMCS break this rule.</param>
/// <param name="Qualification">Exit qualification of a failure of the guest stage.</param>
/// <param name="ReadsMemory">The rule depends on memory and is evaluated at each entry.</param>
/// <param name="AlsoBreaks">Ids of rules that cannot but break with this one, by these changes.</param>
/// <param name="Gate">For a rule that reads memory: when it must be evaluated though no field changed.</param>
/// <param name="ReadsHost">The rule depends on the host's registers and is evaluated again when one of them changed.</param>
/// <param name="OnlyVmFlag">Of GUEST_RFLAGS the rule reads bit 17 (VM) and no other.</param>
public sealed record EntryCheck(
    string Id,
    string Section,
    EntryCheckStage Stage,
    ImmutableArray<VmcsField> Reads,
    EntryPredicate Holds,
    ImmutableArray<FieldChange> Violate,
    ulong Qualification = 0,
    bool ReadsMemory = false,
    ImmutableArray<string> AlsoBreaks = default,
    EntryGate Gate = default,
    bool ReadsHost = false,
    bool OnlyVmFlag = false);
