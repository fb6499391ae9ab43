using VmFuzz.Arch;

namespace VmFuzz.Fuzzing.Tests;

public sealed class MinimizerTests
{
    [Fact]
    public void Minimize_OneByteMatters_LeavesOnlyThatByte()
    {
        FuzzInput input = Samples.Rich(FuzzTarget.GuestCode);
        MinimizedInput small = InputMinimizer.Minimize(input, static i => i.Code.Contains(0xA2));
        Assert.Equal([0xA2], small.Input.Code);
        Assert.All(FuzzSectionRow.All.Where(static r => r.Section != FuzzSections.Code), r => Assert.Equal(0, r.Count(small.Input)));
        Assert.True(small.Complete);
        Assert.True(input.SameAs(Samples.Rich(FuzzTarget.GuestCode)), "the input itself was changed");
    }

    [Fact]
    public void Minimize_TwoExitsInOrder_LeavesBothWithoutTheRest()
    {
        FuzzInput input = Samples.Rich(FuzzTarget.ExitHandlers);
        input.Exits.InsertRange(1, [.. input.Exits]);
        MinimizedInput small = InputMinimizer.Minimize(input, static i =>
        {
            int cpuid = i.Exits.FindIndex(static e => e.Exit.Basic == ExitReason.Cpuid);
            int hlt = i.Exits.FindLastIndex(static e => e.Exit.Basic == ExitReason.Hlt);
            return cpuid >= 0 && hlt > cpuid;
        });
        Assert.Equal([ExitReason.Cpuid, ExitReason.Hlt], small.Input.Exits.Select(static e => e.Exit.Basic));
        Assert.All(small.Input.Exits, static e => Assert.True(e.Registers.IsEmpty && e.GuestState.IsEmpty));
    }

    [Fact]
    public void Minimize_PredicateThatDoesNotHold_GivesTheInputBack()
    {
        FuzzInput input = Samples.Rich(FuzzTarget.VmcsEntry);
        MinimizedInput same = InputMinimizer.Minimize(input, static _ => false);
        Assert.True(same.Input.SameAs(input));
        Assert.Equal(1, same.Executions);
    }

    [Fact]
    public void Minimize_SmallBudget_StopsWithAnInputThatStillShows()
    {
        int asked = 0;
        MinimizedInput some = InputMinimizer.Minimize(
            Samples.Rich(FuzzTarget.VmcsEntry),
            i =>
            {
                asked++;
                return i.Vmcs.Exists(static f => f.Field == VmcsField.GuestCr0);
            },
            budget: 5);
        Assert.Equal(5, asked);
        Assert.False(some.Complete);
        Assert.Contains(some.Input.Vmcs, static f => f.Field == VmcsField.GuestCr0);
    }

    [Fact]
    public void Minimize_SamePredicate_AsksTheSameQuestions()
    {
        static List<string> Questions()
        {
            List<string> asked = [];
            InputMinimizer.Minimize(Samples.Rich(FuzzTarget.ExitHandlers), i =>
            {
                asked.Add(Convert.ToHexString(FuzzCodec.Encode(i.Clone())));
                return i.Exits.Count >= 2 && i.Answers.Contains(2);
            });
            return asked;
        }

        Assert.Equal(Questions(), Questions());
    }
}
