using VmFuzz.Arch;
using VmFuzz.Cpu;

namespace VmFuzz.Machines;

/// <summary>The guest has the processor to itself.</summary>
internal sealed class BareAccelerator : IAccelerator
{
    private readonly Machine _machine;

    public BareAccelerator(Machine machine)
    {
        _machine = machine;
        machine.Processor.Interrupts = machine.InterruptController;
    }

    public IStateful[] Components => [];

    public IStateful[] InnerComponents => [];

    public IStateful[] PausedComponents => [];

    public void Restored()
    {
    }

    public void Run()
    {
        Processor processor = _machine.Processor;
        while (_machine.Stop.Kind == MachineStopKind.None)
        {
            switch (processor.Run())
            {
                case CpuStop.Requested:
                    break;
                case CpuStop.Halted:
                    Wait(processor);
                    break;
                case CpuStop.Shutdown:
                    _machine.RequestStop(new MachineStop(MachineStopKind.Shutdown, $"triple fault at RIP 0x{processor.Rip:x}"));
                    break;
                default:
                    _machine.RequestStop(new MachineStop(MachineStopKind.Unimplemented, processor.UnimplementedText));
                    break;
            }
        }
    }

    public void BoundaryPassed()
    {
    }

    public void Apply(in Input input)
    {
        switch (input.Kind)
        {
            case InputKind.Nmi:
                _machine.Processor.RaiseNmi();
                break;
            default:
                _machine.ApplyDeviceInput(input);
                break;
        }
    }

    public void Observe(IMachineObserver? observer)
    {
    }

    // A halted processor waits: first for what comes from outside now, then for its own next event.
    private void Wait(Processor processor)
    {
        if (_machine.TakeInputs(InputPoint.Blocked))
        {
            return;
        }

        bool masked = (processor.RFlagsValue & RFlags.If) == 0;
        if (masked || !_machine.Idle())
        {
            string why = masked ? "with interrupts disabled" : "and nothing is scheduled that could wake it";
            _machine.RequestStop(new MachineStop(MachineStopKind.Halted, $"the guest halted {why}, at RIP 0x{processor.Rip:x}"));
        }
    }
}
