using VmFuzz.Arch;
using VmFuzz.Devices.Acpi;
using VmFuzz.Devices.Apic;
using VmFuzz.Devices.UnitTest;

namespace VmFuzz.Devices.Tests;

/// <summary>A small deterministic generator (SplitMix64).</summary>
internal sealed class SplitMix64(ulong seed)
{
    private ulong _state = seed;

    public ulong Next()
    {
        _state += 0x9E37_79B9_7F4A_7C15UL;
        ulong z = _state;
        z = (z ^ (z >> 30)) * 0xBF58_476D_1CE4_E5B9UL;
        z = (z ^ (z >> 27)) * 0x94D0_49BB_1331_11EBUL;
        return z ^ (z >> 31);
    }

    public int Below(int bound) => (int)(Next() % (ulong)bound);
}

internal sealed class TestClock : IClock
{
    public ulong Now { get; set; }
}

/// <summary>Takes and remembers what devices send out of the machine.</summary>
internal sealed class TestSink : IConsoleSink, IDebugSink, IMachineControl, IBusObserver, IInterruptSink, IPciObserver
{
    public List<string> Log { get; } = [];

    public List<byte> Console { get; } = [];

    public List<bool> Levels { get; } = [];

    public bool Level { get; private set; }

    public int Rises { get; private set; }

    public int PciChanges { get; private set; }

    public void Write(byte value)
    {
        Console.Add(value);
        Log.Add($"console {value:x2}");
    }

    public void DebugByte(ushort port, byte value) => Log.Add($"debug {port:x} {value:x2}");

    public void DebugExit(uint value) => Log.Add($"exit {value:x}");

    public void RequestReset(string reason) => Log.Add("reset " + reason);

    public void RequestPowerOff(string reason) => Log.Add("off " + reason);

    public void SetA20(A20Gate gate, bool enabled) => Log.Add($"a20 {gate} {enabled}");

    public void FirstFloatingAccess(bool isPort, ulong address, bool write) => Log.Add($"floating {isPort} {address:x} {write}");

    public void ConfigurationChanged() => PciChanges++;

    public void SetLine(int line, bool level)
    {
        if (level && !Level)
        {
            Rises++;
        }

        Level = level;
        Levels.Add(level);
    }
}

/// <summary>The processor of a local APIC: a settable base, a TSC that goes with the time, and what it was sent.</summary>
internal sealed class TestApicProcessor(TestClock clock, TestSink sink) : IApicProcessor
{
    public ulong ApicBase { get; set; } = 0xFEE0_0900;

    public ulong TscOffset { get; set; }

    public ulong Tsc => clock.Now + TscOffset;

    public int Looks { get; private set; }

    public void InterruptChanged() => Looks++;

    public void Signal(ApicDelivery delivery, byte vector) => sink.Log.Add($"signal {delivery} {vector:x2}");
}

/// <summary>Every device on one bus, as a PC has them.</summary>
internal sealed class TestMachine
{
    private readonly bool _unitTest;

    /// <param name="now">Virtual time.</param>
    /// <param name="unitTest">Whether the unit-test device stands at its ports; it takes 0xe9 from the debug ports.</param>
    public TestMachine(ulong now = 0, bool unitTest = false)
    {
        _unitTest = unitTest;
        Clock.Now = now;
        Bus = new IoBus();
        Pic = new Pic8259Pair();
        Serial = new Serial16550(Sink, new InterruptLine(Pic, 4));
        Pit = new Pit8254(Clock, Events, new InterruptLine(Pic, 0));
        Rtc = new Rtc(Clock, Events, new InterruptLine(Pic, 8));
        Pci = new PciHost(Sink);
        Debug = new DebugPorts(Sink);
        Keyboard = new KeyboardController(Sink, new InterruptLine(Pic, 1));
        Reset = new ResetControl(Sink);
        PmTimer = new PmTimer(Clock);
        FwCfg = new FwCfg(FwCfgTable.Empty.With(5, (ushort)1).With(3, 0x800_0000UL).WithFile("etc/a", [1, 2, 3]));
        var interrupts = new ApicBus();
        Cpu = new TestApicProcessor(Clock, Sink);
        IoApic = new IoApic(interrupts);
        Apic = new LocalApic(0, Cpu, interrupts, Pic, Clock, Events);
        Pic.Output = new InterruptLine(Apic, 0);
        Hpet = new Hpet(Clock, Events, IoApic);
        Power = new PowerControl(Clock, Events, new InterruptLine(Pic, 9), Sink);
        Events.Register(Apic);
        Events.Register(Hpet);
        Events.Register(Power);
        Events.Register(Pit);
        Events.Register(Rtc);
        Bus.AddPorts(Serial16550.FirstPort, Serial16550.PortCount, Serial);
        Pic.Attach(Bus);
        Pit.Attach(Bus);
        Bus.AddPorts(Rtc.FirstPort, 2, Rtc);
        Pci.Attach(Bus, Reset);
        Reset.Attach(Bus, withResetPort: false);
        Debug.Attach(Bus, withOutput: !unitTest);
        Keyboard.Attach(Bus);
        PmTimer.Attach(Bus);
        FwCfg.Attach(Bus);
        UnitTest = new TestDevice(IoApic, Sink);
        PciTest = new PciTestFunction();
        if (unitTest)
        {
            UnitTest.Attach(Bus);
        }

        PciTest.Attach(Bus, Pci, 0x20);
        IoApic.Attach(Bus);
        Hpet.Attach(Bus);
        Power.Attach(Bus);
        Bus.AddMovable(Apic);
        Devices = [Serial, Pit, Rtc, Pci, Pic, Keyboard, Debug, Reset, FwCfg, PmTimer, Power, Hpet, IoApic, Apic, UnitTest, PciTest];
    }

    public TestClock Clock { get; } = new();

    public TestSink Sink { get; } = new();

    public EventQueue Events { get; } = new();

    public IoBus Bus { get; }

    public Pic8259Pair Pic { get; }

    public Serial16550 Serial { get; }

    public Pit8254 Pit { get; }

    public Rtc Rtc { get; }

    public PciHost Pci { get; }

    public DebugPorts Debug { get; }

    public KeyboardController Keyboard { get; }

    public ResetControl Reset { get; }

    public PmTimer PmTimer { get; }

    public FwCfg FwCfg { get; }

    public TestApicProcessor Cpu { get; }

    public IoApic IoApic { get; }

    public LocalApic Apic { get; }

    public Hpet Hpet { get; }

    public TestDevice UnitTest { get; }

    public PciTestFunction PciTest { get; }

    public PowerControl Power { get; }

    public Device[] Devices { get; }

    public void Advance(ulong nanoseconds)
    {
        ulong end = Clock.Now + nanoseconds;
        while (Events.NextDeadline <= end)
        {
            Clock.Now = Math.Max(Clock.Now, Events.NextDeadline);
            Events.RunDue(Clock.Now);
        }

        Clock.Now = end;
    }

    public byte In(int port) => (byte)Bus.ReadPort((ushort)port, 1);

    public void Out(int port, int value) => Bus.WritePort((ushort)port, 1, (uint)value);

    /// <summary>A fresh machine at the same time with the same fields and events.</summary>
    public TestMachine Copy()
    {
        var copy = new TestMachine(Clock.Now, _unitTest);
        (copy.Cpu.ApicBase, copy.Cpu.TscOffset) = (Cpu.ApicBase, Cpu.TscOffset);
        for (int i = 0; i < Devices.Length; i++)
        {
            CopyFields(Devices[i], copy.Devices[i]);
        }

        byte[] image = new byte[EventQueue.ImageSize];
        Events.Save(image);
        Assert.True(copy.Events.Restore(image));
        return copy;
    }

    public static void CopyFields(IStateful from, IStateful to)
    {
        for (int i = 0; i < from.Fields.Length; i++)
        {
            byte[] bytes = new byte[from.Fields[i].Width];
            from.ReadField(i, bytes);
            to.WriteField(i, bytes);
        }
    }

    public ulong Digest()
    {
        ulong sum = 0;
        byte[] bytes = new byte[4096];
        foreach (Device device in Devices)
        {
            for (int i = 0; i < device.Fields.Length; i++)
            {
                StateField field = device.Fields[i];
                device.ReadField(i, bytes.AsSpan(0, field.Width));
                sum += StateHash.Mix(device.Component, field.Id, bytes.AsSpan(0, field.Width));
            }
        }

        return sum;
    }
}
