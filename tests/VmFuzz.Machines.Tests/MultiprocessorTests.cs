using VmFuzz.Arch;
using VmFuzz.Machines;

namespace VmFuzz.Machines.Tests;

/// <summary>Machines of several VCPUs: turns, halts, INIT, limits.</summary>
public sealed class MultiprocessorTests
{
    private const ulong Command = 0xFEE0_0300;
    private const ulong StartUpPage = 0x10;

    private static readonly byte[] Spin = [0xEB, 0xFE];
    private static readonly byte[] HaltForEver = [0xFA, 0xF4];

    // A ROM whose reset vector holds up to 16 bytes of code.
    private static MachineOptions Options(byte[] atReset, int processors = 2)
    {
        byte[] rom = new byte[4096];
        atReset.CopyTo(rom, 0xFF0);
        return new MachineOptions
        {
            Kind = MachineKind.Pc,
            Processors = processors,
            Memory = 1 << 20,
            MaxInstructions = 100_000,
            Images = [new MachineImage(MachineImage.BiosRole, "test.rom", rom)],
        };
    }

    // A machine whose second VCPU has been started at other code, as if the first had done it.
    private static Machine Started(byte[] first, byte[] second, IInputSource? inputs = null)
    {
        MachineOptions options = Options(first);
        Assert.Null(options.Validate());
        Machine machine = Machine.Create(options, inputs ?? new NoInputs());
        Assert.True(machine.Memory.TryLoad(new Gpa(StartUpPage << 12), second));
        machine.Bus.WriteMmio(new Gpa(Command), 4, 0xC4500);
        machine.Bus.WriteMmio(new Gpa(Command), 4, 0xC4600 | StartUpPage);
        return machine;
    }

    [Theory]
    [InlineData(MachineKind.Flat, Accelerator.Bare, 2, "only -machine pc and unit-test")]
    [InlineData(MachineKind.Microvm, Accelerator.Bare, 2, "only -machine pc and unit-test")]
    [InlineData(MachineKind.Pc, Accelerator.Kvm, 2, "use -accel bare")]
    [InlineData(MachineKind.Pc, Accelerator.Bare, 0, "1 to 8 processors")]
    [InlineData(MachineKind.Pc, Accelerator.Bare, 9, "1 to 8 processors")]
    public void Validate_ProcessorsThatCannotBe_SaysWhatCan(MachineKind kind, Accelerator accelerator, int processors, string says) =>
        Assert.Contains(says, (Options(Spin, processors) with { Kind = kind, Accelerator = accelerator }).Validate(), StringComparison.Ordinal);

    [Fact]
    public void Settings_OfOneProcessor_DoNotNameIt()
    {
        Assert.DoesNotContain(MachineSettings.ToSettings(Options(Spin, 1)), static s => s.Key == "smp");
        MachineOptions four = Options(Spin, 4);
        Assert.Null(MachineSettings.FromSettings(MachineSettings.ToSettings(four), out MachineOptions back));
        Assert.Equal(4, back.Processors);
        Assert.NotNull(MachineSettings.FromSettings([KeyValuePair.Create("smp", "1")], out _));
        Assert.NotNull(MachineSettings.FromSettings([KeyValuePair.Create("smp", "9")], out _));
    }

    [Fact]
    public void Limit_OfInstructions_CountsAllVcpus()
    {
        using Machine machine = Started(Spin, Spin);
        Assert.Equal(MachineStopKind.MaxInstructions, machine.Run().Kind);
        Assert.Equal(100_000UL, machine.Retired);
        Assert.Equal(100_000UL, machine.Clock.Now);
        Assert.All(machine.Processors, static processor => Assert.InRange(processor.Retired, 20_000UL, 80_000UL));
    }

    [Fact]
    public void Vcpu_ThatWaitsForItsStart_HasNoTurns()
    {
        using Machine machine = Machine.Create(Options(Spin), new NoInputs());
        machine.Run();
        Assert.Equal((100_000UL, 0UL), (machine.Processors[0].Retired, machine.Processors[1].Retired));
    }

    [Fact]
    public void Turns_OfTwoThatSpin_HaveTheLengthsThatAreDocumented()
    {
        var lengths = new List<ulong>();
        var watch = new TurnWatch(lengths);
        using Machine machine = Started(Spin, Spin, watch);
        watch.Machine = machine;
        machine.Run();

        // The last turn is cut by the limit.
        Assert.All(lengths[..^1], static length => Assert.InRange(length, 32UL, 32_767UL));
        Assert.True(lengths.Count > 5);
    }

    [Fact]
    public void Halt_OfOneVcpu_LeavesTheTimeToTheOther()
    {
        using Machine machine = Started(HaltForEver, Spin);
        Assert.Equal(MachineStopKind.MaxInstructions, machine.Run().Kind);
        Assert.Equal(2UL, machine.Processors[0].Retired);
        Assert.Equal(99_998UL, machine.Processors[1].Retired);
    }

    [Fact]
    public void Halt_OfAllVcpusForEver_EndsTheRun()
    {
        using Machine machine = Started(HaltForEver, HaltForEver);
        MachineStop stop = machine.Run();
        Assert.Equal(MachineStopKind.Halted, stop.Kind);
        Assert.Contains("interrupts disabled", stop.Text, StringComparison.Ordinal);
        Assert.Equal(4UL, machine.Retired);
    }

    [Fact]
    public void Shutdown_OfASecondVcpu_NamesIt()
    {
        // lidt [0x2000], where there are zeros; int3
        using Machine machine = Started(Spin, [0x0F, 0x01, 0x1E, 0x00, 0x20, 0xCC]);
        MachineStop stop = machine.Run();
        Assert.Equal(MachineStopKind.Shutdown, stop.Kind);
        Assert.EndsWith("of processor 1", stop.Text, StringComparison.Ordinal);
    }

    [Fact]
    public void Init_OfTheFirstVcpuWhileItRuns_StartsItAgainBetweenTwoInstructions()
    {
        // inc word [0x500]; jmp $
        using Machine machine = Started([0xFF, 0x06, 0x00, 0x05, 0xEB, 0xFE], Spin, new OneInput(0, InputKind.Init, 1000));
        machine.Run();
        Span<byte> count = stackalloc byte[2];
        Assert.True(machine.Memory.TryRead(new Gpa(0x500), count));
        Assert.Equal(2, count[0]);
        Assert.Equal(100_000UL, machine.Retired);
    }

    [Fact]
    public void Init_OfASecondVcpu_MakesItWaitAgain()
    {
        using Machine machine = Started(Spin, Spin, new OneInput(1, InputKind.Init, 1000));
        machine.Run();
        Assert.Equal((1000UL, 99_000UL), (machine.Processors[1].Retired, machine.Processors[0].Retired));
        Assert.False(machine.Processors[1].CanRun);
    }

    [Fact]
    public void Nmi_FromOutside_IsTakenByTheVcpuThatWasAsked()
    {
        // Without a handler: the vector table of real mode holds zeros, so that it goes on at 0000:0000, where there are zeros too.
        using Machine machine = Started(Spin, HaltForEver, new OneInput(0, InputKind.Nmi, 5000));
        machine.Run();
        Assert.NotEqual(0xFFF0UL, machine.Processors[0].Rip);
        Assert.Equal(2UL, machine.Processors[1].Retired);
    }

    // One input at a count of one VCPU.
    private sealed class OneInput(int vcpu, InputKind kind, ulong at) : IInputSource
    {
        private bool _given;

        public ulong NextDue(int asked, ulong retired) => asked == vcpu && !_given ? Math.Max(at, retired) : ulong.MaxValue;

        public bool TryTake(InputPoint point, in Position position, out Input input)
        {
            input = new Input(kind);
            bool due = point == InputPoint.Boundary && position.Vcpu == vcpu && position.Retired == at && !_given;
            _given |= due;
            return due;
        }
    }

    // Looks, at each boundary that asks, how long the VCPUs ran since the other one did.
    private sealed class TurnWatch(List<ulong> lengths) : IInputSource
    {
        private int _vcpu = -1;
        private ulong _since;

        public Machine? Machine { get; set; }

        public ulong NextDue(int vcpu, ulong retired)
        {
            ulong now = Machine!.Retired;
            if (vcpu != _vcpu)
            {
                if (_vcpu >= 0)
                {
                    lengths.Add(now - _since);
                }

                _vcpu = vcpu;
                _since = now;
            }

            return ulong.MaxValue;
        }

        public bool TryTake(InputPoint point, in Position at, out Input input)
        {
            input = default;
            return false;
        }
    }
}
