using System.Collections.Immutable;
using VmFuzz.Vmx;

namespace VmFuzz.Fuzzing;

/// <summary>A capability MSR (SDM "VMX Capability Reporting Facility") as a part of <see cref="VmxCapabilities"/>.</summary>
/// <param name="Msr">Its number.</param>
/// <param name="Get">Reads it.</param>
/// <param name="With">A set of capabilities with another value.</param>
internal sealed record CapabilityRow(uint Msr, Func<VmxCapabilities, ulong> Get, Func<VmxCapabilities, ulong, VmxCapabilities> With)
{
    private const uint First = 0x480;

    public static readonly ImmutableArray<CapabilityRow> All =
    [
        new(0x480, static c => c.Basic, static (c, v) => c with { Basic = v }),
        new(0x481, static c => c.PinBasedCtls, static (c, v) => c with { PinBasedCtls = v }),
        new(0x482, static c => c.ProcBasedCtls, static (c, v) => c with { ProcBasedCtls = v }),
        new(0x483, static c => c.ExitCtls, static (c, v) => c with { ExitCtls = v }),
        new(0x484, static c => c.EntryCtls, static (c, v) => c with { EntryCtls = v }),
        new(0x485, static c => c.Misc, static (c, v) => c with { Misc = v }),
        new(0x486, static c => c.Cr0Fixed0, static (c, v) => c with { Cr0Fixed0 = v }),
        new(0x487, static c => c.Cr0Fixed1, static (c, v) => c with { Cr0Fixed1 = v }),
        new(0x488, static c => c.Cr4Fixed0, static (c, v) => c with { Cr4Fixed0 = v }),
        new(0x489, static c => c.Cr4Fixed1, static (c, v) => c with { Cr4Fixed1 = v }),
        new(0x48A, static c => c.VmcsEnum, static (c, v) => c with { VmcsEnum = v }),
        new(0x48B, static c => c.ProcBasedCtls2, static (c, v) => c with { ProcBasedCtls2 = v }),
        new(0x48C, static c => c.EptVpidCap, static (c, v) => c with { EptVpidCap = v }),
        new(0x48D, static c => c.TruePinBasedCtls, static (c, v) => c with { TruePinBasedCtls = v }),
        new(0x48E, static c => c.TrueProcBasedCtls, static (c, v) => c with { TrueProcBasedCtls = v }),
        new(0x48F, static c => c.TrueExitCtls, static (c, v) => c with { TrueExitCtls = v }),
        new(0x490, static c => c.TrueEntryCtls, static (c, v) => c with { TrueEntryCtls = v }),
        new(0x491, static c => c.VmFunc, static (c, v) => c with { VmFunc = v }),
        new(0x492, static c => c.ProcBasedCtls3, static (c, v) => c with { ProcBasedCtls3 = v }),
        new(0x493, static c => c.ExitCtls2, static (c, v) => c with { ExitCtls2 = v }),
    ];

    public static CapabilityRow? Find(uint msr) => msr - First < (uint)All.Length ? All[(int)(msr - First)] : null;

    public static VmxCapabilities Base(bool everything) => everything ? VmxCapabilities.Everything : VmxCapabilities.Default;
}

/// <summary>Values of the golden VMCS, by index of the field.</summary>
internal static class GoldenValues
{
    private static readonly ImmutableArray<ulong> Default = Read(VmxCapabilities.Default);
    private static readonly ImmutableArray<ulong> Everything = Read(VmxCapabilities.Everything);

    public static ImmutableArray<ulong> Of(bool everything) => everything ? Everything : Default;

    private static ImmutableArray<ulong> Read(VmxCapabilities capabilities)
    {
        using Vmcs vmcs = GoldenVmcs.Create(capabilities);
        var values = ImmutableArray.CreateBuilder<ulong>(VmcsFieldInfo.All.Length);
        foreach (VmcsFieldInfo info in VmcsFieldInfo.All)
        {
            values.Add(vmcs[info.Field]);
        }

        return values.MoveToImmutable();
    }
}
