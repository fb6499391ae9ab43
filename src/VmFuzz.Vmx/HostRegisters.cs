using VmFuzz.Arch;
using VmFuzz.Cpu;

namespace VmFuzz.Vmx;

/// <summary>
/// The registers of the modelled host processor while C# code is in root operation: an exit loads them from the
/// host-state area; an entry takes from them what the VMCS does not load.
/// </summary>
public sealed partial class HostRegisters : IStateful
{
    private readonly SegmentState[] _segments = new SegmentState[8];

    /// <summary>Moves whenever a register may have changed.</summary>
    internal ulong Version { get; private set; } = 1;

    /// <summary>CR0. Reset: protected mode with paging, numeric errors and write protection.</summary>
    public ulong Cr0 { get; set => Set(ref field, value); } = Arch.Cr0.Pe | Arch.Cr0.Mp | Arch.Cr0.Et | Arch.Cr0.Ne | Arch.Cr0.Wp | Arch.Cr0.Pg;

    /// <summary>CR3.</summary>
    public ulong Cr3 { get; set => Set(ref field, value); }

    /// <summary>CR4.</summary>
    public ulong Cr4 { get; set => Set(ref field, value); } = Arch.Cr4.Pae | Arch.Cr4.Vmxe;

    /// <summary>DR7.</summary>
    public ulong Dr7 { get; set => Set(ref field, value); } = 0x400;

    /// <summary>RSP.</summary>
    public ulong Rsp { get; set => Set(ref field, value); }

    /// <summary>RIP.</summary>
    public ulong Rip { get; set => Set(ref field, value); }

    /// <summary>RFLAGS.</summary>
    public ulong RFlags { get; set => Set(ref field, value); } = Arch.RFlags.Reserved1;

    /// <summary>Whether the instruction before the entry was MOV SS or POP SS (VM-instruction error 26). An exit clears it.</summary>
    public bool BlockedByMovSs
    {
        get;
        set
        {
            Version += field != value ? 1UL : 0;
            field = value;
        }
    }

    /// <summary>GDTR.</summary>
    public TableState Gdtr
    {
        get;
        set
        {
            Version++;
            field = value;
        }
    }

    /// <summary>IDTR.</summary>
    public TableState Idtr
    {
        get;
        set
        {
            Version++;
            field = value;
        }
    }

    /// <summary>IA32_EFER.</summary>
    public ulong Efer { get; set => Set(ref field, value); } = Arch.Efer.Sce | Arch.Efer.Lme | Arch.Efer.Lma | Arch.Efer.Nxe;

    /// <summary>IA32_PAT.</summary>
    public ulong Pat { get; set => Set(ref field, value); } = 0x0007_0406_0007_0406;

    /// <summary>IA32_DEBUGCTL.</summary>
    public ulong DebugCtl { get; set => Set(ref field, value); }

    /// <summary>IA32_PERF_GLOBAL_CTRL.</summary>
    public ulong PerfGlobalCtrl { get; set => Set(ref field, value); }

    /// <summary>IA32_SYSENTER_CS.</summary>
    public ulong SysenterCs { get; set => Set(ref field, value); }

    /// <summary>IA32_SYSENTER_ESP.</summary>
    public ulong SysenterEsp { get; set => Set(ref field, value); }

    /// <summary>IA32_SYSENTER_EIP.</summary>
    public ulong SysenterEip { get; set => Set(ref field, value); }

    /// <summary>IA32_KERNEL_GS_BASE, when an MSR-load area set it.</summary>
    public ulong KernelGsBase { get; set => Set(ref field, value); }

    /// <summary>IA32_STAR.</summary>
    public ulong Star { get; set => Set(ref field, value); }

    /// <summary>IA32_LSTAR.</summary>
    public ulong Lstar { get; set => Set(ref field, value); }

    /// <summary>IA32_CSTAR.</summary>
    public ulong Cstar { get; set => Set(ref field, value); }

    /// <summary>IA32_FMASK.</summary>
    public ulong Fmask { get; set => Set(ref field, value); }

    /// <summary>IA32_TSC_AUX.</summary>
    public ulong TscAux { get; set => Set(ref field, value); }

    /// <summary>IA32_XSS.</summary>
    public ulong Xss { get; set => Set(ref field, value); }

    /// <summary>IA32_SPEC_CTRL.</summary>
    public ulong SpecCtrl { get; set => Set(ref field, value); }

    /// <summary>A segment register. Who takes the reference may write through it, at once.</summary>
    public ref SegmentState Segment(SegmentRegister register)
    {
        Version++;
        return ref _segments[(int)register];
    }

    /// <summary>Writes an MSR as the VM-exit MSR-load area does.</summary>
    /// <returns>False: the MSR does not exist on the modelled host.</returns>
    public bool TryWriteMsr(uint msr, ulong value)
    {
        switch (msr)
        {
            case Msr.Efer: Efer = value; return true;
            case Msr.Pat: Pat = value; return true;
            case Msr.DebugCtl: DebugCtl = value; return true;
            case Msr.PerfGlobalCtrl: PerfGlobalCtrl = value; return true;
            case Msr.SysenterCs: SysenterCs = value; return true;
            case Msr.SysenterEsp: SysenterEsp = value; return true;
            case Msr.SysenterEip: SysenterEip = value; return true;
            case Msr.KernelGsBase: KernelGsBase = value; return true;
            case Msr.Star: Star = value; return true;
            case Msr.Lstar: Lstar = value; return true;
            case Msr.Cstar: Cstar = value; return true;
            case Msr.Fmask: Fmask = value; return true;
            case Msr.TscAux: TscAux = value; return true;
            case Msr.Xss: Xss = value; return true;
            case Msr.SpecCtrl: SpecCtrl = value; return true;
            default: return false;
        }
    }

    private void Set(ref ulong register, ulong value)
    {
        if (register != value)
        {
            register = value;
            Version++;
        }
    }
}
