using VmFuzz.Machines;

namespace VmFuzz.Fuzzing.Tests;

/// <summary>Inputs that broke an oracle once, as encoded bytes; each is fine now.</summary>
public sealed class GuestCodeRegressionTests
{
    [Theory]
    [InlineData("one RIP under two code segments: IRET", "830002010004c403e5fbcf")]
    [InlineData("one RIP under two code segments: RETF", "830002010004c404b980f2cb")]
    [InlineData("DR7 bit 11", "830002010104c406ed0f23f80f0f")]
    [InlineData("INT n through a gate of the kernel's is a fault and does not retire", "8300020392241b04c402cd07")]
    [InlineData("INT n pushes RF clear", "82000204c401cd")]
    [InlineData("RSM outside SMM", "830002010004c4020faa")]
    [InlineData("the user's instruction that the emulator does not know", "84000201010392241b04c402c154")]
    [InlineData("a step into the shadow of STI", "8400020101039211cec000010304c401fb")]
    [InlineData("an interrupt of the host outside of the guest", "840002010104c4020501069414030f61")]
    [InlineData("a machine check between the injection of an NMI and its entry", "840002010004c41be4e966ff6e2f6e6ff40f01f86d660f0180e8d20f09e7620f01f0e3069c0a0102001a0102001a0a0600")]
    [InlineData("a signal while a host page is absent", "840002010104c40496e5fce2069402050dcd0b52")]
    [InlineData("general detect pushes RF", "82000204c40c0d21e921f80f23f801f00f23")]
    [InlineData("an injected INT n that faults does not retire", "84000201010392241f04c425c40302f1010b000791ccff1c981531770000cd02011000cd02eb010b00000000801328ebd5")]
    [InlineData("machine checks at boundaries", "840002010004c406000000021a08069c040106000501060006010600")]
    public void RunDeep_OfAnOldFinding_IsFine(string what, string bytes)
    {
        FuzzInput input = new();
        FuzzCodec.Decode(Convert.FromHexString(bytes), input);
        using var executor = new GuestCodeExecutor(MachineVariants.None);
        Violation? violation = executor.Run(input).Violation ?? executor.RunDeep(input);
        Assert.True(violation is null, $"{what}: {violation}");
    }

    [Fact]
    public void RunDeep_OfMutatedPrograms_FindsNothing()
    {
        // A short campaign: every execution of any run of it can be made again from its number.
        const int Executions = 600;
        using var executor = new GuestCodeExecutor(MachineVariants.None);
        var scheduler = new MutatorScheduler(MutatorTable.Default, FuzzTarget.GuestCode, seed: 77);
        FuzzInput[] seeds =
        [
            GuestCodeExecutorTests.Program(FlatMode.Real16, "0FA20FC7F0E4E9F4"),
            GuestCodeExecutorTests.Program(FlatMode.Protected32, "CD80A3000000800F01D9F4"),
            GuestCodeExecutorTests.Program(FlatMode.Long64, "0F20C00F22E09C580F30F4"),
        ];
        FuzzInput input = new();
        for (int i = 0; i < Executions; i++)
        {
            FuzzInput parent = seeds[i % seeds.Length];
            scheduler.Mutate((ulong)i, parent, seeds[(i + 1) % seeds.Length], input);
            input.Mode = parent.Mode;
            Violation? violation = executor.Run(input).Violation ?? (i % 8 == 0 ? executor.RunDeep(input) : null);
            Assert.True(violation is null, $"execution {i}, input {Convert.ToHexString(FuzzCodec.Encode(input))}: {violation}");
            if (i % 3 == 0 && input.Code.Count < 200)
            {
                seeds[i % seeds.Length] = input.Clone();
            }
        }
    }
}
