using VmFuzz.Arch;
using VmFuzz.Cpu;

namespace VmFuzz.Vmx;

/// <summary>
/// The registers of the modelled host processor while C# code is in root operation: an exit loads them from the
/// host-state area; an entry takes from them what the VMCS does not load.
/// </summary>
public sealed partial class HostRegisters : IStateful, ICopiedState
{
    private readonly ulong[] _words = new ulong[Segments];
    private readonly SegmentState[] _segments = new SegmentState[8];

    /// <summary>Creates the registers after a reset, in 64-bit mode.</summary>
    public HostRegisters()
    {
        Cr0 = Arch.Cr0.Pe | Arch.Cr0.Mp | Arch.Cr0.Et | Arch.Cr0.Ne | Arch.Cr0.Wp | Arch.Cr0.Pg;
        Cr4 = Arch.Cr4.Pae | Arch.Cr4.Vmxe;
        Dr7 = 0x400;
        RFlags = Arch.RFlags.Reserved1;
        Efer = Arch.Efer.Sce | Arch.Efer.Lme | Arch.Efer.Lma | Arch.Efer.Nxe;
        Pat = 0x0007_0406_0007_0406;
    }

    /// <summary>Moves whenever a register may have changed.</summary>
    internal ulong Version { get; private set; } = 1;

    /// <summary>CR0. Reset: protected mode with paging, numeric errors and write protection.</summary>
    public ulong Cr0 { get => _words[(int)Word.Cr0]; set => Set(Word.Cr0, value); }

    /// <summary>CR3.</summary>
    public ulong Cr3 { get => _words[(int)Word.Cr3]; set => Set(Word.Cr3, value); }

    /// <summary>CR4.</summary>
    public ulong Cr4 { get => _words[(int)Word.Cr4]; set => Set(Word.Cr4, value); }

    /// <summary>DR7.</summary>
    public ulong Dr7 { get => _words[(int)Word.Dr7]; set => Set(Word.Dr7, value); }

    /// <summary>RSP.</summary>
    public ulong Rsp { get => _words[(int)Word.Rsp]; set => Set(Word.Rsp, value); }

    /// <summary>RIP.</summary>
    public ulong Rip { get => _words[(int)Word.Rip]; set => Set(Word.Rip, value); }

    /// <summary>RFLAGS.</summary>
    public ulong RFlags { get => _words[(int)Word.RFlags]; set => Set(Word.RFlags, value); }

    /// <summary>Whether the instruction before the entry was MOV SS or POP SS (VM-instruction error 26). An exit clears it.</summary>
    public bool BlockedByMovSs { get => _words[(int)Word.BlockedByMovSs] != 0; set => Set(Word.BlockedByMovSs, value ? 1UL : 0); }

    /// <summary>GDTR.</summary>
    public TableState Gdtr
    {
        get => new() { Base = _words[(int)Word.GdtrBase], Limit = _words[(int)Word.GdtrLimit] };
        set
        {
            Set(Word.GdtrBase, value.Base);
            Set(Word.GdtrLimit, value.Limit);
        }
    }

    /// <summary>IDTR.</summary>
    public TableState Idtr
    {
        get => new() { Base = _words[(int)Word.IdtrBase], Limit = _words[(int)Word.IdtrLimit] };
        set
        {
            Set(Word.IdtrBase, value.Base);
            Set(Word.IdtrLimit, value.Limit);
        }
    }

    /// <summary>IA32_EFER.</summary>
    public ulong Efer { get => _words[(int)Word.Efer]; set => Set(Word.Efer, value); }

    /// <summary>IA32_PAT.</summary>
    public ulong Pat { get => _words[(int)Word.Pat]; set => Set(Word.Pat, value); }

    /// <summary>IA32_DEBUGCTL.</summary>
    public ulong DebugCtl { get => _words[(int)Word.DebugCtl]; set => Set(Word.DebugCtl, value); }

    /// <summary>IA32_PERF_GLOBAL_CTRL.</summary>
    public ulong PerfGlobalCtrl { get => _words[(int)Word.PerfGlobalCtrl]; set => Set(Word.PerfGlobalCtrl, value); }

    /// <summary>IA32_SYSENTER_CS.</summary>
    public ulong SysenterCs { get => _words[(int)Word.SysenterCs]; set => Set(Word.SysenterCs, value); }

    /// <summary>IA32_SYSENTER_ESP.</summary>
    public ulong SysenterEsp { get => _words[(int)Word.SysenterEsp]; set => Set(Word.SysenterEsp, value); }

    /// <summary>IA32_SYSENTER_EIP.</summary>
    public ulong SysenterEip { get => _words[(int)Word.SysenterEip]; set => Set(Word.SysenterEip, value); }

    /// <summary>IA32_KERNEL_GS_BASE, when an MSR-load area set it.</summary>
    public ulong KernelGsBase { get => _words[(int)Word.KernelGsBase]; set => Set(Word.KernelGsBase, value); }

    /// <summary>IA32_STAR.</summary>
    public ulong Star { get => _words[(int)Word.Star]; set => Set(Word.Star, value); }

    /// <summary>IA32_LSTAR.</summary>
    public ulong Lstar { get => _words[(int)Word.Lstar]; set => Set(Word.Lstar, value); }

    /// <summary>IA32_CSTAR.</summary>
    public ulong Cstar { get => _words[(int)Word.Cstar]; set => Set(Word.Cstar, value); }

    /// <summary>IA32_FMASK.</summary>
    public ulong Fmask { get => _words[(int)Word.Fmask]; set => Set(Word.Fmask, value); }

    /// <summary>IA32_TSC_AUX.</summary>
    public ulong TscAux { get => _words[(int)Word.TscAux]; set => Set(Word.TscAux, value); }

    /// <summary>IA32_XSS.</summary>
    public ulong Xss { get => _words[(int)Word.Xss]; set => Set(Word.Xss, value); }

    /// <summary>IA32_SPEC_CTRL.</summary>
    public ulong SpecCtrl { get => _words[(int)Word.SpecCtrl]; set => Set(Word.SpecCtrl, value); }

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

    private void Set(Word register, ulong value)
    {
        if (_words[(int)register] != value)
        {
            _words[(int)register] = value;
            Version++;
        }
    }
}
