using System.Collections.Immutable;
using VmFuzz.Arch;

namespace VmFuzz.Vmx;

/// <summary>Words in which the rows are written.</summary>
internal static class Rule
{
    public const uint Usable = SegmentAttributes.Unusable;

    public static readonly ImmutableArray<VmcsField> SecondaryReads = [VmcsField.PrimaryControls, VmcsField.SecondaryControls];
    public static readonly ImmutableArray<VmcsField> TertiaryReads = [VmcsField.PrimaryControls, VmcsField.TertiaryControls];

    public static ulong V(this in EntryContext c, VmcsField field) => c.Vmcs[field];

    public static bool Pin(this in EntryContext c, uint bit) => (c.Vmcs[VmcsField.PinBasedControls] & bit) != 0;

    public static bool Primary(this in EntryContext c, uint bit) => (c.Vmcs[VmcsField.PrimaryControls] & bit) != 0;

    public static bool Secondary(this in EntryContext c, uint bit) => (VmxUnit.SecondaryOf(c.Vmcs) & bit) != 0;

    public static bool Tertiary(this in EntryContext c, ulong bit) =>
        c.Primary(PrimaryControls.ActivateTertiaryControls) && (c.Vmcs[VmcsField.TertiaryControls] & bit) != 0;

    public static bool Exit(this in EntryContext c, uint bit) => (c.Vmcs[VmcsField.ExitControls] & bit) != 0;

    public static bool Entry(this in EntryContext c, uint bit) => (c.Vmcs[VmcsField.EntryControls] & bit) != 0;

    public static bool LongGuest(this in EntryContext c) => c.Entry(EntryControls.Ia32eModeGuest);

    public static bool WideHost(this in EntryContext c) => c.Exit(ExitControls.HostAddressSpaceSize);

    public static bool Canonical(this in EntryContext c, VmcsField field) => c.Capabilities.IsCanonical(c.Vmcs[field]);

    /// <summary>A physical address: aligned and within the physical-address width.</summary>
    public static bool Physical(this in EntryContext c, VmcsField field, ulong alignment = 0xFFF) =>
        (c.Vmcs[field] & alignment) == 0 && (c.Vmcs[field] & c.Capabilities.PhysicalReserved) == 0;

    public static bool Within(this in EntryContext c, VmcsField field) => (c.Vmcs[field] & c.Capabilities.PhysicalReserved) == 0;

    public static bool Injecting(this in EntryContext c) => (c.Vmcs[VmcsField.EntryInterruptionInfo] >> 31) != 0;

    public static InterruptionInfo Injected(this in EntryContext c) => new((uint)c.Vmcs[VmcsField.EntryInterruptionInfo]);

    public static bool Virtual8086(this in EntryContext c) => (c.Vmcs[VmcsField.GuestRflags] & RFlags.Vm) != 0;

    public static bool Unrestricted(this in EntryContext c) => c.Secondary(SecondaryControls.UnrestrictedGuest);

    public static uint Word(this in EntryContext c, ulong address)
    {
        Span<byte> bytes = stackalloc byte[4];
        return c.Memory is { } memory && memory.TryRead(new Gpa(address), bytes) ? BitConverter.ToUInt32(bytes) : uint.MaxValue;
    }

    public static ulong Quad(this in EntryContext c, ulong address) => c.Word(address) | ((ulong)c.Word(address + 4) << 32);

    public static FieldChange Set(VmcsField field, ulong value) => new(field, 0, value);

    public static FieldChange Or(VmcsField field, ulong bits) => new(field, ulong.MaxValue, bits);

    public static FieldChange And(VmcsField field, ulong mask) => new(field, mask, 0);

    public static FieldChange Pin(uint bits) => Or(VmcsField.PinBasedControls, bits);

    public static FieldChange Primary(uint bits) => Or(VmcsField.PrimaryControls, bits);

    public static FieldChange NoPrimary(uint bits) => And(VmcsField.PrimaryControls, ~(ulong)bits);

    public static FieldChange Secondary(uint bits) => Or(VmcsField.SecondaryControls, bits);

    public static FieldChange NoSecondary(uint bits) => And(VmcsField.SecondaryControls, ~(ulong)bits);

    public static FieldChange Entry(uint bits) => Or(VmcsField.EntryControls, bits);

    public static FieldChange NoEntry(uint bits) => And(VmcsField.EntryControls, ~(ulong)bits);

    public static FieldChange Exit(uint bits) => Or(VmcsField.ExitControls, bits);

    public static FieldChange NoExit(uint bits) => And(VmcsField.ExitControls, ~(ulong)bits);
}
