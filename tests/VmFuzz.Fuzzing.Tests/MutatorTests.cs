using System.Runtime.InteropServices;
using VmFuzz.Machines;
using VmFuzz.Replay;
using VmFuzz.Vmx;

namespace VmFuzz.Fuzzing.Tests;

public sealed class MutatorTests
{
    public static TheoryData<string> Ids()
    {
        TheoryData<string> ids = [];
        foreach (Mutator row in MutatorTable.Default.Rows)
        {
            ids.Add(row.Id);
        }

        return ids;
    }

    private static Mutator Find(string id) => MutatorTable.Default.Rows[MutatorTable.Default.IndexOf(id)];

    private static FuzzTarget TargetOf(Mutator row) =>
        Enum.GetValues<FuzzTarget>().First(t => (row.Targets & (FuzzTargets)(1 << (int)t)) != 0);

    private static MutationResult Run(Mutator row, MutationTools tools, FuzzInput input, FuzzInput other, ulong seed)
    {
        MutationContext context = new(tools, input, other, new SplitMix(seed));
        return row.Run(ref context);
    }

    [Theory]
    [MemberData(nameof(Ids))]
    public void Row_ManySeeds_ChangesWhatItDeclaresOrSaysSkipped(string id)
    {
        Mutator row = Find(id);
        FuzzInput parent = Samples.Rich(TargetOf(row));
        FuzzInput other = parent.Clone();
        other.Exits.Reverse();
        other.Code.Reverse();
        other.Answers.Add(77);
        other.Normalise();
        MutationTools tools = new();
        FuzzInput input = new();
        int mutated = 0;
        FuzzSections touched = FuzzSections.None;
        for (ulong seed = 0; seed < 500; seed++)
        {
            input.CopyFrom(parent);
            MutationResult result = Run(row, tools, input, other, seed);
            FuzzSections changed = input.Differences(parent);
            Assert.Equal(result == MutationResult.Mutated, changed != FuzzSections.None);
            Assert.Equal(parent.Target, input.Target);
            touched |= changed;
            mutated += result == MutationResult.Mutated ? 1 : 0;
            Assert.True(FuzzCodec.Decode(FuzzCodec.Encode(input.Clone())).SameAs(input), "left the canonical form");
        }

        Assert.True(mutated >= 50, $"changed something {mutated} times of 500");
        Assert.Equal(FuzzSections.None, touched & ~row.Touches);
    }

    [Theory]
    [MemberData(nameof(Ids))]
    public void Row_GrownAndEmptyInputs_NeverThrowsAndIsDeterministic(string id)
    {
        Mutator row = Find(id);
        MutationTools tools = new();
        MutationTools freshTools = new();
        FuzzInput input = new() { Target = TargetOf(row) };
        FuzzInput twin = input.Clone();
        FuzzInput other = Samples.Full();
        other.Normalise();
        for (ulong seed = 0; seed < 600; seed++)
        {
            FuzzInput second = (seed & 3) == 0 ? other : (seed & 3) == 1 ? input : Samples.Rich(input.Target);
            FuzzInput twinSecond = ReferenceEquals(second, input) ? twin : second;
            if (seed == 300)
            {
                input.CopyFrom(Samples.Full());
                input.Target = TargetOf(row);
                input.Normalise();
                twin.CopyFrom(input);
            }

            MutationResult result = Run(row, tools, input, second, seed);
            Assert.Equal(result, Run(row, freshTools, twin, twinSecond, seed));
            Assert.True(input.SameAs(twin), $"seed {seed}");
        }
    }

    [Theory]
    [InlineData(FlatMode.Real16)]
    [InlineData(FlatMode.Protected32)]
    [InlineData(FlatMode.Long64)]
    public void Invent_KindsOfInstructions_AreValidAndMostComeOut(FlatMode mode)
    {
        InstructionForge forge = new();
        SplitMix random = new(3);
        int made = 0;
        int same = 0;
        foreach (Iced.Intel.Code code in InstructionChoices.Any(mode))
        {
            ReadOnlySpan<byte> bytes = forge.Invent(code, mode, random);
            if (bytes.Length == 0)
            {
                continue;
            }

            made++;
            Assert.Equal(bytes.Length, forge.Decode([.. bytes], 0, mode, out Iced.Intel.Instruction instruction));
            Assert.False(instruction.IsInvalid);
            same += instruction.Code == code ? 1 : 0;
        }

        int all = InstructionChoices.Any(mode).Length;
        Assert.True(made > all * 9 / 10, $"{made} of {all}");
        Assert.True(same > all / 2, $"{same} of {all} are of the kind asked for");
        Assert.InRange(InstructionChoices.Sensitive(mode).Length, 40, 300);
    }

    [Fact]
    public void Find_MixedCode_GivesTheInstructionOverAByte()
    {
        InstructionForge forge = new();
        List<byte> code = Samples.Rich(FuzzTarget.GuestCode).Code;
        Assert.Equal(3, forge.Find(code, 4, FlatMode.Long64, out int at, out Iced.Intel.Instruction instruction));
        Assert.Equal(3, at);
        Assert.Equal(Iced.Intel.Mnemonic.Add, instruction.Mnemonic);
    }

    [Fact]
    public void BreakRule_ManySeeds_BreaksTheRulesTheRowsDeclare()
    {
        Mutator row = Find("vmcs.break-rule");
        MutationTools tools = new();
        FuzzInput input = new();
        var broken = new HashSet<string>(StringComparer.Ordinal);
        using Vmcs vmcs = new();
        int passed = 0;
        for (ulong seed = 0; seed < 1000; seed++)
        {
            input.CopyFrom(Samples.Rich(FuzzTarget.VmcsEntry));
            Run(row, tools, input, input, seed);
            input.FillVmcs(vmcs);
            using var memory = new Memory.GuestMemory();
            memory.AddSlot(new Arch.Gpa(0), 1 << 20);
            EntryCheck? failure = EntryChecks.Default.FirstFailure(new EntryContext(vmcs, input.BuildCapabilities(), memory, 0, null));
            passed += failure is null ? 1 : 0;
            broken.Add(failure?.Id ?? "none");
        }

        Assert.True(passed < 20, $"{passed} of 1000 broke nothing");
        Assert.True(broken.Count > 100, $"{broken.Count} rules");
    }

    [Fact]
    public void Table_WithAndWithout_ReplaceRows()
    {
        Mutator own = new("own", FuzzTargets.All, 1, FuzzSections.Code, static (ref MutationContext c) => MutationResult.Skipped);
        MutatorTable table = MutatorTable.Default.With(own);
        Assert.Equal(MutatorTable.Default.Rows.Length + 1, table.Rows.Length);
        Assert.Equal(table.Rows.Length, table.With(own with { Weight = 2 }).Rows.Length);
        Assert.Equal(-1, table.Without("own").IndexOf("own"));
        Assert.Equal(table.Rows.Length, table.Rows.Select(static r => r.Id).Distinct(StringComparer.Ordinal).Count());
    }
}
