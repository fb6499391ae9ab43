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
    [InlineData("a step over HLT ends the halt", "8400020100039211cd01ff04c4efa9c4e5c4e261a9ecc4e1f898e40f23f8668db01ca23888ab56bb17f421f80f23f80f01fff48db01ca23888ab56bb17f421f80f23f80f3056f4f488c926a79cd1f40f22d70f300f22d7f40f787694f4e7ef87d366300f22d7f40f787694f4e7ef87d3660f0194dc0dbb17f4f40694cd030000f000800592ccffc40400f0ffff0601104480010500cd03720c0cac07660c00cd03600c0c00cd03620c0cfecd03640c0c00cd03660c0c00cd6a0c0c00cd036c0c0c0c00cd036c0c0c00cd036d0c0c00cd03700c0c00cd0372cd700c0c00cd0372cd03700c0c00cd03720c0c00cd0b9d0c060007913f0592cd1270c40300")]
    [InlineData("INS across a page names the page that is missing", "830002039207cefffffffe04c4016d")]
    [InlineData("no device is read before a later page of the access faults", "83000204c4530fa2470f09f20fa20fc7fbf24d0f00d34881489283e3a28d0fc7f067260f32f466a5c40eee660f0106280b11062aad11062c0b11061f129f60c56cf60d00a925091b311186a611060fa2410fc7f50fa20fc7f40791ceffffffff")]
    [InlineData("MMIO across the end of canonical addresses", "830002039207cf00007fffffffffff04c402666d")]
    [InlineData("running on past 64 KiB does not wrap", "840002010004c40c6ee4110fa26d6d0f49c7ff6e0792ce40000001cf0200000000000000")]
    [InlineData("reads of MMIO that fault half way", "830002039205cffffffffbffffffff04c461ff0bcdf60f96000f20e00203920bcdf68904c4156646e5f1640f04c4156646e5f1250f0613000791cf6d4be5caf2480faef3ec68f68904c4046bfaf907f3470f01c63bccf7ac91ea240f06130007480f3591cf6de70109db6fdbf0a2734be5caec")]
    [InlineData("a single step over the OUT that ends the run", "830002039211cd015804c402e6f4")]
    [InlineData("an NMI behind STI, with passes in between", "840002010004c40fbaea1bfb0fc7b2889b66f70fa2e671069402010200")]
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
