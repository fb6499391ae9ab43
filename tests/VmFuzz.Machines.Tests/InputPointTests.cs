using VmFuzz.Arch;
using VmFuzz.Machines;

namespace VmFuzz.Machines.Tests;

/// <summary>An interrupt that arrives while the hypervisor enters the guest is as prompt as one that arrives in it.</summary>
public sealed class InputPointTests
{
    [Theory]
    [InlineData(InputPoint.Userspace)]
    [InlineData(InputPoint.AfterRequests)]
    [InlineData(InputPoint.AfterInjection)]
    [InlineData(InputPoint.AfterPrepare)]
    [InlineData(InputPoint.BeforeLastCheck)]
    [InlineData(InputPoint.BeforeEntry)]
    [InlineData(InputPoint.Boundary)]
    public void Interrupt_AtAPointOfTheRunPath_IsTakenBeforeTheGuestGoesOn(InputPoint point)
    {
        // sti; jmp $ without an IDT: the interrupt ends in a triple fault.
        var options = MachineResetTests.Flat(Accelerator.Kvm, [0xFB, 0xEB, 0xFE]);
        using Machine machine = Machine.Create(options, new OneInterrupt(point));
        MachineStop stop = machine.Run();
        Assert.Equal(MachineStopKind.Shutdown, stop.Kind);
        Assert.InRange(machine.Processor.Retired, 1UL, 5UL);
    }

    private sealed class OneInterrupt(InputPoint point) : IInputSource
    {
        private bool _given;

        public ulong NextDue(int vcpu, ulong retired) => point == InputPoint.Boundary && !_given ? Math.Max(2, retired) : ulong.MaxValue;

        public bool TryTake(InputPoint at, in Position position, out Input input)
        {
            input = new Input(InputKind.Interrupt, 0x40);
            if (_given || at != point || (point == InputPoint.Boundary && position.Retired < 2))
            {
                return false;
            }

            return _given = true;
        }
    }
}
