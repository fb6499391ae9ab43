using System.Collections.Immutable;
using FsCheck;
using FsCheck.Fluent;
using VmFuzz.Arch;
using VmFuzz.Machines;
using VmFuzz.Replay;
using VmFuzz.Trace;
using VmFuzz.Vmx;

namespace VmFuzz.Testing;

/// <summary>One changed field of a VMCS.</summary>
/// <param name="Field">The field.</param>
/// <param name="Value">Its value; cut to the field's width.</param>
public readonly record struct VmcsChange(VmcsField Field, ulong Value)
{
    /// <inheritdoc/>
    public override string ToString() => $"{Field}=0x{Value:x}";
}

/// <summary>A value for a field of a component, by index into its list of fields.</summary>
/// <param name="Index">Index, from 0.</param>
/// <param name="Seed">Where the bytes come from.</param>
public readonly record struct FieldValue(int Index, ulong Seed)
{
    /// <summary>The bytes.</summary>
    /// <param name="width">How many.</param>
    public byte[] Bytes(int width)
    {
        var random = new SplitMix(Seed);
        byte[] bytes = new byte[width];
        for (int i = 0; i < width; i++)
        {
            bytes[i] = (byte)(i % 8 == 0 ? AtomMaker.Value(random) : random.Next());
        }

        return bytes;
    }
}

/// <summary>Generators and shrinkers of what machines run on and produce.</summary>
public static class Generators
{
    private static readonly ImmutableArray<InputPoint> Points =
    [
        InputPoint.Signal, InputPoint.Reschedule, InputPoint.AfterRequests, InputPoint.AfterInjection, InputPoint.AfterPrepare,
        InputPoint.BeforeLastCheck, InputPoint.BeforeEntry,
    ];

    /// <summary>The named places of the run path at which inputs may come, boundaries apart.</summary>
    public static ImmutableArray<InputPoint> RunPathPoints => Points;

    /// <summary>Any 64 bits.</summary>
    public static Gen<ulong> Word64 { get; } =
        Gen.Choose(0, int.MaxValue).Three().Select(static p => ((ulong)p.Item1 << 33) ^ ((ulong)p.Item2 << 16) ^ (ulong)p.Item3);

    /// <summary>64 bits, often small, a power of two or all ones.</summary>
    public static Gen<ulong> Interesting { get; } = Word64.Select(static seed => AtomMaker.Value(new SplitMix(seed)));

    /// <summary>Register files; shrinks towards zeros.</summary>
    public static Arbitrary<RegisterFile> RegisterFiles() => Arb.From(RegisterFileGen, ShrinkRegisters);

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
            from kind in Gen.Elements(choices)
            from point in Gen.Frequency((3, Gen.Constant(InputPoint.Boundary)), (1, Gen.Elements(Points.AsEnumerable())))
            from value in Gen.Choose(0, 0xFFFF)
            select new ScheduledInput((ulong)at, point, new Input(kind, ValueOf(kind, (ulong)value)));
        Gen<InputSchedule> gen =
            from inputs in Gen.ListOf(one)
            from seed in Gen.Choose(0, int.MaxValue)
            select InputSchedule.Of(inputs, (ulong)seed);
        return Arb.From(gen, Shrink);
    }

    /// <summary>Up to <paramref name="most"/> fields of the golden VMCS changed; shrinks by changing fewer.</summary>
    public static Arbitrary<ImmutableArray<VmcsChange>> VmcsChanges(int most = 3)
    {
        VmcsField[] writable = [.. VmcsFieldInfo.All.Where(static f => f.Group != VmcsFieldGroup.ReadOnly).Select(static f => f.Field)];
        VmcsField[] checkedFields = [.. EntryChecks.Default.Rows.SelectMany(static r => r.Reads).Distinct().Order()];
        using Vmcs golden = GoldenVmcs.Create(VmxCapabilities.Default);
        var values = writable.Concat(checkedFields).Distinct().ToDictionary(static f => f, f => golden[f]);
        Gen<VmcsChange> one =
            from field in Gen.Frequency((3, Gen.Elements(checkedFields)), (1, Gen.Elements(writable)))
            from bit in Gen.Choose(0, 63)
            from other in Gen.Choose(0, 63)
            from any in Interesting
            from how in Gen.Choose(0, 5)
            select new VmcsChange(field, how switch
            {
                0 => any,
                1 => values[field] ^ (1UL << bit) ^ (1UL << other),
                2 => values[field] + any % 16,
                _ => values[field] ^ (1UL << (bit & (how == 3 ? 15 : 63))),
            });
        Gen<ImmutableArray<VmcsChange>> gen =
            from count in Gen.Choose(0, most)
            from changes in Gen.ArrayOf(one, count)
            select changes.ToImmutableArray();
        return Arb.From(gen, static changes => Without(changes));
    }

    /// <summary>Values for fields of a component.</summary>
    /// <param name="fields">Number of its fields.</param>
    public static Arbitrary<ImmutableArray<FieldValue>> FieldValues(int fields)
    {
        Gen<FieldValue> one =
            from index in Gen.Choose(0, fields - 1)
            from seed in Word64
            select new FieldValue(index, seed);
        return Arb.From(Gen.NonEmptyListOf(one).Select(static l => l.ToImmutableArray()), static values => Without(values));
    }

    /// <summary>Trace events of every kind but the end, with any values that the schema allows.</summary>
    public static Arbitrary<TraceEvent> TraceEvents() => Arb.From(
        from row in Gen.Elements(TraceSchema.Rows.Where(static r => r.Kind != TraceEventKind.End))
        from seed in Word64
        select Event(row, new SplitMix(seed)));

    /// <summary>Valid options of flat machines; shrinks towards the default ones.</summary>
    public static Arbitrary<MachineOptions> FlatOptions()
    {
        Gen<MachineOptions> gen =
            from program in Programs(AtomTraits.All).Generator
            from accelerator in Gen.Elements(Accelerator.Bare, Accelerator.Kvm)
            from megabytes in Gen.Choose(4, 32)
            from cost in Gen.Elements(0UL, 1UL, 1000UL, 123_456UL)
            from limit in Gen.Choose(0, 1_000_000)
            select program.Options(accelerator) with { Memory = (ulong)megabytes << 20, ExitCost = cost, MaxInstructions = (ulong)limit };
        return Arb.From(gen, static o => Simpler(o));
    }

    private static Gen<RegisterFile> RegisterFileGen { get; } =
        Gen.ArrayOf(Interesting, 16).Select(static v => new RegisterFile([.. v]));

    private static ulong ValueOf(InputKind kind, ulong value) => kind switch
    {
        InputKind.Interrupt => 0x20 + (value % 0xE0),
        InputKind.HostVector => 0x20 + (value % 0xE0),
        InputKind.ConsoleByte => value & 0xFF,
        InputKind.StealDelay => value,
        _ => 0,
    };

    private static IEnumerable<RegisterFile> ShrinkRegisters(RegisterFile registers)
    {
        if (!registers.Equals(RegisterFile.Zero))
        {
            yield return RegisterFile.Zero;
            for (int i = 0; i < registers.Values.Length; i++)
            {
                if (registers.Values[i] != 0)
                {
                    yield return new RegisterFile(registers.Values.SetItem(i, 0));
                }
            }
        }
    }

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

        foreach (RegisterFile registers in ShrinkRegisters(program.Registers))
        {
            yield return program with { Registers = registers };
        }
    }

    private static IEnumerable<InputSchedule> Shrink(InputSchedule schedule) =>
        Without(schedule.Inputs).Select(fewer => schedule with { Inputs = fewer });

    // Halves first, then single elements.
    private static IEnumerable<ImmutableArray<T>> Without<T>(ImmutableArray<T> items)
    {
        for (int size = items.Length / 2; size >= 1; size /= 2)
        {
            for (int start = 0; start + size <= items.Length; start += size)
            {
                yield return items.RemoveRange(start, size);
            }
        }
    }

    private static IEnumerable<MachineOptions> Simpler(MachineOptions options)
    {
        var plain = new MachineOptions();
        if (options.ExitCost != plain.ExitCost)
        {
            yield return options with { ExitCost = plain.ExitCost };
        }

        if (options.MaxInstructions != 0)
        {
            yield return options with { MaxInstructions = 0 };
        }
    }

    private static TraceEvent Event(TraceEventRow row, SplitMix random)
    {
        var made = new TraceEvent(row.Kind) { Retired = random.Next() >> (int)random.Below(64), Vcpu = (int)random.Below(4) };
        foreach (TraceField field in row.Fields)
        {
            ulong word = AtomMaker.Value(random);
            switch (field.Type)
            {
                case TraceFieldType.Signed:
                    made.SetWord(field.Key, (ulong)(long)(int)word);
                    break;
                case TraceFieldType.Bytes:
                    byte[] bytes = new byte[random.Below(40)];
                    for (int i = 0; i < bytes.Length; i++)
                    {
                        bytes[i] = (byte)random.Next();
                    }

                    made.SetBytes(bytes);
                    break;
                case TraceFieldType.Text:
                    made.SetText($"text {word}");
                    break;
                case TraceFieldType.Controls:
                    for (ulong i = random.Below(5); i > 0; i--)
                    {
                        made.AddControl((ushort)random.Next(), AtomMaker.Value(random));
                    }

                    break;
                case TraceFieldType.State:
                    for (ulong i = random.Below(9); i > 0; i--)
                    {
                        made.AddDelta((ushort)(0x1000 + random.Below(4)), (ushort)random.Next(), AtomMaker.Value(random));
                    }

                    break;
                default:
                    made.SetWord(field.Key, field.Max == ulong.MaxValue ? word : word % (field.Max + 1));
                    break;
            }
        }

        return made;
    }
}
