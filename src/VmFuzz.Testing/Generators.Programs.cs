using System.Collections.Immutable;
using FsCheck;
using FsCheck.Fluent;
using VmFuzz.Arch;
using VmFuzz.Machines;
using VmFuzz.Replay;

namespace VmFuzz.Testing;

// Guests, what comes in from outside, and the machines they run on.
public static partial class Generators
{
    /// <summary>The named places of the run path at which inputs may come, boundaries apart.</summary>
    public static ImmutableArray<InputPoint> RunPathPoints { get; } =
    [
        InputPoint.Signal, InputPoint.Reschedule, InputPoint.AfterRequests, InputPoint.AfterInjection, InputPoint.AfterPrepare,
        InputPoint.BeforeLastCheck, InputPoint.BeforeEntry,
    ];

    /// <summary>Inputs that a guest must not notice: they only bring it out of guest mode.</summary>
    public static ImmutableArray<InputKind> Disturbances { get; } = [InputKind.Kick, InputKind.Signal, InputKind.Reschedule, InputKind.HostVector];

    /// <summary>One valid instruction on registers and the data area of <see cref="GuestLayout"/>, encoded.</summary>
    public static Arbitrary<byte[]> Instructions(FlatMode mode) =>
        Arb.From(Word64.Select(seed => AtomMaker.Of(mode).Plain(new SplitMix(seed))));

    /// <summary>Programs; shrinks by leaving atoms out, to one round, to zero registers.</summary>
    /// <param name="allowed">What they may involve.</param>
    /// <param name="interrupts">Whether IF may be set.</param>
    /// <param name="tail">Iterations of the empty loop at the end.</param>
    /// <param name="modes">Modes; none means all.</param>
    public static Arbitrary<GuestProgram> Programs(AtomTraits allowed, bool interrupts = false, int tail = 0, params FlatMode[] modes)
    {
        FlatMode[] choices = modes.Length == 0 ? [FlatMode.Real16, FlatMode.Protected32, FlatMode.Long64] : modes;
        Gen<GuestProgram> gen =
            from mode in Gen.Elements(choices)
            from registers in RegisterFileGen
            from seeds in Gen.NonEmptyListOf(Word64)
            from rounds in Gen.Choose(1, 6)
            select new GuestProgram(mode, registers, [.. seeds.Select(seed => AtomMaker.Of(mode).Make(seed, allowed))], rounds, interrupts, tail);
        return Arb.From(gen, Shrink);
    }

    /// <summary>Schedules of inputs; shrinks by leaving inputs out.</summary>
    /// <param name="span">Positions are from 2 to this retired count.</param>
    /// <param name="kinds">Kinds of inputs; none means those that a flat machine has on both accelerators.</param>
    public static Arbitrary<InputSchedule> Schedules(int span, params InputKind[] kinds)
    {
        InputKind[] choices = kinds.Length == 0
            ? [InputKind.Nmi, InputKind.Interrupt, InputKind.Kick, InputKind.ConsoleByte, InputKind.Reschedule, InputKind.Signal, InputKind.HostVector, InputKind.StealDelay]
            : kinds;
        Gen<ScheduledInput> one =
            from at in Gen.Choose(2, span)
            from input in InputGen(choices)
            from point in Gen.Frequency((3, Gen.Constant(InputPoint.Boundary)), (1, Gen.Elements(RunPathPoints.AsEnumerable())))
            select new ScheduledInput((ulong)at, point, input);
        Gen<InputSchedule> gen =
            from inputs in Gen.ListOf(one)
            from seed in Gen.Choose(0, int.MaxValue)
            select InputSchedule.Of(inputs, (ulong)seed);
        return Arb.From(gen, Shrink);
    }

    /// <summary>One input of any kind, with a value that the kind may have; shrinks to the value 0 where that is one.</summary>
    public static Arbitrary<Input> Inputs() => Arb.From(
        InputGen(Enum.GetValues<InputKind>().Where(static k => k != InputKind.None)),
        static input => input.Value != 0 && ValueOf(input.Kind, 0) == 0 ? [input with { Value = 0, Auxiliary = 0 }] : []);

    /// <summary>Valid options of flat machines; shrinks towards the default ones.</summary>
    public static Arbitrary<MachineOptions> FlatOptions()
    {
        Gen<MachineOptions> gen =
            from program in Programs(AtomTraits.All).Generator
            from accelerator in Gen.Elements(Accelerator.Bare, Accelerator.Kvm)
            from megabytes in Gen.Choose(4, 32)
            from cost in Gen.Elements(0UL, 1UL, 1000UL, 123_456UL)
            from limit in Gen.Choose(0, 1_000_000)
            from rtc in Gen.Choose(0, int.MaxValue)
            from answers in Gen.Elements(false, true)
            from until in Gen.Elements("", "login: ", "ü\n")
            from cpu in Gen.Elements(Cpu.CpuModels.Names.AsEnumerable())
            select program.Options(accelerator) with
            {
                Memory = (ulong)megabytes << 20,
                ExitCost = cost,
                MaxInstructions = (ulong)limit,
                RtcBase = rtc,
                UserAnswers = answers,
                UntilSerial = until,
                Cpu = cpu,
            };
        return Arb.From(gen, static o => Simpler(o));
    }

    /// <summary>What is done to a guest's memory, step by step; shrinks by leaving steps out.</summary>
    /// <param name="span">Addresses are below this.</param>
    public static Arbitrary<ImmutableArray<MemoryStep>> MemorySteps(int span)
    {
        Gen<MemoryStep> one =
            from action in Gen.Frequency(
                (8, Gen.Constant(MemoryAction.Write)), (2, Gen.Constant(MemoryAction.Load)), (1, Gen.Constant(MemoryAction.Reset)), (1, Gen.Constant(MemoryAction.Commit)))
            from address in Gen.Choose(0, span - 1)
            from length in Gen.Frequency((4, Gen.Choose(1, 9)), (1, Gen.Choose(1, 9000)))
            from seed in Word64
            select new MemoryStep(action, new Gpa((ulong)address), length, seed);
        return Arb.From(Gen.NonEmptyListOf(one).Select(static l => l.ToImmutableArray()), static steps => Without(steps));
    }

    private static Gen<Input> InputGen(IEnumerable<InputKind> kinds) =>
        from kind in Gen.Elements(kinds)
        from value in Gen.Choose(0, 0xFFFF)
        select new Input(kind, ValueOf(kind, (ulong)value), kind == InputKind.Random ? (ulong)value & 1 : 0);

    private static ulong ValueOf(InputKind kind, ulong value) => kind switch
    {
        InputKind.Interrupt or InputKind.HostVector => 0x20 + (value % 0xE0),
        InputKind.ConsoleByte or InputKind.Sipi => value & 0xFF,
        InputKind.StealDelay or InputKind.Answer or InputKind.Random or InputKind.PageAbsent or InputKind.PageReady => value,
        InputKind.PmuOverflow => value & 7,
        _ => 0,
    };

    private static IEnumerable<GuestProgram> Shrink(GuestProgram program)
    {
        foreach (ImmutableArray<GuestAtom> fewer in Without(program.Atoms))
        {
            yield return program with { Atoms = fewer };
        }

        if (program.Rounds > 1)
        {
            yield return program with { Rounds = 1 };
            yield return program with { Rounds = program.Rounds - 1 };
        }

        foreach (RegisterFile registers in Shrink(program.Registers))
        {
            yield return program with { Registers = registers };
        }
    }

    private static IEnumerable<InputSchedule> Shrink(InputSchedule schedule) =>
        Without(schedule.Inputs).Select(fewer => schedule with { Inputs = fewer });

    private static IEnumerable<MachineOptions> Simpler(MachineOptions options)
    {
        var plain = new MachineOptions();
        ReadOnlySpan<MachineOptions> simpler =
        [
            options with { ExitCost = plain.ExitCost },
            options with { MaxInstructions = plain.MaxInstructions },
            options with { RtcBase = plain.RtcBase },
            options with { UserAnswers = plain.UserAnswers },
            options with { UntilSerial = plain.UntilSerial },
            options with { Cpu = plain.Cpu },
        ];
        return [.. simpler.ToArray().Where(s => s != options)];
    }
}
