using VmFuzz.Arch;
using VmFuzz.Machines;
using VmFuzz.Vmx;

namespace VmFuzz.Fuzzing.Tests;

public sealed class EmulationMutatorTests
{
    private const int Inputs = 400;

    [Theory]
    [InlineData(FlatMode.Protected32)]
    [InlineData(FlatMode.Long64)]
    public void Emulate_OfNothing_BringsTheEmulatorToWork(FlatMode mode)
    {
        using var executor = new ExitHandlersExecutor();
        int emulated = 0;
        foreach (FuzzInput input in Made("exits.emulate", FuzzTarget.ExitHandlers, mode))
        {
            Execution run = executor.Run(input);
            Assert.True(run.Violation is null, $"{Convert.ToHexString(FuzzCodec.Encode(input))}: {run.Violation}");
            emulated += run.Instructions != 0 ? 1 : 0;
        }

        Assert.True(emulated > Inputs / 4, $"{emulated}");
    }

    [Theory]
    [InlineData(FlatMode.Protected32)]
    [InlineData(FlatMode.Long64)]
    public void Device_OfNothing_ReachesADevice(FlatMode mode)
    {
        using var executor = new GuestCodeExecutor();
        int exits = 0;
        foreach (FuzzInput input in Made("code.device", FuzzTarget.GuestCode, mode))
        {
            exits += executor.Run(input).Exits > 1 ? 1 : 0;
        }

        Assert.True(exits > Inputs / 2, $"{exits}");
    }

    [Fact]
    public void GuestStates_Each_IsOneThatAnEntryAccepts()
    {
        foreach (GuestStates state in GuestStates.All)
        {
            FuzzInput input = new() { Target = FuzzTarget.ExitHandlers };
            // Its handler leaves the guest as it is.
            VmExit interrupt = new((uint)ExitReason.ExternalInterrupt);
            input.Exits.Add(new MadeExit(interrupt, [], state.Fields));
            input.Normalise();
            using var executor = new ExitHandlersExecutor();
            executor.Run(input);
            ulong changed = executor.Digest();
            input.Exits[0] = new MadeExit(interrupt);
            executor.Run(input);

            // Those that say where the guest stands already change nothing.
            bool same = state.Id is "kernel-64" or "start" or "stack";
            Assert.True(same == (executor.Digest() == changed), state.Id);
        }
    }

    private static IEnumerable<FuzzInput> Made(string mutator, FuzzTarget target, FlatMode mode)
    {
        MutatorTable table = MutatorTable.Default;
        foreach (Mutator row in table.Rows)
        {
            table = row.Id == mutator ? table : table.Without(row.Id);
        }

        var scheduler = new MutatorScheduler(table, target, seed: 5);
        FuzzInput parent = new() { Target = target, Mode = mode };
        for (int i = 0; i < Inputs; i++)
        {
            FuzzInput input = new();
            scheduler.Mutate((ulong)i, parent, null, input);
            yield return input;
        }
    }
}
