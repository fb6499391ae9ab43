using System.Collections.Immutable;
using System.Reflection;
using FsCheck;
using FsCheck.Fluent;
using VmFuzz.Arch;
using VmFuzz.Fuzzing;
using VmFuzz.Trace;

namespace VmFuzz.Testing.Tests;

public sealed class ArbitraryTests
{
    public static TheoryData<string> Names => [.. Methods.Select(static m => m.Name)];

    private static IEnumerable<MethodInfo> Methods => typeof(VmFuzzArbitraries).GetMethods(BindingFlags.Public | BindingFlags.Static)
        .Where(static m => m.ReturnType.IsGenericType && m.ReturnType.GetGenericTypeDefinition() == typeof(Arbitrary<>));

    [Theory]
    [MemberData(nameof(Names))]
    public void Arbitrary_OfAnyType_IsInTheMapIsDeterministicAndShrinksToAnEnd(string name)
    {
        MethodInfo method = Methods.Single(m => m.Name == name);
        typeof(ArbitraryTests).GetMethod(nameof(Check), BindingFlags.NonPublic | BindingFlags.Static)!
            .MakeGenericMethod(method.ReturnType.GetGenericArguments()).Invoke(null, [method.Invoke(null, null)]);
    }

    private static void Check<T>(Arbitrary<T> arbitrary)
    {
        Assert.NotNull(VmFuzzArbitraries.Map().ArbFor<T>());
        List<string> first = [];
        PropertyCheck.Run(arbitrary, PropertySeed.Pinned, 20, value => first.Add(Text(value)));
        List<string> again = [];
        PropertyCheck.Run(arbitrary, PropertySeed.Pinned, 20, value =>
        {
            again.Add(Text(value));
            int steps = 0;
            for (T? smaller = value; arbitrary.Shrinker(smaller!).FirstOrDefault() is { } next && !Equals(next, default(T)); smaller = next)
            {
                Assert.True(++steps < 5000, $"{Text(value)} shrinks for ever");
            }
        });
        Assert.Equal(first, again);
        Assert.True(first.Distinct(StringComparer.Ordinal).Count() > 3, "the cases are all alike");
    }

    private static string Text<T>(T value) => value is System.Collections.IEnumerable items ? string.Join(';', items.Cast<object>()) : $"{value}";

    [Fact]
    public void Shrink_OfAnInput_LeavesWhatMatters()
    {
        FuzzInput smallest = Smallest(Generators.FuzzInputs(), static i => i.Exits.Any(static e => e.Exit.Basic == ExitReason.Cpuid));
        MadeExit exit = Assert.Single(smallest.Exits);
        Assert.Equal((0, 0, 0UL), (exit.Registers.Length, exit.GuestState.Length, exit.Exit.Qualification));
        Assert.Equal(1, FuzzSectionRow.All.Sum(row => row.Count(smallest)));
    }

    [Fact]
    public void Shrink_OfCodeOfAnInput_LeavesOneByte() =>
        Assert.Equal([0xF4], Smallest(Generators.FuzzInputs(FuzzTarget.GuestCode), static i => i.Code.Contains(0xF4)).Code);

    [Fact]
    public void Shrink_OfBytesOfAnInput_LeavesOneByte() =>
        Assert.Equal([0x80], Smallest(Generators.InputFiles(), static f => f.Bytes.Contains((byte)0x80)).Bytes);

    [Fact]
    public void Shrink_OfAVmcs_LeavesOneField() =>
        Assert.Equal(VmcsField.GuestCr0, Assert.Single(Smallest(Generators.VmcsDifferences(12), static d => d.Fields.Any(static f => f.Field == VmcsField.GuestCr0)).Fields).Field);

    [Fact]
    public void Shrink_OfARoundedVmcs_StaysRounded()
    {
        RoundedVmcs smallest = Smallest(Generators.RoundedVmcss(20), static r => r.Difference.Fields.Length > 1);
        Assert.Equal(2, smallest.Difference.Fields.Length);
        Assert.Equal(smallest.Difference, smallest.Difference.Round());
    }

    [Fact]
    public void Shrink_OfASchedule_LeavesOneInput() =>
        Assert.Equal(InputKind.Nmi, Assert.Single(Smallest(Generators.Schedules(300), static s => s.Inputs.Any(static i => i.Input.Kind == InputKind.Nmi)).Inputs).Input.Kind);

    [Fact]
    public void Shrink_OfAProgram_LeavesOneAtomInOneRound()
    {
        GuestProgram smallest = Smallest(Generators.Programs(AtomTraits.All), static p => (p.Traits & AtomTraits.Identity) != 0);
        Assert.Equal((1, 1, RegisterFile.Zero), (smallest.Atoms.Length, smallest.Rounds, smallest.Registers));
    }

    [Fact]
    public void Shrink_OfAVcpu_LeavesOneWord()
    {
        VcpuState smallest = Smallest(Generators.VcpuStates(), static s => s.Words[VcpuState.Names.IndexOf("Rip")] != 0);
        Assert.StartsWith("Rip=", smallest.ToString(), StringComparison.Ordinal);
        Assert.DoesNotContain(' ', smallest.ToString());
    }

    [Fact]
    public void Shrink_OfAProcessorAMemoryAModelCapabilitiesAndATrace_LeavesOneThing()
    {
        Assert.Single(Smallest(Generators.ProcessorChanges(), static c => c.Values.Any(static v => v.Index > 20)).Values);
        Assert.Single(Smallest(Generators.MemorySteps(4096), static s => s.Any(static m => m.Action == MemoryAction.Reset)));
        CpuModelChange model = Smallest(Generators.CpuModels(), static m => !m.Build().Has(Cpu.CpuFeatures.Nx) && m.Name == "vmfuzz64");
        Assert.Equal((0, 1), (model.On.Length, model.Off.Length));
        Assert.Single(Smallest(Generators.Capabilities(), static c => c.Msrs.Any(static m => m.Msr == 0x482)).Msrs);
        Assert.Single(Smallest(Generators.Traces(), static t => t.Events.Any(static e => e.Kind == TraceEventKind.Entry)).Events);
    }

    // The case that a property that fails for these leaves behind.
    private static T Smallest<T>(Arbitrary<T> cases, Func<T, bool> fails)
    {
        T? last = default;
        Assert.Throws<PropertyFailedException>(() => PropertyCheck.Run(cases, PropertySeed.Pinned, 1000, value =>
        {
            if (fails(value))
            {
                last = value;
                throw new InvalidOperationException("planted");
            }
        }));
        return last!;
    }
}
