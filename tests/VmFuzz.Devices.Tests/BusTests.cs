using VmFuzz.Arch;

namespace VmFuzz.Devices.Tests;

public sealed class BusTests
{
    private readonly TestSink _sink = new();

    [Fact]
    public void ReadPort_NobodyThere_FloatsAndIsCounted()
    {
        var bus = new IoBus(_sink);
        Assert.Equal(0xFFu, bus.ReadPort(0x300, 1));
        Assert.Equal(0xFFFFu, bus.ReadPort(0x300, 2));
        Assert.Equal(0xFFFF_FFFFu, bus.ReadPort(0xFFFE, 4));
        bus.WritePort(0x301, 1, 5);
        Assert.Equal(4ul, bus.FloatingPortAccesses);
        Assert.Equal(["floating True 300 False", "floating True fffe False", "floating True 301 True"], _sink.Log);
    }

    [Fact]
    public void Mmio_NobodyThere_FloatsAndIsReportedOncePerPage()
    {
        var bus = new IoBus(_sink);
        Assert.Equal(ulong.MaxValue, bus.ReadMmio(new Gpa(0xF000_0000), 8));
        bus.WriteMmio(new Gpa(0xF000_0FFF), 1, 1);
        Assert.Equal(0xFF_FFFFul, bus.ReadMmio(new Gpa(0xF000_1000), 3));
        Assert.Equal(3ul, bus.FloatingMmioAccesses);
        Assert.Equal(["floating False f0000000 False", "floating False f0001000 False"], _sink.Log);
    }

    [Fact]
    public void Floating_ManyPages_SetStaysBounded()
    {
        var bus = new IoBus(_sink);
        for (ulong page = 0; page < 5000; page++)
        {
            bus.ReadMmio(new Gpa(page << 12), 4);
        }

        Assert.Equal(5000ul, bus.FloatingMmioAccesses);
        Assert.Equal(768, _sink.Log.Count);
        bus.ForgetFloating();
        Assert.Equal(0ul, bus.FloatingMmioAccesses);
        bus.ReadMmio(new Gpa(0), 4);
        Assert.Equal(769, _sink.Log.Count);
    }

    [Fact]
    public void WideAccess_ByteDevice_BecomesConsecutiveBytes()
    {
        var device = new Probe();
        var bus = new IoBus();
        bus.AddPorts(0x100, 4, device);
        Assert.Equal(0x1312_1110u, bus.ReadPort(0x100, 4));
        bus.WritePort(0x101, 2, 0xABCD);
        Assert.Equal(["r0.1", "r1.1", "r2.1", "r3.1", "w1.1=cd", "w2.1=ab"], device.Log);
    }

    [Fact]
    public void WideAccess_HalfFloating_ReadsOnesThere()
    {
        var device = new Probe();
        var bus = new IoBus(_sink);
        bus.AddPorts(0x100, 1, device);
        Assert.Equal(0xFFFF_FF10u, bus.ReadPort(0x100, 4));
        Assert.Equal(0x10FFu, bus.ReadPort(0xFF, 2));
    }

    [Fact]
    public void WideAccess_WideDevice_AlignedStaysWholeUnalignedIsSplit()
    {
        var device = new Probe();
        var bus = new IoBus();
        bus.AddPorts(0x100, 8, device, offset: 0x20, widest: 4);
        bus.ReadPort(0x104, 4);
        bus.ReadPort(0x102, 4);
        bus.ReadPort(0x101, 2);
        Assert.Equal(["r24.4", "r22.2", "r24.2", "r21.1", "r22.1"], device.Log);
    }

    [Fact]
    public void WideAccess_LeavesRange_IsSplit()
    {
        var device = new Probe();
        var bus = new IoBus();
        bus.AddPorts(0x100, 2, device, widest: 4);
        Assert.Equal(0xFFFF_0010u, bus.ReadPort(0x100, 4));
        Assert.Equal(["r0.2"], device.Log);
    }

    [Fact]
    public void Mmio_WiderThanDevice_IsSplit()
    {
        var device = new Probe();
        var bus = new IoBus();
        bus.AddMmio(new Gpa(0x2000), 0x10, device);
        bus.AddMmio(new Gpa(0x1000), 0x10, device, widest: 8);
        Assert.Equal(0x14_0000_0010ul, bus.ReadMmio(new Gpa(0x2000), 8));
        bus.ReadMmio(new Gpa(0x1008), 8);
        bus.WriteMmio(new Gpa(0x2003), 3, 0x332211);
        Assert.Equal(["r0.4", "r4.4", "r8.8", "w3.1=11", "w4.1=22", "w5.1=33"], device.Log);
        Assert.Equal(0xFFul, bus.ReadMmio(new Gpa(0x2010), 1));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(3)]
    [InlineData(8)]
    public void ReadPort_WrongSize_IsProgrammingError(int size) =>
        Assert.Throws<ArgumentOutOfRangeException>(() => new IoBus().ReadPort(0, size));

    [Fact]
    public void AddPorts_Taken_IsRefused()
    {
        var bus = new IoBus();
        bus.AddPorts(0x100, 4, new Probe());
        Assert.Throws<ArgumentException>(() => bus.AddPorts(0x103, 1, new Probe()));
        bus.AddMmio(new Gpa(0x1000), 0x1000, new Probe());
        Assert.Throws<ArgumentException>(() => bus.AddMmio(new Gpa(0x1FFF), 1, new Probe()));
    }

    [Fact]
    public void Version_EveryAccessOrEvent_CountsUp()
    {
        var machine = new TestMachine();
        ulong before = machine.Serial.Version;
        machine.In(0x3FD);
        Assert.Equal(before + 1, machine.Serial.Version);
        machine.Out(0x43, 0x34);
        machine.Out(0x40, 100);
        machine.Out(0x40, 0);
        ulong timer = machine.Pit.Version;
        machine.Advance(1_000_000);
        Assert.True(machine.Pit.Version > timer);
        Assert.Equal(before + 1, machine.Serial.Version);
    }

    private sealed class Probe : IPortDevice, IMmioDevice
    {
        public List<string> Log { get; } = [];

        public uint ReadPort(int offset, int size)
        {
            Log.Add($"r{offset:x}.{size}");
            return (uint)(0x10 + offset);
        }

        public void WritePort(int offset, int size, uint value) => Log.Add($"w{offset:x}.{size}={value:x}");

        public ulong ReadMmio(ulong offset, int size) => ReadPort((int)offset, size);

        public void WriteMmio(ulong offset, int size, ulong value) => WritePort((int)offset, size, (uint)value);
    }
}

public sealed class EventQueueTests
{
    private readonly List<string> _ran = [];

    [Fact]
    public void RunDue_TiesAndOrder_RunsByDeadlineThenByScheduling()
    {
        var queue = new EventQueue();
        var a = new Target("a", _ran);
        var b = new Target("b", _ran);
        queue.Schedule(b, 1, 20);
        queue.Schedule(a, 1, 20);
        queue.Schedule(a, 2, 10);
        queue.Schedule(b, 2, 30);
        queue.Schedule(b, 1, 20); // Keeps its place.
        Assert.Equal(10ul, queue.NextDeadline);
        Assert.Equal(3, queue.RunDue(20));
        Assert.Equal(["a2@20", "b1@20", "a1@20"], _ran);
        Assert.Equal(30ul, queue.NextDeadline);
        Assert.Equal(0, queue.RunDue(29));
    }

    [Fact]
    public void Schedule_Again_Moves()
    {
        var queue = new EventQueue();
        var a = new Target("a", _ran);
        queue.Schedule(a, 1, 20);
        queue.Schedule(a, 1, 40);
        Assert.Equal(1, queue.Count);
        Assert.Equal(40ul, queue.NextDeadline);
        queue.Cancel(a, 1);
        queue.Cancel(a, 1);
        Assert.Equal(ulong.MaxValue, queue.NextDeadline);
    }

    [Fact]
    public void Restore_ImageOfAnotherQueue_KeepsOrderOfTies()
    {
        var first = new EventQueue();
        var a = new Target("a", _ran);
        var b = new Target("b", _ran);
        first.Register(a);
        first.Register(b);
        first.Schedule(b, 1, 20);
        first.Schedule(a, 1, 20);
        byte[] image = new byte[EventQueue.ImageSize];
        first.Save(image);
        var second = new EventQueue();
        second.Register(a);
        second.Register(b);
        second.Schedule(a, 1, 20);
        Assert.True(second.Restore(image));
        second.RunDue(20);
        Assert.Equal(["b1@20", "a1@20"], _ran);
        image[0] = 9;
        Assert.False(second.Restore(image));
    }

    [Fact]
    public void Steady_ScheduleAndRun_AllocatesNothing()
    {
        var queue = new EventQueue();
        var target = new Silent();
        for (ulong i = 0; i < 10; i++)
        {
            queue.Schedule(target, 0, i);
            queue.RunDue(i);
        }

        long before = GC.GetAllocatedBytesForCurrentThread();
        for (ulong i = 10; i < 1000; i++)
        {
            queue.Schedule(target, 0, i);
            queue.RunDue(i);
        }

        Assert.Equal(before, GC.GetAllocatedBytesForCurrentThread());
        Assert.Equal(1000, target.Count);
    }

    [Theory]
    [InlineData(1_193_182ul)]
    [InlineData(3_579_545ul)]
    [InlineData(32_768ul)]
    public void Oscillator_TickAndBack_IsExact(ulong frequency)
    {
        var oscillator = new Oscillator(frequency);
        var random = new SplitMix64(7);
        for (int i = 0; i < 10_000; i++)
        {
            ulong ns = random.Next() >> (1 + random.Below(60));
            ulong tick = oscillator.Ticks(ns);
            Assert.Equal((ulong)((UInt128)ns * frequency / 1_000_000_000), tick);
            ulong start = oscillator.Nanoseconds(tick);
            Assert.True(start <= ns);
            Assert.Equal(tick, oscillator.Ticks(start));
            Assert.True(start == 0 || oscillator.Ticks(start - 1) == tick - 1);
        }
    }

    private sealed class Target(string name, List<string> ran) : IEventTarget
    {
        public void OnEvent(int token, ulong now) => ran.Add($"{name}{token}@{now}");
    }

    private sealed class Silent : IEventTarget
    {
        public int Count { get; private set; }

        public void OnEvent(int token, ulong now) => Count++;
    }
}
