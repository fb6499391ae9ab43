using VmFuzz.Arch;
using VmFuzz.Kvm;
using VmFuzz.Vmx;

namespace VmFuzz.Machines;

/// <summary>The guest runs in a VM of the C# hypervisor; devices and loader stand in its userspace.</summary>
public sealed class KvmAccelerator : IAccelerator, IVmmHost, IVirtualTime, IDisposable
{
    private readonly Machine _machine;
    private readonly Vmm _vmm;

    internal KvmAccelerator(Machine machine)
    {
        _machine = machine;
        Vmx = new VmxUnit(machine.Processor, checks: machine.Variants.Checks);
        var options = VmOptions.Default with { ExitCost = machine.Options.ExitCost };
        Vm = new KvmSystem().CreateVm(machine.Memory, machine.Clock, this, machine.Variants.Kvm?.Invoke(options) ?? options);
        Vm.MapMachine();
        Vmx.Unmapped = (ulong gpa, out ulong hpa) => Vm.TryTranslate(gpa, out hpa, out _, out _);
        Vcpu = Vm.CreateVcpu(machine.Processor, Vmx);
        Vcpu.LocalApic = machine.InterruptController;
        Vcpu.ForwardInput = input => machine.ApplyDeviceInput(input);
        _vmm = new Vmm(Vcpu, machine.Bus, machine.InterruptController, this);
    }

    /// <summary>The VT-x unit of the processor.</summary>
    public VmxUnit Vmx { get; }

    /// <summary>The VM.</summary>
    public Vm Vm { get; }

    /// <summary>The errno with which the last run call failed; 0 when it did not.</summary>
    public int Errno => _vmm.Errno;

    /// <summary>Its VCPU.</summary>
    public Vcpu Vcpu { get; }

    IStateful[] IAccelerator.Components => [Vmx.Current];

    IStateful[] IAccelerator.InnerComponents => [Vm, Vmx, Vmx.Host, Vcpu.Host, Vcpu];

    IStateful[] IAccelerator.PausedComponents => [Vcpu.Pass];

    void IAccelerator.Restored() => Vmx.Restored();

    bool IVmmHost.StopRequested
    {
        get
        {
            if (_machine.MatchedSerial)
            {
                _machine.StopOnMatch();
            }

            return _machine.Stop.Kind != MachineStopKind.None;
        }
    }

    void IAccelerator.Run()
    {
        while (_machine.Stop.Kind == MachineStopKind.None)
        {
            VmmStop stop = _vmm.Run();

            // The model's gap is the reason, whatever the hypervisor made of it.
            if (_machine.Processor.UnimplementedText.Length != 0)
            {
                _machine.RequestStop(new MachineStop(MachineStopKind.Unimplemented, _machine.Processor.UnimplementedText));
                break;
            }

            switch (stop)
            {
                case VmmStop.Requested:
                    break;
                case VmmStop.Halted:
                    _machine.RequestStop(new MachineStop(MachineStopKind.Halted, $"the guest halted and nothing can wake it, at RIP 0x{Vcpu.Rip:x}"));
                    break;
                case VmmStop.Shutdown:
                    _machine.RequestStop(new MachineStop(MachineStopKind.Shutdown, $"triple fault at RIP 0x{Vcpu.Rip:x}"));
                    break;
                default:
                    _machine.RequestStop(new MachineStop(MachineStopKind.HypervisorError, Failure()));
                    break;
            }

        }
    }

    void IAccelerator.BoundaryPassed() => _vmm.LinesChanged();

    // The VCPU forwards what is the machine's.
    void IAccelerator.Apply(int vcpu, in Input input) => Vcpu.Apply(input);

    void IAccelerator.Observe(IMachineObserver? observer) => Vcpu.Observer = observer;

    bool IVmmHost.Idle() => _machine.Idle();

    bool IVmmHost.TakeInputs(InputPoint point) => _machine.TakeInputs(point);

    void IVirtualTime.Charge(ulong nanoseconds)
    {
        _machine.Clock.Add(nanoseconds);
        _machine.Processor.RecomputeLimit();
    }

    /// <inheritdoc/>
    public void Dispose() => Vmx.Dispose();

    private string Failure()
    {
        KvmRun run = Vcpu.KvmRun;
        if (_vmm.Errno != 0)
        {
            return $"the run call failed with errno {_vmm.Errno}, at RIP 0x{Vcpu.Rip:x}";
        }

        return run.ExitReason switch
        {
            KvmExitReason.FailEntry => $"VM entry failed: hardware reason 0x{run.HardwareReason:x}{Check()}, at RIP 0x{Vcpu.Rip:x}",
            KvmExitReason.InternalError => $"KVM internal error {run.InternalError}: {run.InternalText}, at RIP 0x{Vcpu.Rip:x}",
            _ => $"userspace exit {run.ExitReason} cannot be completed, at RIP 0x{Vcpu.Rip:x}",
        };

        string Check() => Vmx.FailedCheck.Length == 0 ? "" : $", check {Vmx.FailedCheck}";
    }
}
