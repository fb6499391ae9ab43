using VmFuzz.Arch;
using VmFuzz.Machines;

namespace VmFuzz.Machines.Tests;

public sealed class MachineTests
{
    // mov eax, [0x30000] / inc eax / mov [0x30000], eax / out 0xe9, al / mov al, 5 / out 0xf4, al
    private static readonly byte[] Guest =
    [
        0x8B, 0x04, 0x25, 0x00, 0x00, 0x03, 0x00, 0xFF, 0xC0, 0x89, 0x04, 0x25, 0x00, 0x00, 0x03, 0x00, 0xE6, 0xE9, 0xB0, 0x05, 0xE6, 0xF4,
    ];

    [Theory]
    [InlineData(Accelerator.Bare)]
    [InlineData(Accelerator.Kvm)]
    public void Reset_AfterARun_GivesTheSameRunAgain(Accelerator accelerator)
    {
        using Machine machine = Make(Guest, accelerator);
        ulong start = machine.Memory.Digest();
        MachineStop first = machine.Run();
        (ulong retired, ulong console, ulong memory) = (machine.Processor.Retired, machine.ConsoleHash, Digest(machine));
        Assert.Equal(MachineStopKind.DebugExit, first.Kind);
        Assert.Equal(11, first.GuestStatus);
        for (int i = 0; i < 3; i++)
        {
            machine.Reset();
            Assert.Equal(accelerator == Accelerator.Bare ? start : machine.Memory.FullDigest(), machine.Memory.Digest());
            Assert.Equal(0UL, machine.Processor.Retired);
            Assert.Equal(first, machine.Run());
            Assert.Equal((retired, console, memory), (machine.Processor.Retired, machine.ConsoleHash, Digest(machine)));
        }
    }

    [Theory]
    [InlineData(Accelerator.Bare)]
    [InlineData(Accelerator.Kvm)]
    public void Halt_WithInterruptsOff_EndsWithItsReason(Accelerator accelerator)
    {
        using Machine machine = Make([0xFA, 0xF4], accelerator);
        MachineStop stop = machine.Run();
        Assert.Equal(MachineStopKind.Halted, stop.Kind);
        Assert.Contains("halted", stop.Text, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(Accelerator.Bare)]
    [InlineData(Accelerator.Kvm)]
    public void TripleFault_WithoutAnInterruptTable_EndsAsShutdown(Accelerator accelerator)
    {
        using Machine machine = Make([0x0F, 0x0B], accelerator);
        Assert.Equal(MachineStopKind.Shutdown, machine.Run().Kind);
    }

    // UD2, whose handler is UD2: nothing retires. Memory behind the stack is not where code or vectors are.
    [Theory]
    [InlineData(Accelerator.Bare)]
    [InlineData(Accelerator.Kvm)]
    public void Handler_ThatFaultsAtOnce_EndsTheRunWithItsReason(Accelerator accelerator)
    {
        byte[] code =
        [
            0xB8, 0x00, 0x50, 0x8E, 0xD0, // mov ss, 0x5000
            0x31, 0xC0, 0x8E, 0xD8, // mov ds, 0
            0xC7, 0x06, 0x18, 0x00, 0x15, 0x00, // vector 6: 1000:0015
            0x8C, 0x0E, 0x1A, 0x00,
            0x0F, 0x0B, 0x0F, 0x0B,
        ];
        using Machine machine = Machine.Create(Options(code, accelerator) with { FlatMode = FlatMode.Real16 }, new NoInputs());
        MachineStop stop = machine.Run();
        Assert.Equal(MachineStopKind.EventStorm, stop.Kind);
        Assert.Contains("at RIP 0x15", stop.Text, StringComparison.Ordinal);
        (ulong retired, ulong memory) = (machine.Processor.Retired, Digest(machine));
        machine.Reset();
        Assert.Equal(stop, machine.Run());
        Assert.Equal((retired, memory), (machine.Processor.Retired, Digest(machine)));
    }

    [Theory]
    [InlineData(Accelerator.Bare)]
    [InlineData(Accelerator.Kvm)]
    public void MaxInstructions_OfAnEndlessLoop_StopsAtTheCount(Accelerator accelerator)
    {
        using Machine machine = Machine.Create(Options([0xEB, 0xFE], accelerator) with { MaxInstructions = 12345 }, new NoInputs());
        Assert.Equal(MachineStopKind.MaxInstructions, machine.Run().Kind);
        Assert.Equal(12345UL, machine.Processor.Retired);
    }

    [Fact]
    public void UntilSerial_TextWithARepeatedStart_IsFound()
    {
        // "aab" in "aaab": the match must fall back by one.
        byte[] code = [.. "aaabX"u8.ToArray().SelectMany(static c => new byte[] { 0xB0, c, 0xE6, 0xE9 }), 0xF4];
        using Machine machine = Machine.Create(Options(code, Accelerator.Bare) with { UntilSerial = "aab" }, new NoInputs());
        Assert.Equal(MachineStopKind.SerialMatch, machine.Run().Kind);
        Assert.Equal(4UL, machine.ConsoleLength);
    }

    [Theory]
    [InlineData(Accelerator.Bare)]
    [InlineData(Accelerator.Kvm)]
    public void Halt_UnderATimerThatIsMasked_EndsAfterTheSameTimeAgainAfterAReset(Accelerator accelerator)
    {
        // mov al, 0x34 / out 0x43, al / xor al, al / out 0x40, al / out 0x40, al / mov al, 0xff / out 0x21, al / sti / hlt
        byte[] code = [0xB0, 0x34, 0xE6, 0x43, 0x30, 0xC0, 0xE6, 0x40, 0xE6, 0x40, 0xB0, 0xFF, 0xE6, 0x21, 0xFB, 0xF4];
        byte[] rom = new byte[4096];
        code.CopyTo(rom, 4096 - 16);
        var options = new MachineOptions { Kind = MachineKind.Pc, Accelerator = accelerator, Images = [new MachineImage("bios", "rom", rom)] };
        using Machine machine = Machine.Create(options, new NoInputs());
        MachineStop first = machine.Run();
        ulong time = machine.Clock.Now;
        Assert.Equal(MachineStopKind.Halted, first.Kind);
        Assert.InRange(time, 3_600_000_000_000UL, 3_601_000_000_000UL);
        machine.Reset();
        Assert.Equal(first, machine.Run());
        Assert.Equal(time, machine.Clock.Now);
    }

    [Fact]
    public void Pc_RomBelowOneMebibyte_IsTheEndOfTheImage()
    {
        byte[] rom = new byte[1 << 20];
        for (int i = 0; i < rom.Length; i++)
        {
            rom[i] = (byte)(i >> 12);
        }

        using Machine machine = Machine.Create(new MachineOptions { Kind = MachineKind.Pc, Images = [new MachineImage("bios", "rom", rom)] }, new NoInputs());
        byte[] one = new byte[1];
        foreach (ulong address in (ulong[])[0xFFFF_FFF0, 0xFFF0_0000, 0xF_FFF0, 0xE_0000])
        {
            Assert.True(machine.Memory.TryRead(new Gpa(address), one));
            Assert.Equal(rom[(int)(address & 0xF_FFFF)], one[0]);

            // Below 1 MiB lies a copy in memory, as firmware sets the host bridge up.
            bool isCopy = address < 1 << 20;
            Assert.Equal(isCopy, machine.Memory.TryWrite(new Gpa(address), [0xEE]));
            Assert.True(machine.Memory.TryRead(new Gpa(address), one));
            Assert.Equal(isCopy ? 0xEE : rom[(int)(address & 0xF_FFFF)], one[0]);
        }

        Assert.True(machine.Memory.TryRead(new Gpa(0xFFFF_FFF0), one));
        Assert.Equal(rom[^16], one[0]);

        Assert.False(machine.Memory.TryRead(new Gpa(0xA_0000), one));
        Assert.True(machine.Memory.TryWrite(new Gpa(0xC_0000), one));
    }

    [Fact]
    public void Settings_OfEveryOption_ComeBack()
    {
        var options = new MachineOptions
        {
            Kind = MachineKind.Pc,
            Accelerator = Accelerator.Kvm,
            Memory = 64 << 20,
            Cpu = "vmfuzz32",
            ExitCost = 0,
            RtcBase = -5,
            FlatMode = FlatMode.Real16,
            LoadAddress = 0x9000,
            UntilSerial = "DRAM:",
            MaxInstructions = 77,
        };
        Assert.Null(MachineSettings.FromSettings(MachineSettings.ToSettings(options), out MachineOptions back));
        Assert.Equal(options, back);
    }

    [Theory]
    [InlineData("machine", "7")]
    [InlineData("machine", "")]
    [InlineData("memory", "-1")]
    [InlineData("accel", "tcg")]
    [InlineData("nonsense", "1")]
    public void Settings_ThatMakeNoSense_AreRefusedInOneLine(string key, string value)
    {
        string? wrong = MachineSettings.FromSettings([KeyValuePair.Create(key, value)], out _);
        Assert.NotNull(wrong);
        Assert.Contains(key, wrong, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', wrong);
    }

    [Theory]
    [InlineData(0UL)]
    [InlineData(12345UL)]
    [InlineData(1UL << 40)]
    public void Memory_OfAnImpossibleSize_IsRefused(ulong bytes) =>
        Assert.Contains("-m", Options(Guest, Accelerator.Bare) with { Memory = bytes } is { } o ? o.Validate() : null, StringComparison.Ordinal);

    private static ulong Digest(Machine machine)
    {
        machine.Processor.FlushWriteTlb();
        return machine.Memory.Digest();
    }

    private static MachineOptions Options(byte[] code, Accelerator accelerator) => new()
    {
        Accelerator = accelerator,
        Images = [new MachineImage("code", "guest", code)],
    };

    private static Machine Make(byte[] code, Accelerator accelerator) => Machine.Create(Options(code, accelerator), new NoInputs());
}
