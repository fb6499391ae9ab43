using VmFuzz.Arch;

namespace VmFuzz.Vmx;

/// <summary>
/// A valid VMCS: a 64-bit guest with EPT, VPID and unrestricted guest under a 64-bit host, from which tests and
/// fuzzers take one step away.
/// </summary>
public static class GoldenVmcs
{
    /// <summary>Linear address at which the guest starts.</summary>
    public const ulong GuestRip = 0x1000;

    /// <summary>A fresh VMCS, filled. The caller disposes of it.</summary>
    public static Vmcs Create(VmxCapabilities capabilities)
    {
        Vmcs vmcs = new();
        Fill(vmcs, capabilities);
        return vmcs;
    }

    /// <summary>Sets every field.</summary>
    public static void Fill(Vmcs vmcs, VmxCapabilities capabilities)
    {
        vmcs.Clear();
        vmcs[VmcsField.PinBasedControls] = capabilities.Pin.Adjust(PinBasedControls.ExternalInterruptExiting | PinBasedControls.NmiExiting | PinBasedControls.VirtualNmis);
        vmcs[VmcsField.PrimaryControls] = capabilities.Primary.Adjust(
            PrimaryControls.HltExiting | PrimaryControls.UseMsrBitmaps | PrimaryControls.ActivateSecondaryControls) & ~Cr3Exiting(capabilities);
        vmcs[VmcsField.SecondaryControls] = capabilities.Secondary.Adjust(
            SecondaryControls.EnableEpt | SecondaryControls.EnableVpid | SecondaryControls.UnrestrictedGuest | SecondaryControls.EnableRdtscp);
        vmcs[VmcsField.ExitControls] = capabilities.Exit.Adjust(
            ExitControls.HostAddressSpaceSize | ExitControls.SaveDebugControls | ExitControls.AcknowledgeInterruptOnExit
            | ExitControls.SaveEfer | ExitControls.LoadEfer | ExitControls.SavePat | ExitControls.LoadPat);
        vmcs[VmcsField.EntryControls] = capabilities.Entry.Adjust(
            EntryControls.Ia32eModeGuest | EntryControls.LoadDebugControls | EntryControls.LoadEfer | EntryControls.LoadPat);
        vmcs[VmcsField.VirtualProcessorIdentifier] = 1;
        vmcs[VmcsField.MsrBitmaps] = 0x10_0000;
        vmcs[VmcsField.IoBitmapA] = 0x10_1000;
        vmcs[VmcsField.IoBitmapB] = 0x10_2000;
        vmcs[VmcsField.EptPointer] = 0x11_0000 | (3 << 3) | 6;
        vmcs[VmcsField.VmcsLinkPointer] = ulong.MaxValue;
        vmcs[VmcsField.TscMultiplier] = 1UL << 48;

        ulong cr0 = Cr0.Pe | Cr0.Mp | Cr0.Et | Cr0.Ne | Cr0.Wp | Cr0.Pg;
        ulong cr4 = Cr4.Pae | Cr4.Vmxe | Cr4.Osfxsr;
        const ulong LongEfer = Efer.Lme | Efer.Lma | Efer.Nxe | Efer.Sce;
        vmcs[VmcsField.HostCr0] = cr0;
        vmcs[VmcsField.HostCr3] = 0x20_0000;
        vmcs[VmcsField.HostCr4] = cr4;
        vmcs[VmcsField.HostEfer] = LongEfer;
        vmcs[VmcsField.HostPat] = 0x0007_0406_0007_0406;
        vmcs[VmcsField.HostCsSelector] = 0x10;
        vmcs[VmcsField.HostSsSelector] = 0x18;
        vmcs[VmcsField.HostTrSelector] = 0x40;
        vmcs[VmcsField.HostRip] = 0xFFFF_8000_0000_1000;
        vmcs[VmcsField.HostRsp] = 0xFFFF_8000_0000_8000;

        vmcs[VmcsField.GuestCr0] = cr0;
        vmcs[VmcsField.GuestCr3] = 0x30_0000;
        vmcs[VmcsField.GuestCr4] = cr4;
        vmcs[VmcsField.GuestEfer] = LongEfer;
        vmcs[VmcsField.GuestPat] = 0x0007_0406_0007_0406;
        vmcs[VmcsField.GuestDr7] = 0x400;
        vmcs[VmcsField.GuestRflags] = RFlags.Reserved1;
        vmcs[VmcsField.GuestRip] = GuestRip;
        vmcs[VmcsField.GuestRsp] = 0x8000;
        vmcs[VmcsField.GuestGdtrLimit] = 0xFFFF;
        vmcs[VmcsField.GuestIdtrLimit] = 0xFFFF;
        for (uint i = 0; i < 6; i++)
        {
            vmcs[VmcsField.GuestEsSelector + (2 * i)] = 0x18;
            vmcs[VmcsField.GuestEsLimit + (2 * i)] = 0xFFFF_FFFF;
            vmcs[VmcsField.GuestEsAccessRights + (2 * i)] = 0xC093;
        }

        vmcs[VmcsField.GuestCsSelector] = 0x10;
        vmcs[VmcsField.GuestCsAccessRights] = 0xA09B;
        vmcs[VmcsField.GuestLdtrAccessRights] = SegmentAttributes.Unusable;
        vmcs[VmcsField.GuestTrSelector] = 0x40;
        vmcs[VmcsField.GuestTrLimit] = 0x67;
        vmcs[VmcsField.GuestTrAccessRights] = 0x8B;
        vmcs.MarkAllDirty();
    }

    // With true controls CR3 exiting need not be 1.
    private static uint Cr3Exiting(VmxCapabilities capabilities) =>
        (PrimaryControls.Cr3LoadExiting | PrimaryControls.Cr3StoreExiting) & ~capabilities.Primary.Required;
}
