using System.Collections.Immutable;
using VmFuzz.Arch;

namespace VmFuzz.Vmx;

/// <summary>Widths of VMCS fields, as bits 14:13 of an encoding say.</summary>
public enum VmcsFieldWidth : byte
{
    /// <summary>16 bits.</summary>
    Word = 0,
    /// <summary>64 bits.</summary>
    Quad = 1,
    /// <summary>32 bits.</summary>
    Double = 2,
    /// <summary>Natural width: 64 bits on this processor.</summary>
    Natural = 3,
}

/// <summary>Areas of the VMCS, as bits 11:10 of an encoding say.</summary>
public enum VmcsFieldGroup : byte
{
    /// <summary>Control fields.</summary>
    Control = 0,
    /// <summary>VM-exit information: read-only unless the capability says otherwise.</summary>
    ReadOnly = 1,
    /// <summary>Guest state.</summary>
    Guest = 2,
    /// <summary>Host state.</summary>
    Host = 3,
}

/// <summary>One row of the field table.</summary>
/// <param name="Field">The field; its number is the full encoding.</param>
/// <param name="Index">Dense index, from 0, in the order of encodings.</param>
/// <param name="Condition">When the field exists.</param>
public sealed record VmcsFieldInfo(VmcsField Field, int Index, VmcsFieldCondition Condition)
{
    /// <summary>Highest value of an encoding's bits 9:1, plus one, that the storage has room for.</summary>
    internal const int IndexRoom = 64;

    /// <summary>The field's name.</summary>
    public string Name { get; } = Field.ToString();

    /// <summary>Width.</summary>
    public VmcsFieldWidth Width => (VmcsFieldWidth)((uint)Field >> 13);

    /// <summary>Area.</summary>
    public VmcsFieldGroup Group => (VmcsFieldGroup)(((uint)Field >> 10) & 3);

    /// <summary>Bytes: 2, 4 or 8.</summary>
    public int Bytes => Width switch { VmcsFieldWidth.Word => 2, VmcsFieldWidth.Double => 4, _ => 8 };

    /// <summary>Mask of the bits that the field holds.</summary>
    public ulong Mask => MaskOf(Field);

    /// <summary>Whether a processor with these capabilities has the field.</summary>
    public bool Exists(VmxCapabilities capabilities) => VmcsFieldConditions.Holds(Condition, capabilities);

    /// <summary>Every field, in the order of encodings.</summary>
    public static ImmutableArray<VmcsFieldInfo> All { get; } =
    [
        new(VmcsField.VirtualProcessorIdentifier, 0, VmcsFieldCondition.Vpid),
        new(VmcsField.PostedInterruptNotificationVector, 1, VmcsFieldCondition.PostedInterrupts),
        new(VmcsField.EptpIndex, 2, VmcsFieldCondition.EptViolationVe),
        new(VmcsField.HlatPrefixSize, 3, VmcsFieldCondition.Hlat),
        new(VmcsField.LastPidPointerIndex, 4, VmcsFieldCondition.IpiVirtualization),
        new(VmcsField.GuestEsSelector, 5, VmcsFieldCondition.Always),
        new(VmcsField.GuestCsSelector, 6, VmcsFieldCondition.Always),
        new(VmcsField.GuestSsSelector, 7, VmcsFieldCondition.Always),
        new(VmcsField.GuestDsSelector, 8, VmcsFieldCondition.Always),
        new(VmcsField.GuestFsSelector, 9, VmcsFieldCondition.Always),
        new(VmcsField.GuestGsSelector, 10, VmcsFieldCondition.Always),
        new(VmcsField.GuestLdtrSelector, 11, VmcsFieldCondition.Always),
        new(VmcsField.GuestTrSelector, 12, VmcsFieldCondition.Always),
        new(VmcsField.GuestInterruptStatus, 13, VmcsFieldCondition.VirtualInterruptDelivery),
        new(VmcsField.PmlIndex, 14, VmcsFieldCondition.Pml),
        new(VmcsField.GuestUinv, 15, VmcsFieldCondition.Uinv),
        new(VmcsField.HostEsSelector, 16, VmcsFieldCondition.Always),
        new(VmcsField.HostCsSelector, 17, VmcsFieldCondition.Always),
        new(VmcsField.HostSsSelector, 18, VmcsFieldCondition.Always),
        new(VmcsField.HostDsSelector, 19, VmcsFieldCondition.Always),
        new(VmcsField.HostFsSelector, 20, VmcsFieldCondition.Always),
        new(VmcsField.HostGsSelector, 21, VmcsFieldCondition.Always),
        new(VmcsField.HostTrSelector, 22, VmcsFieldCondition.Always),
        new(VmcsField.IoBitmapA, 23, VmcsFieldCondition.Always),
        new(VmcsField.IoBitmapB, 24, VmcsFieldCondition.Always),
        new(VmcsField.MsrBitmaps, 25, VmcsFieldCondition.MsrBitmaps),
        new(VmcsField.ExitMsrStoreAddress, 26, VmcsFieldCondition.Always),
        new(VmcsField.ExitMsrLoadAddress, 27, VmcsFieldCondition.Always),
        new(VmcsField.EntryMsrLoadAddress, 28, VmcsFieldCondition.Always),
        new(VmcsField.ExecutiveVmcsPointer, 29, VmcsFieldCondition.Always),
        new(VmcsField.PmlAddress, 30, VmcsFieldCondition.Pml),
        new(VmcsField.TscOffset, 31, VmcsFieldCondition.Always),
        new(VmcsField.VirtualApicAddress, 32, VmcsFieldCondition.TprShadow),
        new(VmcsField.ApicAccessAddress, 33, VmcsFieldCondition.ApicAccesses),
        new(VmcsField.PostedInterruptDescriptorAddress, 34, VmcsFieldCondition.PostedInterrupts),
        new(VmcsField.VmFunctionControls, 35, VmcsFieldCondition.VmFunctions),
        new(VmcsField.EptPointer, 36, VmcsFieldCondition.Ept),
        new(VmcsField.EoiExitBitmap0, 37, VmcsFieldCondition.VirtualInterruptDelivery),
        new(VmcsField.EoiExitBitmap1, 38, VmcsFieldCondition.VirtualInterruptDelivery),
        new(VmcsField.EoiExitBitmap2, 39, VmcsFieldCondition.VirtualInterruptDelivery),
        new(VmcsField.EoiExitBitmap3, 40, VmcsFieldCondition.VirtualInterruptDelivery),
        new(VmcsField.EptpListAddress, 41, VmcsFieldCondition.VmFunctions),
        new(VmcsField.VmreadBitmap, 42, VmcsFieldCondition.VmcsShadowing),
        new(VmcsField.VmwriteBitmap, 43, VmcsFieldCondition.VmcsShadowing),
        new(VmcsField.VirtualizationExceptionInfoAddress, 44, VmcsFieldCondition.EptViolationVe),
        new(VmcsField.XssExitingBitmap, 45, VmcsFieldCondition.Xsaves),
        new(VmcsField.EnclsExitingBitmap, 46, VmcsFieldCondition.EnclsExiting),
        new(VmcsField.SubPagePermissionTablePointer, 47, VmcsFieldCondition.SubPage),
        new(VmcsField.TscMultiplier, 48, VmcsFieldCondition.TscScaling),
        new(VmcsField.TertiaryControls, 49, VmcsFieldCondition.Tertiary),
        new(VmcsField.EnclvExitingBitmap, 50, VmcsFieldCondition.EnclvExiting),
        new(VmcsField.LowPasidDirectoryAddress, 51, VmcsFieldCondition.Pasid),
        new(VmcsField.HighPasidDirectoryAddress, 52, VmcsFieldCondition.Pasid),
        new(VmcsField.SharedEptPointer, 53, VmcsFieldCondition.Never),
        new(VmcsField.PconfigExitingBitmap, 54, VmcsFieldCondition.Pconfig),
        new(VmcsField.HlatPointer, 55, VmcsFieldCondition.Hlat),
        new(VmcsField.PidPointerTableAddress, 56, VmcsFieldCondition.IpiVirtualization),
        new(VmcsField.SecondaryExitControls, 57, VmcsFieldCondition.SecondaryExit),
        new(VmcsField.SpecCtrlMask, 58, VmcsFieldCondition.SpecCtrl),
        new(VmcsField.SpecCtrlShadow, 59, VmcsFieldCondition.SpecCtrl),
        new(VmcsField.GuestPhysicalAddress, 60, VmcsFieldCondition.Ept),
        new(VmcsField.VmcsLinkPointer, 61, VmcsFieldCondition.Always),
        new(VmcsField.GuestDebugCtl, 62, VmcsFieldCondition.Always),
        new(VmcsField.GuestPat, 63, VmcsFieldCondition.PatControls),
        new(VmcsField.GuestEfer, 64, VmcsFieldCondition.EferControls),
        new(VmcsField.GuestPerfGlobalCtrl, 65, VmcsFieldCondition.PerfGlobalControls),
        new(VmcsField.GuestPdpte0, 66, VmcsFieldCondition.Ept),
        new(VmcsField.GuestPdpte1, 67, VmcsFieldCondition.Ept),
        new(VmcsField.GuestPdpte2, 68, VmcsFieldCondition.Ept),
        new(VmcsField.GuestPdpte3, 69, VmcsFieldCondition.Ept),
        new(VmcsField.GuestBndcfgs, 70, VmcsFieldCondition.Bndcfgs),
        new(VmcsField.GuestRtitCtl, 71, VmcsFieldCondition.RtitCtl),
        new(VmcsField.GuestLbrCtl, 72, VmcsFieldCondition.LbrCtl),
        new(VmcsField.GuestPkrs, 73, VmcsFieldCondition.PkrsEntry),
        new(VmcsField.HostPat, 74, VmcsFieldCondition.HostPat),
        new(VmcsField.HostEfer, 75, VmcsFieldCondition.HostEfer),
        new(VmcsField.HostPerfGlobalCtrl, 76, VmcsFieldCondition.HostPerf),
        new(VmcsField.HostPkrs, 77, VmcsFieldCondition.HostPkrs),
        new(VmcsField.PinBasedControls, 78, VmcsFieldCondition.Always),
        new(VmcsField.PrimaryControls, 79, VmcsFieldCondition.Always),
        new(VmcsField.ExceptionBitmap, 80, VmcsFieldCondition.Always),
        new(VmcsField.PageFaultErrorCodeMask, 81, VmcsFieldCondition.Always),
        new(VmcsField.PageFaultErrorCodeMatch, 82, VmcsFieldCondition.Always),
        new(VmcsField.Cr3TargetCount, 83, VmcsFieldCondition.Always),
        new(VmcsField.ExitControls, 84, VmcsFieldCondition.Always),
        new(VmcsField.ExitMsrStoreCount, 85, VmcsFieldCondition.Always),
        new(VmcsField.ExitMsrLoadCount, 86, VmcsFieldCondition.Always),
        new(VmcsField.EntryControls, 87, VmcsFieldCondition.Always),
        new(VmcsField.EntryMsrLoadCount, 88, VmcsFieldCondition.Always),
        new(VmcsField.EntryInterruptionInfo, 89, VmcsFieldCondition.Always),
        new(VmcsField.EntryExceptionErrorCode, 90, VmcsFieldCondition.Always),
        new(VmcsField.EntryInstructionLength, 91, VmcsFieldCondition.Always),
        new(VmcsField.TprThreshold, 92, VmcsFieldCondition.TprShadow),
        new(VmcsField.SecondaryControls, 93, VmcsFieldCondition.Secondary),
        new(VmcsField.PleGap, 94, VmcsFieldCondition.PauseLoop),
        new(VmcsField.PleWindow, 95, VmcsFieldCondition.PauseLoop),
        new(VmcsField.InstructionTimeoutControl, 96, VmcsFieldCondition.InstructionTimeout),
        new(VmcsField.VmInstructionError, 97, VmcsFieldCondition.Always),
        new(VmcsField.ExitReason, 98, VmcsFieldCondition.Always),
        new(VmcsField.ExitInterruptionInfo, 99, VmcsFieldCondition.Always),
        new(VmcsField.ExitInterruptionErrorCode, 100, VmcsFieldCondition.Always),
        new(VmcsField.IdtVectoringInfo, 101, VmcsFieldCondition.Always),
        new(VmcsField.IdtVectoringErrorCode, 102, VmcsFieldCondition.Always),
        new(VmcsField.ExitInstructionLength, 103, VmcsFieldCondition.Always),
        new(VmcsField.ExitInstructionInfo, 104, VmcsFieldCondition.Always),
        new(VmcsField.GuestEsLimit, 105, VmcsFieldCondition.Always),
        new(VmcsField.GuestCsLimit, 106, VmcsFieldCondition.Always),
        new(VmcsField.GuestSsLimit, 107, VmcsFieldCondition.Always),
        new(VmcsField.GuestDsLimit, 108, VmcsFieldCondition.Always),
        new(VmcsField.GuestFsLimit, 109, VmcsFieldCondition.Always),
        new(VmcsField.GuestGsLimit, 110, VmcsFieldCondition.Always),
        new(VmcsField.GuestLdtrLimit, 111, VmcsFieldCondition.Always),
        new(VmcsField.GuestTrLimit, 112, VmcsFieldCondition.Always),
        new(VmcsField.GuestGdtrLimit, 113, VmcsFieldCondition.Always),
        new(VmcsField.GuestIdtrLimit, 114, VmcsFieldCondition.Always),
        new(VmcsField.GuestEsAccessRights, 115, VmcsFieldCondition.Always),
        new(VmcsField.GuestCsAccessRights, 116, VmcsFieldCondition.Always),
        new(VmcsField.GuestSsAccessRights, 117, VmcsFieldCondition.Always),
        new(VmcsField.GuestDsAccessRights, 118, VmcsFieldCondition.Always),
        new(VmcsField.GuestFsAccessRights, 119, VmcsFieldCondition.Always),
        new(VmcsField.GuestGsAccessRights, 120, VmcsFieldCondition.Always),
        new(VmcsField.GuestLdtrAccessRights, 121, VmcsFieldCondition.Always),
        new(VmcsField.GuestTrAccessRights, 122, VmcsFieldCondition.Always),
        new(VmcsField.GuestInterruptibility, 123, VmcsFieldCondition.Always),
        new(VmcsField.GuestActivity, 124, VmcsFieldCondition.Always),
        new(VmcsField.GuestSmbase, 125, VmcsFieldCondition.Always),
        new(VmcsField.GuestSysenterCs, 126, VmcsFieldCondition.Always),
        new(VmcsField.PreemptionTimerValue, 127, VmcsFieldCondition.PreemptionTimer),
        new(VmcsField.HostSysenterCs, 128, VmcsFieldCondition.Always),
        new(VmcsField.Cr0GuestHostMask, 129, VmcsFieldCondition.Always),
        new(VmcsField.Cr4GuestHostMask, 130, VmcsFieldCondition.Always),
        new(VmcsField.Cr0ReadShadow, 131, VmcsFieldCondition.Always),
        new(VmcsField.Cr4ReadShadow, 132, VmcsFieldCondition.Always),
        new(VmcsField.Cr3TargetValue0, 133, VmcsFieldCondition.Always),
        new(VmcsField.Cr3TargetValue1, 134, VmcsFieldCondition.Always),
        new(VmcsField.Cr3TargetValue2, 135, VmcsFieldCondition.Always),
        new(VmcsField.Cr3TargetValue3, 136, VmcsFieldCondition.Always),
        new(VmcsField.ExitQualification, 137, VmcsFieldCondition.Always),
        new(VmcsField.IoRcx, 138, VmcsFieldCondition.Always),
        new(VmcsField.IoRsi, 139, VmcsFieldCondition.Always),
        new(VmcsField.IoRdi, 140, VmcsFieldCondition.Always),
        new(VmcsField.IoRip, 141, VmcsFieldCondition.Always),
        new(VmcsField.GuestLinearAddress, 142, VmcsFieldCondition.Always),
        new(VmcsField.GuestCr0, 143, VmcsFieldCondition.Always),
        new(VmcsField.GuestCr3, 144, VmcsFieldCondition.Always),
        new(VmcsField.GuestCr4, 145, VmcsFieldCondition.Always),
        new(VmcsField.GuestEsBase, 146, VmcsFieldCondition.Always),
        new(VmcsField.GuestCsBase, 147, VmcsFieldCondition.Always),
        new(VmcsField.GuestSsBase, 148, VmcsFieldCondition.Always),
        new(VmcsField.GuestDsBase, 149, VmcsFieldCondition.Always),
        new(VmcsField.GuestFsBase, 150, VmcsFieldCondition.Always),
        new(VmcsField.GuestGsBase, 151, VmcsFieldCondition.Always),
        new(VmcsField.GuestLdtrBase, 152, VmcsFieldCondition.Always),
        new(VmcsField.GuestTrBase, 153, VmcsFieldCondition.Always),
        new(VmcsField.GuestGdtrBase, 154, VmcsFieldCondition.Always),
        new(VmcsField.GuestIdtrBase, 155, VmcsFieldCondition.Always),
        new(VmcsField.GuestDr7, 156, VmcsFieldCondition.Always),
        new(VmcsField.GuestRsp, 157, VmcsFieldCondition.Always),
        new(VmcsField.GuestRip, 158, VmcsFieldCondition.Always),
        new(VmcsField.GuestRflags, 159, VmcsFieldCondition.Always),
        new(VmcsField.GuestPendingDebug, 160, VmcsFieldCondition.Always),
        new(VmcsField.GuestSysenterEsp, 161, VmcsFieldCondition.Always),
        new(VmcsField.GuestSysenterEip, 162, VmcsFieldCondition.Always),
        new(VmcsField.GuestSCet, 163, VmcsFieldCondition.CetEntry),
        new(VmcsField.GuestSsp, 164, VmcsFieldCondition.CetEntry),
        new(VmcsField.GuestInterruptSspTableAddress, 165, VmcsFieldCondition.CetEntry),
        new(VmcsField.HostCr0, 166, VmcsFieldCondition.Always),
        new(VmcsField.HostCr3, 167, VmcsFieldCondition.Always),
        new(VmcsField.HostCr4, 168, VmcsFieldCondition.Always),
        new(VmcsField.HostFsBase, 169, VmcsFieldCondition.Always),
        new(VmcsField.HostGsBase, 170, VmcsFieldCondition.Always),
        new(VmcsField.HostTrBase, 171, VmcsFieldCondition.Always),
        new(VmcsField.HostGdtrBase, 172, VmcsFieldCondition.Always),
        new(VmcsField.HostIdtrBase, 173, VmcsFieldCondition.Always),
        new(VmcsField.HostSysenterEsp, 174, VmcsFieldCondition.Always),
        new(VmcsField.HostSysenterEip, 175, VmcsFieldCondition.Always),
        new(VmcsField.HostRsp, 176, VmcsFieldCondition.Always),
        new(VmcsField.HostRip, 177, VmcsFieldCondition.Always),
        new(VmcsField.HostSCet, 178, VmcsFieldCondition.CetExit),
        new(VmcsField.HostSsp, 179, VmcsFieldCondition.CetExit),
        new(VmcsField.HostInterruptSspTableAddress, 180, VmcsFieldCondition.CetExit),
    ];

    private static readonly ImmutableArray<short> BySlot = MakeBySlot();
    private static readonly ImmutableArray<short> Slots = [.. All.Select(static info => (short)Slot(info.Field))];

    /// <summary>Finds the row of a field.</summary>
    public static VmcsFieldInfo Of(VmcsField field) => All[BySlot[Slot(field)]];

    /// <summary>Finds the row of an encoding as VMREAD and VMWRITE take it.</summary>
    /// <param name="encoding">The register operand; bits above 14 and bit 12 must be 0.</param>
    /// <param name="info">The row.</param>
    /// <param name="high">The access is to the high half of a 64-bit field.</param>
    /// <returns>False when there is no such field.</returns>
    public static bool TryFind(ulong encoding, out VmcsFieldInfo info, out bool high)
    {
        info = All[0];
        high = (encoding & 1) != 0;
        if (encoding > 0x7FFF || (encoding & 0x1000) != 0 || ((encoding >> 1) & 0x1FF) >= IndexRoom)
        {
            return false;
        }

        VmcsField field = (VmcsField)(encoding & ~1UL);
        int index = BySlot[Slot(field)];
        if (index < 0)
        {
            return false;
        }

        info = All[index];
        return !high || info.Width == VmcsFieldWidth.Quad;
    }

    /// <summary>Place of a field in a storage of <see cref="SlotCount"/>: computed from the encoding, without a table.</summary>
    [System.Runtime.CompilerServices.MethodImpl(System.Runtime.CompilerServices.MethodImplOptions.AggressiveInlining)]
    internal static int Slot(VmcsField field)
    {
        uint e = (uint)field;
        return (int)(((e >> 5) & 0x300) | ((e >> 4) & 0xC0) | ((e >> 1) & 0x3F));
    }

    /// <summary>Index of the row of a slot, or -1.</summary>
    internal static int IndexOfSlot(int slot) => BySlot[slot];

    /// <summary>Slot of a row by its index.</summary>
    internal static int SlotOfIndex(int index) => Slots[index];

    /// <summary>Number of slots.</summary>
    internal const int SlotCount = 1024;

    [System.Runtime.CompilerServices.MethodImpl(System.Runtime.CompilerServices.MethodImplOptions.AggressiveInlining)]
    internal static ulong MaskOf(VmcsField field) => ((uint)field >> 13) switch { 0 => 0xFFFF, 2 => 0xFFFF_FFFF, _ => ulong.MaxValue };

    private static ImmutableArray<short> MakeBySlot()
    {
        short[] table = new short[SlotCount];
        Array.Fill(table, (short)-1);
        foreach (VmcsFieldInfo info in All)
        {
            table[Slot(info.Field)] = (short)info.Index;
        }

        return [.. table];
    }
}
