using VmFuzz.Arch;
using VmFuzz.Devices;
using VmFuzz.Machines;

namespace VmFuzz.Machines.Tests;

/// <summary>Events that devices schedule stop the processor in time.</summary>
public sealed class DeviceEventTests
{
    private const ushort Port = 0x70;

    [Theory]
    [InlineData(Accelerator.Bare)]
    [InlineData(Accelerator.Kvm)]
    public void Event_ScheduledByTheGuestsOwnWrite_RunsAtItsTime(Accelerator accelerator)
    {
        Alarm? alarm = null;

        // mov al, 100; out 0x70, al; jmp $
        using Machine machine = Machine.Create(
            new MachineOptions
            {
                Accelerator = accelerator,
                MaxInstructions = 10_000,
                Images = [new MachineImage("code", "guest", (byte[])[0xB0, 100, 0xE6, 0x70, 0xEB, 0xFE])],
            },
            new NoInputs(),
            new MachineVariants
            {
                Prepare = m =>
                {
                    alarm = new Alarm(m.Clock, m.Clock.Events);
                    m.AddDevice(alarm);
                    m.Bus.AddPorts(Port, 1, alarm);
                },
            });
        machine.Run();
        Assert.NotEqual(0UL, alarm!.Set);
        Assert.Equal(alarm.Set + 100, alarm.Rang);
    }

    private sealed class Alarm(IClock clock, IEventQueue events) : Device(ComponentId.User), IPortDevice, IEventTarget
    {
        private static readonly StateMap<Alarm> State = new StateMapBuilder<Alarm>()
            .Add(1, "set", static a => ref a._set)
            .Add(2, "rang", static a => ref a._rang)
            .Build();

        private ulong _set;
        private ulong _rang;

        public ulong Set => _set;

        public ulong Rang => _rang;

        protected override StateMap Map => State;

        public override void Reset() => _set = _rang = 0;

        public uint ReadPort(int offset, int size) => 0;

        public void WritePort(int offset, int size, uint value)
        {
            _set = clock.Now;
            events.Schedule(this, 0, _set + value);
        }

        public void OnEvent(int token, ulong now) => _rang = now;
    }
}
