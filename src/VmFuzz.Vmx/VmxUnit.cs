using VmFuzz.Arch;
using VmFuzz.Cpu;

namespace VmFuzz.Vmx;

/// <summary>VT-x over one processor: root-mode operations callable from C#, the non-root policy and EPT.</summary>
public sealed unsafe partial class VmxUnit : INonRootPolicy, ISecondStage, IVmxInstructions, IDisposable
{
    /// <summary>A pointer that points nowhere: the value of the VMXON and current-VMCS pointers when there is none.</summary>
    public const ulong NoPointer = ulong.MaxValue;

    private readonly Processor _cpu;
    private readonly CpuState* _state;
    private readonly Vmcs _vmcs;
    private bool _disposed;

    /// <summary>Creates the unit. The processor is in root operation with VMX off.</summary>
    /// <param name="processor">The processor.</param>
    /// <param name="capabilities">Capability MSRs; the default when null.</param>
    /// <param name="checks">Entry checks in force; the default when null.</param>
    /// <param name="host">The modelled host's registers; a fresh set when null.</param>
    public VmxUnit(Processor processor, VmxCapabilities? capabilities = null, EntryChecks? checks = null, HostRegisters? host = null)
    {
        _cpu = processor;
        _state = processor.State;
        Capabilities = capabilities ?? VmxCapabilities.Default with { PhysicalBits = processor.Model.PhysicalBits };
        Checks = checks ?? EntryChecks.Default;
        Host = host ?? new HostRegisters { Vcpu = processor.Index };
        _vmcs = new Vmcs(processor.Index);
    }

    /// <summary>The processor.</summary>
    public Processor Processor => _cpu;

    /// <summary>Capability MSRs.</summary>
    public VmxCapabilities Capabilities { get; }

    /// <summary>Entry checks in force.</summary>
    public EntryChecks Checks { get; }

    /// <summary>The modelled host's registers.</summary>
    public HostRegisters Host { get; }

    /// <summary>Watches entries and exits.</summary>
    public IVmxObserver? Observer { get; set; }

    /// <summary>The processor's copy of the current VMCS; meaningless when <see cref="CurrentPointer"/> points nowhere.</summary>
    public Vmcs Current => _vmcs;

    /// <summary>Host-physical address of the current VMCS region, or <see cref="NoPointer"/>.</summary>
    public ulong CurrentPointer { get; private set; } = NoPointer;

    /// <summary>Host-physical address of the VMXON region, or <see cref="NoPointer"/> when VMX is off.</summary>
    public ulong VmxonPointer { get; private set; } = NoPointer;

    /// <summary>Whether the processor is in VMX non-root operation.</summary>
    public bool InGuest { get; private set; }

    /// <summary>The VMX-abort indicator of the last abort.</summary>
    public VmxAbort Abort { get; private set; }

    /// <summary>Id of the entry check that failed last, or the empty string.</summary>
    public string FailedCheck { get; private set; } = "";

    /// <summary>The most recent exit.</summary>
    public ref readonly VmExit LastExit => ref _exit;

    /// <summary>Exits since the unit was made, failed entries that look like one included. No part of its state.</summary>
    public ulong Exits { get; private set; }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (!_disposed)
        {
            _disposed = true;
            _vmcs.Dispose();
        }
    }
}
