using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Vmx;

namespace VmFuzz.Kvm;

/// <summary>
/// The VT-x part of a VCPU: its VMCS and how it is set up. The registers are in VmxVcpu.Registers.cs, running the
/// guest is in VmxVcpu.Run.cs, what is switched lazily in VmxVcpu.Switch.cs.
/// </summary>
public sealed unsafe partial class VmxVcpu
{
    /// <summary>Where the host goes on after an exit (S100); a label of the modelled hypervisor.</summary>
    public const ulong ReturnLabel = 0xFFFF_FFFF_8100_2000;

    private const ulong HostStack = 0xFFFF_C900_0001_0000;
    private const uint WantedPin = PinBasedControls.ExternalInterruptExiting | PinBasedControls.NmiExiting;

    private const uint WantedPrimary = PrimaryControls.HltExiting | PrimaryControls.UseTscOffsetting
        | PrimaryControls.MwaitExiting | PrimaryControls.MonitorExiting
        | PrimaryControls.RdpmcExiting | PrimaryControls.Cr8LoadExiting | PrimaryControls.Cr8StoreExiting
        | PrimaryControls.MovDrExiting | PrimaryControls.UnconditionalIoExiting | PrimaryControls.UseMsrBitmaps
        | PrimaryControls.ActivateSecondaryControls;

    private const uint WantedSecondary = SecondaryControls.EnableEpt | SecondaryControls.UnrestrictedGuest
        | SecondaryControls.EnableVpid | SecondaryControls.WbinvdExiting | SecondaryControls.EnableRdtscp
        | SecondaryControls.EnableInvpcid;

    private const uint WantedExit = ExitControls.SaveDebugControls | ExitControls.HostAddressSpaceSize
        | ExitControls.AcknowledgeInterruptOnExit | ExitControls.SavePat | ExitControls.LoadPat
        | ExitControls.SaveEfer | ExitControls.LoadEfer;

    private const uint WantedEntry = EntryControls.LoadDebugControls | EntryControls.LoadPat | EntryControls.LoadEfer;

    private readonly Vcpu _vcpu;
    private readonly VmxUnit _unit;
    private readonly Vmcs _vmcs;
    private readonly CpuState* _state;
    private ulong _region;
    private ulong _rootGeneration;

    internal VmxVcpu(Vcpu vcpu, VmxUnit unit)
    {
        _vcpu = vcpu;
        _unit = unit;
        _vmcs = unit.Current;
        _state = vcpu.Processor.State;
        TurnOn();
        SetUp();
        LoadFromProcessor();
        vcpu.Processor.Interrupts = vcpu.Host;
    }

    /// <summary>The VT-x unit.</summary>
    public VmxUnit Unit => _unit;

    /// <summary>VMREADs since creation.</summary>
    public ulong Reads { get; private set; }

    /// <summary>VMWRITEs since creation.</summary>
    public ulong Writes { get; private set; }

    /// <summary>Whether the VMCS was launched (S65, S108).</summary>
    public bool Launched { get; private set; }

    /// <summary>Reads a field of the current VMCS.</summary>
    public ulong Read(VmcsField field)
    {
        Reads++;
        return _vmcs[field];
    }

    /// <summary>Writes a field of the current VMCS.</summary>
    public void Write(VmcsField field, ulong value)
    {
        Writes++;
        _vmcs[field] = value;
    }

    /// <summary>Sets or clears bits of a control field.</summary>
    internal void Change(VmcsField field, ulong bits, bool set)
    {
        ulong old = Read(field);
        ulong changed = set ? old | bits : old & ~bits;
        if (changed != old)
        {
            Write(field, changed);
        }
    }

    /// <summary>S108: VMCLEAR, as when the VCPU moves to another processor; the next entry is VMLAUNCH.</summary>
    public void ClearVmcs()
    {
        if (!_vcpu.Path.Runs(Row.S108, _vcpu))
        {
            return;
        }

        _unit.VmClear(_region);
        _unit.VmPtrLd(_region);
        Launched = false;
    }

    internal void FlushTlb()
    {
        _vcpu.Stats.TlbFlushes++;
        _unit.Processor.FlushTlb();
    }

    /// <summary>S42: the root of the second-stage tables into the VMCS, when it is another one.</summary>
    internal void LoadRoot()
    {
        ulong pointer = _vcpu.Vm.Mmu.Eptp;
        if (_vmcs[VmcsField.EptPointer] != pointer || _rootGeneration != _vcpu.Vm.Mmu.Generation)
        {
            _rootGeneration = _vcpu.Vm.Mmu.Generation;
            Write(VmcsField.EptPointer, pointer);
            _unit.Processor.FlushTlb();
        }
    }

    private void TurnOn()
    {
        HostArea area = _vcpu.Vm.Host;
        if (_unit.VmxonPointer == VmxUnit.NoPointer)
        {
            ulong vmxon = area.TakeFixed();
            area.Write(vmxon, _unit.Capabilities.RevisionId);
            _unit.VmxOn(vmxon);
        }

        _region = area.TakeFixed();
        area.Write(_region, _unit.Capabilities.RevisionId);
        _unit.VmClear(_region);
        VmxResult result = _unit.VmPtrLd(_region);
        if (!result.Succeeded)
        {
            throw new InvalidOperationException($"The hypervisor's VMCS region was refused: {result}.");
        }
    }

    // vmx_vcpu_setup.
    private void SetUp()
    {
        VmxCapabilities c = _unit.Capabilities;
        bool virtualNmis = _vcpu.Vm.Options.VirtualNmis && c.Pin.Allows(PinBasedControls.VirtualNmis);
        VirtualNmis = virtualNmis;
        Write(VmcsField.PinBasedControls, c.Pin.Adjust(WantedPin | (virtualNmis ? PinBasedControls.VirtualNmis : 0)));
        Write(VmcsField.PrimaryControls, c.Primary.Adjust(WantedPrimary));
        Write(VmcsField.SecondaryControls, c.Secondary.Adjust(WantedSecondary));
        Write(VmcsField.ExitControls, c.Exit.Adjust(WantedExit));
        Write(VmcsField.EntryControls, c.Entry.Adjust(WantedEntry));
        Write(VmcsField.VirtualProcessorIdentifier, (ulong)_vcpu.Index + 1);
        Write(VmcsField.VmcsLinkPointer, ulong.MaxValue);
        Write(VmcsField.Cr3TargetCount, 0);
        SetUpMsrBitmap();
        SetUpHostState();
        UpdateExceptionBitmap();
        Write(VmcsField.Cr0GuestHostMask, ~(FpuActive ? Arch.Cr0.Ts : 0UL));
        Write(VmcsField.Cr4GuestHostMask, ~GuestOwnedCr4);
        Write(VmcsField.TscOffset, 0);
    }

    // Everything is intercepted except what the guest may have to itself.
    private void SetUpMsrBitmap()
    {
        ulong page = _vcpu.Vm.Host.TakeFixed();
        Span<byte> bitmap = stackalloc byte[Gpa.PageSize];
        bitmap.Fill(0xFF);
        foreach (uint msr in (ReadOnlySpan<uint>)[Msr.FsBase, Msr.GsBase, Msr.KernelGsBase, Msr.SysenterCs, Msr.SysenterEsp, Msr.SysenterEip])
        {
            int at = (msr >= 0xC000_0000 ? 1024 : 0) + (int)((msr & 0x1FFF) >> 3);
            byte mask = (byte)~(1 << (int)(msr & 7));
            bitmap[at] &= mask;
            bitmap[at + 2048] &= mask;
        }

        _vcpu.Vm.Host.Write(page, bitmap);
        Write(VmcsField.MsrBitmaps, page);
    }

    // vmx_set_constant_host_state (S100).
    private void SetUpHostState()
    {
        HostRegisters h = _unit.Host;
        Write(VmcsField.HostCr0, h.Cr0);
        Write(VmcsField.HostCr3, h.Cr3);
        Write(VmcsField.HostCr4, h.Cr4);
        Write(VmcsField.HostCsSelector, 0x10);
        Write(VmcsField.HostSsSelector, 0x18);
        Write(VmcsField.HostDsSelector, 0);
        Write(VmcsField.HostEsSelector, 0);
        Write(VmcsField.HostFsSelector, 0);
        Write(VmcsField.HostGsSelector, 0);
        Write(VmcsField.HostTrSelector, 0x40);
        Write(VmcsField.HostTrBase, 0xFFFF_FE00_0000_3000);
        Write(VmcsField.HostGdtrBase, 0xFFFF_FE00_0000_1000);
        Write(VmcsField.HostIdtrBase, 0xFFFF_FE00_0000_0000);
        Write(VmcsField.HostGsBase, 0xFFFF_8880_0000_0000);
        Write(VmcsField.HostSysenterCs, 0x10);
        Write(VmcsField.HostSysenterEsp, HostStack);
        Write(VmcsField.HostSysenterEip, ReturnLabel + 0x1000);
        Write(VmcsField.HostEfer, h.Efer);
        Write(VmcsField.HostPat, h.Pat);
        Write(VmcsField.HostRip, ReturnLabel);
    }

    /// <summary>update_exception_bitmap. #MC, #AC and #DB always; #BP and #NM when somebody wants them.</summary>
    internal void UpdateExceptionBitmap()
    {
        uint bitmap = (1U << Vector.Mc) | (1U << Vector.Db);
        if (!_vcpu.Path.Seed(Row.S81))
        {
            bitmap |= 1U << Vector.Ac;
        }

        if ((_vcpu.GuestDebug & GuestDebug.UseSoftwareBreakpoints) != 0)
        {
            bitmap |= 1U << Vector.Bp;
        }

        if (!FpuActive)
        {
            bitmap |= 1U << Vector.Nm;
        }

        Write(VmcsField.ExceptionBitmap, bitmap);
    }
}
