namespace VmFuzz.Kvm;

/// <summary>Counters of a VCPU, with the kernel's meanings.</summary>
public sealed class VcpuStats
{
    /// <summary>Passes into the guest (S53).</summary>
    public ulong Exits { get; internal set; }

    /// <summary>Exits because userspace asked for an interrupt window (S16).</summary>
    public ulong RequestIrqExits { get; internal set; }

    /// <summary>Exits because of a signal (S18).</summary>
    public ulong SignalExits { get; internal set; }

    /// <summary>External-interrupt exits.</summary>
    public ulong IrqExits { get; internal set; }

    /// <summary>Interrupt-window exits.</summary>
    public ulong IrqWindowExits { get; internal set; }

    /// <summary>NMI-window exits.</summary>
    public ulong NmiWindowExits { get; internal set; }

    /// <summary>HLT exits.</summary>
    public ulong HaltExits { get; internal set; }

    /// <summary>Blocked VCPUs that went on.</summary>
    public ulong HaltWakeups { get; internal set; }

    /// <summary>Port accesses.</summary>
    public ulong IoExits { get; internal set; }

    /// <summary>MMIO accesses that left to userspace.</summary>
    public ulong MmioExits { get; internal set; }

    /// <summary>Interrupts injected.</summary>
    public ulong IrqInjections { get; internal set; }

    /// <summary>NMIs injected.</summary>
    public ulong NmiInjections { get; internal set; }

    /// <summary>Exceptions injected.</summary>
    public ulong ExceptionInjections { get; internal set; }

    /// <summary>Instructions that the emulator completed.</summary>
    public ulong Emulated { get; internal set; }

    /// <summary>Instructions that the emulator does not know.</summary>
    public ulong EmulationFailures { get; internal set; }

    /// <summary>Page-directory roots that were built again (S21).</summary>
    public ulong MmuReloads { get; internal set; }

    /// <summary>TLB flushes (S27).</summary>
    public ulong TlbFlushes { get; internal set; }

    /// <summary>Passes that were given up before the entry (S44, S42).</summary>
    public ulong Cancelled { get; internal set; }

    /// <summary>Times the VCPU entered the guest (S12).</summary>
    public ulong Entered { get; internal set; }

    /// <summary>Times the VCPU blocked (S12).</summary>
    public ulong Blocked { get; internal set; }

    /// <summary>Timer migrations (S22).</summary>
    public ulong MigratedTimers { get; internal set; }

    /// <summary>PMU events (S34).</summary>
    public ulong PmuEvents { get; internal set; }

    /// <summary>PMU interrupts (S35).</summary>
    public ulong Pmis { get; internal set; }

    /// <summary>Reschedules (S19).</summary>
    public ulong Reschedules { get; internal set; }

    /// <summary>PAUSE exits.</summary>
    public ulong PauseExits { get; internal set; }

    internal void CountMigratedTimers() => MigratedTimers++;

    internal void CountPmuEvent() => PmuEvents++;

    internal void CountPmi() => Pmis++;
}
