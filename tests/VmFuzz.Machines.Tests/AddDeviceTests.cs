using VmFuzz.Arch;
using VmFuzz.Devices;
using VmFuzz.Machines;

namespace VmFuzz.Machines.Tests;

/// <summary>A user's own device is a part of the machine like any other.</summary>
public sealed class AddDeviceTests
{
    private const ushort Port = 0x70;

    [Theory]
    [InlineData(Accelerator.Bare)]
    [InlineData(Accelerator.Kvm)]
    public void AddDevice_InPrepare_IsReachedAndReset(Accelerator accelerator)
    {
        // mov al, 5; out 0x70, al; hlt
        using Machine machine = Make(accelerator, [0xB0, 0x05, 0xE6, 0x70, 0xF4], out Counter counter);
        Assert.Contains(counter, machine.Components);
        machine.Run();
        Assert.Equal(5U, counter.Sum);
        machine.Reset();
        Assert.Equal(0U, counter.Sum);
    }

    [Fact]
    public void AddDevice_WhoseNumberIsTakenOrNotAUsers_IsRefused()
    {
        using Machine machine = Make(Accelerator.Bare, [0xF4], out _, static m =>
        {
            Assert.Throws<ArgumentException>(() => m.AddDevice(new Counter(ComponentId.User)));
            Assert.Throws<ArgumentException>(() => m.AddDevice(new Counter(ComponentId.FwCfg)));
            m.AddDevice(new Counter(ComponentId.User + 1));
        });
        Assert.Same(machine.Clock.Events, machine.Components.Last(static c => c.Component is ComponentId.Events or >= ComponentId.User and < (ComponentId)0x9000));
    }

    [Fact]
    public void AddDevice_ToACompleteMachine_IsRefused()
    {
        using Machine machine = Make(Accelerator.Bare, [0xF4], out _);
        Assert.Throws<InvalidOperationException>(() => machine.AddDevice(new Counter(ComponentId.User + 1)));
    }

    private static Machine Make(Accelerator accelerator, byte[] code, out Counter counter, Action<Machine>? more = null)
    {
        Counter own = new(ComponentId.User);
        counter = own;
        return Machine.Create(
            new MachineOptions { Accelerator = accelerator, Images = [new MachineImage("code", "guest", code)] },
            new NoInputs(),
            new MachineVariants
            {
                Prepare = machine =>
                {
                    machine.AddDevice(own);
                    machine.Bus.AddPorts(Port, 1, own);
                    more?.Invoke(machine);
                },
            });
    }

    private sealed class Counter(ComponentId component) : Device(component), IPortDevice
    {
        private static readonly StateMap<Counter> State = new StateMapBuilder<Counter>().Add(1, "sum", static c => ref c._sum).Build();
        private uint _sum;

        public uint Sum => _sum;

        protected override StateMap Map => State;

        public override void Reset() => _sum = 0;

        public uint ReadPort(int offset, int size) => _sum;

        public void WritePort(int offset, int size, uint value) => _sum += value;
    }
}
