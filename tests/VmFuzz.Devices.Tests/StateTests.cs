using System.Reflection;
using VmFuzz.Arch;

namespace VmFuzz.Devices.Tests;

public sealed class StateTests
{
    // Stand for a random register in the page behind these addresses.
    private const int LocalApicPage = 0x1_0000;
    private const int IoApicPage = 0x1_0001;
    private const int HpetPage = 0x1_0002;
    private const int StoragePage = 0x1_0003;

    public static TheoryData<string, int[]> Ports => new()
    {
        { nameof(Serial16550), [0x3F8, 0x3F9, 0x3FA, 0x3FB, 0x3FC, 0x3FD, 0x3FE, 0x3FF] },
        { nameof(Pit8254), [0x40, 0x41, 0x42, 0x43, 0x43, 0x61] },
        { nameof(Rtc), [0x70, 0x71] },
        { nameof(Pic8259Pair), [0x20, 0x21, 0xA0, 0xA1, 0x4D0, 0x4D1] },
        { nameof(PciHost), [0xCF8, 0xCF9, 0xCFC, 0xCFD, 0xCFE, 0xCFF] },
        { nameof(KeyboardController), [0x60, 0x64] },
        { nameof(DebugPorts), [0xE9, 0x402, 0xF4] },
        { nameof(ResetControl), [0x92, 0xCF9] },
        { nameof(FwCfg), [0x510, 0x511] },
        { nameof(PmTimer), [0x608, 0x60A] },
        { nameof(Acpi.PowerControl), [0x600, 0x601, 0x602, 0x602, 0x603, 0x604, 0x605] },
        { nameof(Hpet), [HpetPage] },
        { nameof(UnitTest.TestDevice), [0xE0, 0xE1, 0xE4, 0xE8, 0xEB, 0x2009, 0x200A, 0x8900, StoragePage] },
        { nameof(UnitTest.PciTestFunction), [0xC000, 0xC000, 0xC004, 0xC00C, 0xC080, 0xC081, 0xC082, 0xCF8, 0xCFC] },
        { nameof(Apic.LocalApic), [LocalApicPage] },
        { nameof(Apic.IoApic), [LocalApicPage, IoApicPage] },
        { "all", [0x20, 0x21, 0x40, 0x43, 0x60, 0x61, 0x64, 0x70, 0x71, 0x92, 0xA0, 0xA1, 0x3F8, 0x3F9, 0x3FA, 0x3FC, 0x4D0, 0x510, 0x511, 0xCF8, 0xCFC] },
    };

    /// <summary>One random step; the answer, if any.</summary>
    private static ulong Step(TestMachine m, SplitMix64 random, int[] ports)
    {
        int port = ports[random.Below(ports.Length)];
        int size = random.Below(8) switch { 0 => 2, 1 => 4, _ => 1 };
        uint value = (uint)random.Next();
        if (port > ushort.MaxValue && random.Below(24) < 18)
        {
            return MmioStep(m, random, port, value);
        }

        port &= ushort.MaxValue;
        switch (random.Below(24))
        {
            case < 9:
                return m.Bus.ReadPort((ushort)port, size);
            case < 18:
                // Indices that matter are small: half of the values are.
                m.Bus.WritePort((ushort)port, port == 0xCF8 ? 4 : size, port == 0xCF8 ? 0x8000_0000 | (value & 0xBFC) : (value & 0x100) != 0 ? value & 0x3F : value);
                return 0;
            case 18:
                m.Serial.Receive((byte)value);
                return m.Serial.CanReceive ? 1ul : 0;
            case 19:
                return m.Pic.InterruptPending ? m.Pic.Acknowledge() : 0x100ul;
            case 20:
                m.Keyboard.Receive((byte)value);
                return 0;
            case 21:
                m.Pic.SetLine((value & 8) != 0 ? 11 : 5, (value & 1) != 0);
                return 0;
            case 22:
                m.Clock.Now += value; // Up to 4 s, with the events late.
                m.Events.RunDue(m.Clock.Now);
                return m.Clock.Now;
            default:
                m.Advance(value & 0xFFFF);
                return m.Events.NextDeadline;
        }
    }

    private static ulong MmioStep(TestMachine m, SplitMix64 random, int page, uint value)
    {
        if (page == HpetPage)
        {
            return HpetStep(m, random, value);
        }

        ulong address = page == StoragePage
            ? 0xFF00_0000 + (value & 0xFFF8)
            : page == IoApicPage
            ? 0xFEC0_0000 + (ulong)(random.Below(5) * 0x10)
            : 0xFEE0_0000 + (ulong)(random.Below(64) * 0x10);
        switch (random.Below(12))
        {
            case < 4:
                return m.Bus.ReadMmio(new Gpa(address), 4);
            case 4:
                m.Cpu.ApicBase ^= (value & 3) == 0 ? 0x800UL : 0;
                m.Apic.ProcessorMsrWritten();
                return 0;
            case 5:
                ulong apicBase = m.Cpu.ApicBase;
                m.Cpu.ApicBase |= 0xC00;
                ulong answer = m.Apic.TryReadApicMsr(0x800 + (value & 0x3F), out ulong read) ? read : ulong.MaxValue;
                bool written = m.Apic.TryWriteApicMsr((value & 0x40) != 0 ? 0x6E0 : 0x800 + (value & 0x3F), (value >> 8) & 0x3FFF);
                m.Cpu.ApicBase = apicBase;
                m.Apic.ProcessorMsrWritten();
                return answer + (written ? 1UL : 0);
            case 6:
                // Enabled, with the timer unmasked.
                m.Bus.WriteMmio(new Gpa(0xFEE0_00F0), 4, 0x1FF);
                m.Bus.WriteMmio(new Gpa(0xFEE0_0320), 4, value & 0x6_00FF);
                return 0;
            case 7:
                m.Bus.WriteMmio(new Gpa(0xFEC0_0000), 4, 0x10 + (value & 0x3F));
                m.Bus.WriteMmio(new Gpa(0xFEC0_0010), 4, value & 0xA7FF);
                m.IoApic.SetLine((int)(value >> 27) % 24, (value & 1) != 0);
                return 0;
            case 8:
                return m.Apic.InterruptPending ? m.Apic.Acknowledge() : 0x100UL;
            default:
                m.Bus.WriteMmio(new Gpa(address), 4, (value & 0x100) != 0 ? value & 0xFF : value);
                return 0;
        }
    }

    private static ulong HpetStep(TestMachine m, SplitMix64 random, uint value)
    {
        ulong[] registers = [0, 0x10, 0x10, 0x20, 0xF0, 0x100, 0x108, 0x120, 0x128, 0x140, 0x148];
        var address = new Gpa(0xFED0_0000 + registers[random.Below(registers.Length)] + (value & 4));
        if ((value & 0x300) == 0)
        {
            return m.Bus.ReadMmio(address, 4);
        }

        m.Bus.WriteMmio(address, 4 + (int)(value >> 29 & 4), (value & 0x400) != 0 ? value & 0x4F : value >> 11);
        return 0;
    }

    [Theory]
    [MemberData(nameof(Ports))]
    public void Device_SavedAndRestored_AnswersTheSame(string name, int[] ports)
    {
        for (ulong seed = 1; seed <= 20; seed++)
        {
            var random = new SplitMix64(seed);
            var first = new TestMachine(unitTest: name == nameof(UnitTest.TestDevice));
            for (int i = 0; i < 300; i++)
            {
                Step(first, random, ports);
            }

            TestMachine second = first.Copy();
            Assert.Equal(first.Digest(), second.Digest());
            int logged = first.Sink.Log.Count;
            int copied = second.Sink.Log.Count;
            ulong next = random.Next();
            var one = new SplitMix64(next);
            var two = new SplitMix64(next);
            for (int i = 0; i < 300; i++)
            {
                Assert.Equal(Step(first, one, ports), Step(second, two, ports));
            }

            Assert.Equal(first.Digest(), second.Digest());
            Assert.Equal(first.Sink.Log.Skip(logged), second.Sink.Log.Skip(copied), StringComparer.Ordinal);
        }
    }

    [Theory]
    [MemberData(nameof(Ports))]
    public void Device_RestoredWithoutQueueImage_SchedulesTheSameEvents(string name, int[] ports)
    {
        for (ulong seed = 1; seed <= 20; seed++)
        {
            var random = new SplitMix64(seed + 100);
            var first = new TestMachine(unitTest: name == nameof(UnitTest.TestDevice));
            for (int i = 0; i < 200; i++)
            {
                Step(first, random, ports);
                var second = new TestMachine(first.Clock.Now);
                TestMachine.CopyFields(first.Pit, second.Pit);
                TestMachine.CopyFields(first.Rtc, second.Rtc);
                second.Cpu.ApicBase = first.Cpu.ApicBase;
                TestMachine.CopyFields(first.Apic, second.Apic);
                TestMachine.CopyFields(first.Hpet, second.Hpet);
                TestMachine.CopyFields(first.Power, second.Power);
                Assert.Equal(first.Events.NextDeadline, second.Events.NextDeadline);
                Assert.Equal(first.Events.Count, second.Events.Count);
            }
        }
    }

    [Fact]
    public void Reset_AfterTraffic_EqualsFreshMachine()
    {
        var random = new SplitMix64(5);
        var m = new TestMachine();
        for (int i = 0; i < 5000; i++)
        {
            Step(m, random, [0x20, 0x21, 0x40, 0x43, 0x60, 0x64, 0x70, 0x71, 0x92, 0x3F8, 0x3F9, 0x3FA, 0xCF8, 0xCFC, 0x510]);
        }

        m.Clock.Now = 0;
        for (int line = 3; line < 16; line++)
        {
            m.Pic.SetLine(line, false);
        }

        foreach (Device device in m.Devices)
        {
            device.Reset();
        }

        Assert.Equal(ulong.MaxValue, m.Events.NextDeadline);
        m.Pic.Reset();
        Assert.Equal(new TestMachine().Digest(), m.Digest());
    }

    [Fact]
    public void Machine_HundredThousandRandomAccesses_NeverThrows()
    {
        var random = new SplitMix64(0x5EED);
        var m = new TestMachine();
        int[] popular = [0x20, 0x21, 0xA0, 0xA1, 0x40, 0x41, 0x42, 0x43, 0x60, 0x61, 0x64, 0x70, 0x71, 0x92, 0x3F8, 0x3FA, 0x402, 0x4D0, 0x510, 0x511, 0x600, 0x604, 0x608, 0xE0, 0xE8, 0x2000, 0x2014, 0x8900, 0xC000, 0xC080, 0xCF8, 0xCFC];
        for (int i = 0; i < 100_000; i++)
        {
            int kind = random.Below(12);
            ulong word = random.Next();
            ushort port = kind < 8 ? (ushort)(popular[random.Below(popular.Length)] + random.Below(4)) : (ushort)word;
            int size = 1 << random.Below(3);
            if (kind == 11)
            {
                m.Bus.WriteMmio(new Gpa(0xFED0_0000 + (word >> 16 & 0x1F8)), 1 + random.Below(8), word);
                m.Bus.WriteMmio(new Gpa(0xFEC0_0000 + (word >> 8 & 0x50)), 1 + random.Below(8), word);
                m.Bus.WriteMmio(new Gpa(0xFEE0_0000 + (word & 0xFFF)), 1 + random.Below(8), word);
                m.Bus.ReadMmio(new Gpa(word), 1 + random.Below(8));
                m.Advance(word >> random.Below(64) & 0xFFF_FFFF);
            }
            else if ((kind & 1) == 0)
            {
                m.Bus.WritePort(port, size, (uint)(word >> 32));
            }
            else
            {
                m.Bus.ReadPort(port, size);
            }
        }

        Assert.True(m.Bus.FloatingPortAccesses > 1000);
        Assert.True(m.Bus.FloatingMmioAccesses > 1000);
    }

    [Fact]
    public void Machine_RandomFieldValues_NeverThrows()
    {
        for (ulong seed = 0; seed < 300; seed++)
        {
            var random = new SplitMix64(seed);
            var m = new TestMachine(random.Next() >> random.Below(64));
            foreach (Device device in m.Devices)
            {
                for (int i = 0; i < device.Fields.Length; i++)
                {
                    byte[] bytes = new byte[device.Fields[i].Width];
                    for (int b = 0; b < bytes.Length; b++)
                    {
                        bytes[b] = (byte)random.Next();
                    }

                    device.WriteField(i, bytes);
                }
            }

            for (int i = 0; i < 50; i++)
            {
                int[] ports = [0x20, 0x40, 0x42, 0x43, 0x60, 0x61, 0x64, 0x70, 0x71, 0x3F8, 0x3FA, 0xCF8, 0xCFC, 0x511];
                m.Events.RunDue(m.Clock.Now);
                m.Bus.ReadPort((ushort)ports[random.Below(ports.Length)], 1);
                m.Bus.WritePort((ushort)ports[random.Below(ports.Length)], 1, (uint)random.Next());
            }
        }
    }

    [Fact]
    public void Fields_EveryDevice_HaveUniqueIdsAndLegalWidths()
    {
        foreach (Device device in new TestMachine().Devices)
        {
            StateField[] fields = device.Fields.ToArray();
            Assert.Equal(fields.Length, fields.Select(f => f.Id).Distinct().Count());
            Assert.All(fields, f => Assert.InRange(f.Width, 1, 4096));
        }

        Device serial = new TestMachine().Serial;
        Assert.Throws<ArgumentException>(() => serial.ReadField(0, new byte[2]));
        Assert.Throws<ArgumentException>(() => new StateMapBuilder<TestClock>().Add(1, "a", 1, static _ => ref s_bytes[0]).Add(1, "b", 1, static _ => ref s_bytes[0]));
    }

    /// <summary>Everything in a device that can change is seen through its fields, but for what is derived from them.</summary>
    [Fact]
    public void Fields_EveryMutableMember_IsListed()
    {
        string[] derived = ["Pic8259Pair._pending", "FwCfg._selected", "PciHost._resetControl"];
        var missing = new List<string>();
        int seen = 0;
        foreach (Device device in new TestMachine().Devices)
        {
            foreach ((object owner, FieldInfo member) in Members(device))
            {
                string name = $"{owner.GetType().Name}.{member.Name}";
                if (derived.Contains(name, StringComparer.Ordinal))
                {
                    continue;
                }

                seen++;
                byte[] before = Image(device);
                object? value = member.GetValue(owner);
                if (value is byte[] bytes)
                {
                    bytes[^1] ^= 1;
                }
                else
                {
                    member.SetValue(owner, value switch { bool b => !b, byte b => (byte)(b ^ 1), ushort w => (ushort)(w ^ 1), uint d => d ^ 1, ulong q => q ^ 1, _ => throw new InvalidOperationException(name) });
                }

                if (before.AsSpan().SequenceEqual(Image(device)))
                {
                    missing.Add(name);
                }
            }
        }

        Assert.Empty(missing);
        Assert.True(seen > 100);
    }

    private static IEnumerable<(object Owner, FieldInfo Member)> Members(object owner)
    {
        const BindingFlags All = BindingFlags.Instance | BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.DeclaredOnly;
        foreach (FieldInfo member in owner.GetType().GetFields(All))
        {
            object? value = member.GetValue(owner);
            IEnumerable<object> parts = value is PitChannel[] channels ? channels : value is object[] others && others[0].GetType().DeclaringType == typeof(Hpet) ? others : value is PicChip or PciConfiguration ? [value] : [];
            foreach (object part in parts)
            {
                foreach ((object, FieldInfo) inner in Members(part))
                {
                    yield return inner;
                }
            }

            if (!member.IsInitOnly && !member.Name.Contains('<', StringComparison.Ordinal))
            {
                yield return (owner, member);
            }
        }
    }

    private static byte[] Image(Device device)
    {
        var all = new List<byte>();
        for (int i = 0; i < device.Fields.Length; i++)
        {
            byte[] bytes = new byte[device.Fields[i].Width];
            device.ReadField(i, bytes);
            all.AddRange(bytes);
        }

        return [.. all];
    }

    private static readonly byte[][] s_bytes = [new byte[1]];
}
