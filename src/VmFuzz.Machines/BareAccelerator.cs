using VmFuzz.Arch;
using VmFuzz.Cpu;

namespace VmFuzz.Machines;

/// <summary>The guest has the processors to itself.</summary>
internal sealed class BareAccelerator : IAccelerator
{
    private readonly Machine _machine;
    private readonly Turns? _turns;

    public BareAccelerator(Machine machine)
    {
        _machine = machine;
        _turns = machine.Turns;
        foreach (Processor processor in machine.Processors)
        {
            processor.Interrupts = machine.InterruptControllerOf(processor.Index);
        }
    }

    public IStateful[] Components => [];

    public IStateful[] InnerComponents => [];

    public IStateful[] PausedComponents => [];

    public void Restored()
    {
    }

    public void Run()
    {
        if (_turns is { Seeded: false })
        {
            _turns.MarkSeeded();
            _machine.TakeInput(InputPoint.Schedule);
        }

        while (_machine.Stop.Kind == MachineStopKind.None)
        {
            if (_turns is not null && !HasTurn(_turns))
            {
                Wait();
                continue;
            }

            Processor processor = _machine.Current;
            switch (processor.Run())
            {
                case CpuStop.Requested:
                    break;
                case CpuStop.Halted:
                    if (_turns is null)
                    {
                        Wait();
                    }

                    break;
                case CpuStop.Shutdown:
                    _machine.RequestStop(new MachineStop(MachineStopKind.Shutdown, $"triple fault {Place(processor)}"));
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

    public void Apply(int vcpu, in Input input)
    {
        Processor processor = _machine.Processors[vcpu];
        switch (input.Kind)
        {
            case InputKind.Nmi:
                processor.RaiseNmi();
                break;
            case InputKind.Init when _turns is not null:
                // It may be in the middle of the instruction that sent it.
                _turns.Inits |= 1UL << vcpu;
                _machine.Current.RequestStop();
                break;
            case InputKind.Sipi when _turns is not null:
                TakeInits(_turns, except: _machine.Current.Index);
                processor.StartUp((byte)input.Value);
                break;
            case InputKind.ScheduleSeed when _turns is not null:
                _turns.Seed(input.Value);
                break;
            default:
                _machine.ApplyDeviceInput(input);
                break;
        }
    }

    public void Observe(IMachineObserver? observer)
    {
    }

    // Whether somebody's turn goes on, or begins.
    private bool HasTurn(Turns turns)
    {
        TakeInits(turns, except: -1);
        return (!turns.Over && turns.Current.CanRun) || turns.TryNext();
    }

    // Every processor but one stands between two instructions.
    private void TakeInits(Turns turns, int except)
    {
        foreach (Processor processor in _machine.Processors)
        {
            ulong bit = 1UL << processor.Index;
            if ((turns.Inits & bit) != 0 && processor.Index != except)
            {
                turns.Inits &= ~bit;
                processor.Init();
                _machine.InitVcpu(processor.Index);
            }
        }
    }

    // All processors wait: first for what comes from outside now, then for the machine's own next event.
    private void Wait()
    {
        if (_machine.TakeInputs(InputPoint.Blocked))
        {
            return;
        }

        bool masked = true;
        foreach (Processor processor in _machine.Processors)
        {
            masked &= !processor.CanBeWoken;
        }

        if (masked || !_machine.Idle())
        {
            string why = masked ? "with interrupts disabled" : "and nothing is scheduled that could wake it";
            _machine.RequestStop(new MachineStop(MachineStopKind.Halted, $"the guest halted {why}, {Place(_machine.Current)}"));
        }
    }

    private string Place(Processor processor) =>
        _turns is null ? $"at RIP 0x{processor.Rip:x}" : $"at RIP 0x{processor.Rip:x} of processor {processor.Index}";
}
