using System.Collections.Immutable;
using FsCheck;
using FsCheck.Fluent;
using VmFuzz.Arch;
using VmFuzz.Fuzzing;
using VmFuzz.Machines;
using VmFuzz.Replay;
using VmFuzz.Vmx;

namespace VmFuzz.Testing;

// Inputs of the fuzzer.
public static partial class Generators
{
    private const int LongestInstruction = 15;

    // A list that the target does not need has items once in so many inputs.
    private const ulong Besides = 8;

    private static readonly ImmutableArray<ExitReason> Reasons = [.. Enum.GetValues<ExitReason>()];
    private static readonly ImmutableArray<InputKind> Kinds = [.. Enum.GetValues<InputKind>().Where(static k => k != InputKind.None)];
    private static readonly ImmutableArray<InputPoint> Places = [.. Enum.GetValues<InputPoint>()];
    private static readonly ImmutableArray<VmcsField> GuestFields =
        [.. VmcsFieldInfo.All.Where(static f => f.Group == VmcsFieldGroup.Guest).Select(static f => f.Field)];

    /// <summary>
    /// Canonical inputs; shrinks by leaving parts of its lists out, then by making exits and words simpler. None is
    /// larger than <see cref="FuzzLimits"/> allows.
    /// </summary>
    /// <param name="target">What they are for; null for any target.</param>
    public static Arbitrary<FuzzInput> FuzzInputs(FuzzTarget? target = null)
    {
        Gen<FuzzInput> gen =
            from kind in target is { } only ? Gen.Constant(only) : Gen.Elements(Enum.GetValues<FuzzTarget>())
            from input in Drawn((random, size) => Input(kind, random, size))
            select input;
        return Arb.From(gen, Shrink);
    }

    /// <summary>Made exits of every reason; shrinks by leaving out what they set, then by making their words simpler.</summary>
    public static Arbitrary<MadeExit> MadeExits() => Arb.From(Drawn(static (random, _) => Exit(random)), Shrink);

    /// <summary>Any bytes that could be found where an input is expected: noise, inputs, damaged inputs; shrinks by leaving bytes out.</summary>
    public static Arbitrary<InputFile> InputFiles()
    {
        Gen<InputFile> gen =
            from input in FuzzInputs().Generator
            from seed in Word64
            from size in Gen.Sized(static s => Gen.Choose(0, 8 * s))
            select new InputFile(Damaged(FuzzCodec.Encode(input), new SplitMix(seed), size));
        return Arb.From(gen, static file => Without(file.Bytes).Select(static bytes => new InputFile(bytes)));
    }

    private static FuzzInput Input(FuzzTarget target, SplitMix random, int size)
    {
        var input = new FuzzInput { Target = target, Mode = (FlatMode)random.Below(3), AllCapabilities = random.Below(4) == 0 };
        Fill(FuzzTargets.GuestCode, () => input.Code.AddRange(Piece(input.Mode, random)));
        Fill(FuzzTargets.ExitHandlers, () => input.Exits.Add(Exit(random)));
        Fill(FuzzTargets.VmcsEntry, () => input.Vmcs.Add(Field(VmcsFieldInfo.All[(int)random.Below((ulong)VmcsFieldInfo.All.Length)].Field, random)));
        Fill(FuzzTargets.VmcsEntry, () => AddCapabilities(input, random, 1));
        Fill(FuzzTargets.GuestCode | FuzzTargets.ExitHandlers, () => input.Events.Add(Event(random)));
        Fill(FuzzTargets.GuestCode | FuzzTargets.ExitHandlers, () => input.Answers.Add(AtomMaker.Value(random)));
        Fill(FuzzTargets.GuestCode, () => input.Patches.Add(Patch(random)));
        Fill(FuzzTargets.All, () => input.Registers.Add(Register(random)));
        input.Normalise();
        return input;

        void Fill(FuzzTargets wanted, Action add)
        {
            bool needs = (wanted & (FuzzTargets)(1 << (int)target)) != 0;
            int count = needs || random.Below(Besides) == 0 ? (int)random.Below((ulong)(size / 4) + 2) : 0;
            for (int i = 0; i < count; i++)
            {
                add();
            }
        }
    }

    // Instructions, or now and then bytes that are none.
    private static ImmutableArray<byte> Piece(FlatMode mode, SplitMix random) =>
        random.Below(6) == 0 ? Noise(random, 1 + (int)random.Below(LongestInstruction)) : AtomMaker.Of(mode).Make(random.Next(), AtomTraits.All).Code;

    private static MadeExit Exit(SplitMix random)
    {
        var exit = new VmExit(
            (uint)Reasons[(int)random.Below((ulong)Reasons.Length)],
            Sometimes(random),
            Sometimes(random),
            Sometimes(random) & 0xF_FFFF_FFFF,
            Interruption(random),
            (uint)Sometimes(random),
            Interruption(random),
            (uint)Sometimes(random),
            1 + (uint)random.Below(LongestInstruction),
            (uint)Sometimes(random));
        return new MadeExit(
            exit,
            [.. Some(random, 4).Select(_ => Register(random)).DistinctBy(static r => r.Register).OrderBy(static r => r.Register)],
            [.. Some(random, 3).Select(_ => Field(GuestFields[(int)random.Below((ulong)GuestFields.Length)], random)).DistinctBy(static f => f.Field).OrderBy(static f => f.Field)]);
    }

    private static InterruptionInfo Interruption(SplitMix random) =>
        random.Below(3) == 0 ? new InterruptionInfo(InterruptionInfo.ValidBit | ((uint)random.Next() & 0xFFF)) : default;

    // Registers are numbered from 0; the general ones come up most.
    private static RegisterOverride Register(SplitMix random) =>
        new((ushort)random.Below(random.Below(3) == 0 ? 100UL : 18), AtomMaker.Value(random));

    private static FieldOverride Field(VmcsField field, SplitMix random) =>
        new(field, AtomMaker.Value(random) & VmcsFieldInfo.Of(field).Mask);

    private static ScheduledEvent Event(SplitMix random)
    {
        InputKind kind = Kinds[(int)random.Below((ulong)Kinds.Length)];
        return new ScheduledEvent(random.Below(200), Places[(int)random.Below((ulong)Places.Length)], kind, ValueOf(kind, random.Next() & 0xFFFF));
    }

    private static MemoryPatch Patch(SplitMix random) =>
        new(random.Below(FuzzLayout.MemorySize + 0x1000), Noise(random, 1 + (int)random.Below(16)));

    private static ImmutableArray<byte> Noise(SplitMix random, int length)
    {
        byte[] bytes = new byte[length];
        for (int i = 0; i < length; i++)
        {
            bytes[i] = (byte)random.Next();
        }

        return [.. bytes];
    }

    private static ulong Sometimes(SplitMix random) => random.Below(2) == 0 ? 0 : AtomMaker.Value(random);

    private static IEnumerable<int> Some(SplitMix random, ulong most) => Enumerable.Range(0, (int)random.Below(most));

    private static ImmutableArray<byte> Damaged(ReadOnlySpan<byte> bytes, SplitMix random, int size)
    {
        byte[] changed = bytes.ToArray();
        switch (random.Below(5))
        {
            case 0:
                return Noise(random, size);
            case 1:
                return [.. bytes[..(int)random.Below((ulong)bytes.Length + 1)]];
            case 2:
                return [.. bytes, .. Noise(random, size)];
            case 3:
                // The same items twice.
                int length = (int)random.Below((ulong)Math.Min(bytes.Length, 24));
                int from = (int)random.Below((ulong)(bytes.Length - length) + 1);
                return [.. bytes[..(from + length)], .. bytes[from..]];
            default:
                for (ulong i = 1 + random.Below(4); i > 0; i--)
                {
                    changed[random.Below((ulong)changed.Length)] = (byte)random.Next();
                }

                return [.. changed];
        }
    }

    private static IEnumerable<MadeExit> Shrink(MadeExit exit) =>
        Without(exit.Registers).Select(registers => exit with { Registers = registers })
            .Concat(Without(exit.GuestState).Select(fields => exit with { GuestState = fields }))
            .Concat(ExitSimplifications.All.Select(simpler => simpler(exit)).Where(simpler => !simpler.Equals(exit)));

    private static IEnumerable<FuzzInput> Shrink(FuzzInput input)
    {
        foreach (FuzzSectionRow row in FuzzSectionRow.All)
        {
            int count = row.Count(input);
            for (int size = count; size >= 1; size /= 2)
            {
                for (int start = 0; start + size <= count; start += size)
                {
                    yield return Changed(input, copy => row.Remove(copy, start, size));
                }
            }
        }

        for (int i = 0; i < input.Exits.Count; i++)
        {
            foreach (MadeExit simpler in Shrink(input.Exits[i]))
            {
                yield return Changed(input, copy => copy.Exits[i] = simpler);
            }
        }

        for (int i = 0; i < input.Registers.Count; i++)
        {
            if (input.Registers[i].Value != 0)
            {
                yield return Changed(input, copy => copy.Registers[i] = copy.Registers[i] with { Value = 0 });
            }
        }

        for (int i = 0; i < input.Answers.Count; i++)
        {
            if (input.Answers[i] != 0)
            {
                yield return Changed(input, copy => copy.Answers[i] = 0);
            }
        }
    }

    private static FuzzInput Changed(FuzzInput input, Action<FuzzInput> change)
    {
        FuzzInput copy = input.Clone();
        change(copy);
        copy.Normalise();
        return copy;
    }
}
