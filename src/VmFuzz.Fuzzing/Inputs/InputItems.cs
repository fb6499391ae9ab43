using System.Collections.Immutable;
using VmFuzz.Arch;
using VmFuzz.Vmx;

namespace VmFuzz.Fuzzing;

/// <summary>What an input is fed to.</summary>
public enum FuzzTarget : byte
{
    /// <summary>A sequence of made exits, fed to the exit handlers without running a guest.</summary>
    ExitHandlers = 0,
    /// <summary>A VMCS as a difference from the golden one, entered once.</summary>
    VmcsEntry = 1,
    /// <summary>Code run as a guest, end to end.</summary>
    GuestCode = 2,
}

/// <summary>A set of targets.</summary>
[Flags]
public enum FuzzTargets : byte
{
    /// <summary>None.</summary>
    None = 0,
    /// <summary>Made exits.</summary>
    ExitHandlers = 1 << FuzzTarget.ExitHandlers,
    /// <summary>VMCS differences.</summary>
    VmcsEntry = 1 << FuzzTarget.VmcsEntry,
    /// <summary>Guest code.</summary>
    GuestCode = 1 << FuzzTarget.GuestCode,
    /// <summary>Every target.</summary>
    All = ExitHandlers | VmcsEntry | GuestCode,
}

/// <summary>A start value of a register.</summary>
/// <param name="Register">Number of the field in the processor's state (0 to 15 general registers, 16 RIP, 17 RFLAGS, ...).</param>
/// <param name="Value">The value, zero-extended.</param>
public readonly record struct RegisterOverride(ushort Register, ulong Value);

/// <summary>A value of a VMCS field.</summary>
/// <param name="Field">The field.</param>
/// <param name="Value">The value, zero-extended.</param>
public readonly record struct FieldOverride(VmcsField Field, ulong Value);

/// <summary>A value of a VMX capability MSR.</summary>
/// <param name="Msr">0x480 to 0x493.</param>
/// <param name="Value">The value.</param>
public readonly record struct CapabilityOverride(uint Msr, ulong Value);

/// <summary>An event from outside, with its position.</summary>
/// <param name="At">Retired count from which it is due.</param>
/// <param name="Point">Where it is taken: a boundary or a named place of the run path.</param>
/// <param name="Kind">What comes.</param>
/// <param name="Value">Its main word.</param>
public readonly record struct ScheduledEvent(ulong At, InputPoint Point, InputKind Kind, ulong Value)
{
    /// <summary>An event at an instruction boundary.</summary>
    public ScheduledEvent(ulong at, InputKind kind, ulong value = 0)
        : this(at, InputPoint.Boundary, kind, value)
    {
    }
}

/// <summary>Bytes written into guest-physical memory before the run.</summary>
/// <param name="Address">Guest-physical address, at most 52 bits.</param>
/// <param name="Bytes">1 to <see cref="FuzzLimits.PatchBytes"/> bytes.</param>
public sealed record MemoryPatch(ulong Address, ImmutableArray<byte> Bytes)
{
    /// <inheritdoc/>
    public bool Equals(MemoryPatch? other) =>
        other is not null && Address == other.Address && Bytes.AsSpan().SequenceEqual(other.Bytes.AsSpan());

    /// <inheritdoc/>
    public override int GetHashCode() => (int)Address ^ Bytes.Length;
}

/// <summary>A VM exit that never happened, with what it changes first.</summary>
/// <param name="Exit">Reason, qualification and the other information fields.</param>
/// <param name="Registers">Registers set before the exit is handled; those that the VMCS holds stand in <paramref name="GuestState"/>.</param>
/// <param name="GuestState">Fields of the VMCS's guest-state area set before the exit is handled.</param>
public sealed record MadeExit(VmExit Exit, ImmutableArray<RegisterOverride> Registers, ImmutableArray<FieldOverride> GuestState)
{
    // A copy is made to be changed: what is known of the original is not known of it.
    private MadeExit(MadeExit other) =>
        (Exit, Registers, GuestState) = (other.Exit, other.Registers, other.GuestState);

    /// <summary>An exit that changes nothing else.</summary>
    public MadeExit(VmExit exit)
        : this(exit, [], [])
    {
    }

    /// <summary>Bytes of its encoding once it was found to be canonical, or 0. Not a part of its value.</summary>
    internal int CanonicalSize { get; set; }

    /// <inheritdoc/>
    public bool Equals(MadeExit? other) =>
        ReferenceEquals(this, other)
        || (other is not null && Exit == other.Exit && Registers.AsSpan().SequenceEqual(other.Registers.AsSpan())
            && GuestState.AsSpan().SequenceEqual(other.GuestState.AsSpan()));

    /// <inheritdoc/>
    public override int GetHashCode() => (int)Exit.Reason;
}

/// <summary>Bounds of an input. Whatever is over them is cut off.</summary>
public static class FuzzLimits
{
    /// <summary>Longest encoding, and how much of a longer file is looked at. Unit: bytes.</summary>
    public const int InputBytes = 64 * 1024;

    /// <summary>Most items of a list.</summary>
    public const int Items = 256;

    /// <summary>Most code. Unit: bytes.</summary>
    public const int CodeBytes = 8192;

    /// <summary>Longest patch. Unit: bytes.</summary>
    public const int PatchBytes = 256;

    /// <summary>Most registers, and most fields, that one exit sets.</summary>
    public const int OverridesOfExit = 32;

    // Shares of the encoding; with the other sections at their largest the whole stays below InputBytes.
    internal const int PatchShare = 12 * 1024;
    internal const int ExitShare = 28 * 1024;
}
