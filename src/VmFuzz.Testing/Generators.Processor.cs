using System.Collections.Immutable;
using FsCheck;
using FsCheck.Fluent;
using VmFuzz.Cpu;

namespace VmFuzz.Testing;

// Processors and VCPUs.
public static partial class Generators
{
    /// <summary>Register files; shrinks towards zeros.</summary>
    public static Arbitrary<RegisterFile> RegisterFiles() => Arb.From(RegisterFileGen, Shrink);

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

    /// <summary>States of a processor, as changes of some of its fields; shrinks by changing fewer.</summary>
    public static Arbitrary<ProcessorChange> ProcessorChanges()
    {
        Arbitrary<ImmutableArray<FieldValue>> values = FieldValues(ProcessorState.List.Length);
        return Arb.From(values.Generator.Select(static v => new ProcessorChange(v)), change => values.Shrinker(change.Values).Select(static v => new ProcessorChange(v)));
    }

    /// <summary>States of a VCPU as userspace sees them, with any values; shrinks a word at a time to 0.</summary>
    public static Arbitrary<VcpuState> VcpuStates() => Arb.From(
        Gen.ArrayOf(Interesting, VcpuState.Names.Length).Select(static words => VcpuState.Of(words)),
        static state => Zeroed(state.Words).Select(static words => VcpuState.Of(words.AsSpan())).Where(smaller => !smaller.Equals(state)));

    /// <summary>Processor models: the built-in ones with features on and off; shrinks by changing fewer.</summary>
    public static Arbitrary<CpuModelChange> CpuModels()
    {
        ImmutableArray<CpuFeatures> features = [.. Enum.GetValues<CpuFeatures>().Where(static f => f != CpuFeatures.None)];
        Gen<CpuModelChange> gen =
            from name in Gen.Elements(Cpu.CpuModels.Names.AsEnumerable())
            from added in Gen.SubListOf(features.AsEnumerable())
            from removed in Gen.SubListOf(features.AsEnumerable())
            select new CpuModelChange(name, [.. added], [.. removed]);
        return Arb.From(gen, static change => Without(change.On).Select(added => change with { On = added }).Concat(Without(change.Off).Select(removed => change with { Off = removed })));
    }

    private static Gen<RegisterFile> RegisterFileGen { get; } =
        Gen.ArrayOf(Interesting, 16).Select(static v => new RegisterFile([.. v]));

    private static IEnumerable<RegisterFile> Shrink(RegisterFile registers)
    {
        if (!registers.Equals(RegisterFile.Zero))
        {
            yield return RegisterFile.Zero;
            foreach (ImmutableArray<ulong> values in Zeroed(registers.Values))
            {
                yield return new RegisterFile(values);
            }
        }
    }
}
