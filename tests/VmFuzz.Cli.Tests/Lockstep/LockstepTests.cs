using System.Collections.Immutable;
using System.Text.Json;
using Iced.Intel;
using VmFuzz.Arch;
using VmFuzz.Cli.Lockstep;
using VmFuzz.Cpu;
using VmFuzz.Machines;

namespace VmFuzz.Cli.Tests.Lockstep;

/// <summary><c>vmfuzz lockstep</c> against libunicorn, where that is installed. VMFUZZ_LONG=1 compares thirty million instructions.</summary>
public sealed class LockstepTests : CommandFixture
{
    private static readonly string Instructions = Environment.GetEnvironmentVariable("VMFUZZ_LONG") == "1" ? "30_000_000" : "600_000";

    public static TheoryData<string> Faults => [.. KnownFaults.Rows.Select(static f => f.Id)];

    [Fact]
    public void Lockstep_RandomPrograms_Agree()
    {
        Library();
        Ran ran = Run("lockstep", "--oracle", "unicorn", "--instructions", Instructions, "--seed", "20260101");
        Assert.True(ran.Status == 0, ran.Out + ran.Err);
        Assert.Contains("they agree", ran.Out, StringComparison.Ordinal);
    }

    /// <summary>A row of the table that explains nothing any more, or more than its own example, fails here.</summary>
    [Theory]
    [MemberData(nameof(Faults))]
    public void KnownFault_Example_IsExplainedByItsRowAlone(string id)
    {
        UnicornLibrary library = Library();
        KnownFault fault = KnownFaults.Rows.Single(f => f.Id == id);
        using var pair = new LockstepPair(library, fault.Mode, MachineOptions.DefaultCpu, KnownFaults.Rows);
        var explained = new List<KnownFault>();
        Assert.Null(pair.Run(fault.Example.AsSpan(), explained));
        Assert.Equal([fault], explained);

        using var bare = new LockstepPair(library, fault.Mode, MachineOptions.DefaultCpu, []);
        Assert.NotNull(bare.Run(fault.Example.AsSpan(), []));
    }

    /// <summary>What the comparison is for: an instruction that is wrong in one flag is found, and named.</summary>
    [Theory]
    [InlineData(FlatMode.Long64)]
    [InlineData(FlatMode.Protected32)]
    [InlineData(FlatMode.Real16)]
    public void Lockstep_WrongFlagOfOneInstruction_IsFoundAtIt(FlatMode mode)
    {
        UnicornLibrary library = Library();
        Assert.True(InstructionTable.Default.TryFind(Mnemonic.Xadd, out InstructionRow row));
        ExecResult Wrong(Processor cpu, in Instruction instruction)
        {
            ExecResult result = row.Handler(cpu, instruction);
            cpu.RFlagsValue ^= RFlags.Af;
            return result;
        }

        LockstepDifference found = FindWith(library, mode, row with { Handler = Wrong });
        Assert.Equal(Mnemonic.Xadd, found.Case.Facts.Instruction.Mnemonic);
        Assert.True(found.Case.OnlyFlags(RFlags.Af));
    }

    [Fact]
    public void Lockstep_WrongStore_IsFoundInMemory()
    {
        UnicornLibrary library = Library();
        Assert.True(InstructionTable.Default.TryFind(Mnemonic.Xadd, out InstructionRow row));
        ExecResult Wrong(Processor cpu, in Instruction instruction) =>
            instruction.Op0Kind == OpKind.Memory ? ExecResult.Next : row.Handler(cpu, instruction);

        LockstepDifference found = FindWith(library, FlatMode.Long64, row with { Handler = Wrong });
        Assert.Equal(Mnemonic.Xadd, found.Case.Facts.Instruction.Mnemonic);
        Assert.NotNull(found.Case.Memory);
    }

    [Fact]
    public void Lockstep_Difference_IsReportedWithTheCommandThatShowsItAgain()
    {
        // cpuid: VmFuzz's own leaf 0, which no emulator shares.
        Library();
        Ran ran = Run("lockstep", "--mode", "long64", "--code", "4801c80fa2");
        Assert.Equal(1, ran.Status);
        Assert.Contains("they differ", ran.Out, StringComparison.Ordinal);
        Assert.Contains("> 00400003", ran.Out, StringComparison.Ordinal);
        Assert.Contains("again: vmfuzz lockstep --oracle unicorn --mode long64 --code 4801c80fa2", ran.Out, StringComparison.Ordinal);

        JsonElement difference = Run("lockstep", "--mode", "long64", "--code", "4801c80fa2", "--json").Json.GetProperty("difference");
        Assert.Equal("cpuid", difference.GetProperty("instruction").GetString());
        Assert.False(JsonElement.DeepEquals(difference.GetProperty("vmfuzz").GetProperty("rax"), difference.GetProperty("unicorn").GetProperty("rax")));
    }

    [Fact]
    public void Lockstep_SameSeed_ComparesTheSame()
    {
        Library();
        string[] arguments = ["lockstep", "--mode", "real16", "--seed", "5", "--instructions", "20000", "--json"];
        JsonElement one = Run(arguments).Json;
        JsonElement other = Run(arguments).Json;
        foreach (string name in (string[])["programs", "runs", "instructions", "exceptions"])
        {
            Assert.Equal(one.GetProperty(name).GetUInt64(), other.GetProperty(name).GetUInt64());
        }
    }

    [Fact]
    public void Lockstep_TwoThreads_Agree()
    {
        Library();
        Ran ran = Run("lockstep", "--instructions", "60000", "--jobs", "2");
        Assert.True(ran.Status == 0, ran.Out + ran.Err);
    }

    [Theory]
    [InlineData("--oracle", "bochs")]
    [InlineData("--mode", "long")]
    [InlineData("--seed", "x")]
    [InlineData("--instructions", "0")]
    [InlineData("--jobs", "65")]
    [InlineData("--code", "4")]
    [InlineData("--code", "0fba")]
    [InlineData("--cpu", "z80")]
    public void Lockstep_WrongArgument_IsRefused(string option, string value) => Refuses(Run("lockstep", option, value));

    [Fact]
    public void Library_UnderNoName_SaysThatItIsMissing()
    {
        (UnicornLibrary? library, string missing) = UnicornLibrary.Load(["libunicorn-that-is-not-here.so"]);
        Assert.Null(library);
        Assert.Equal("libunicorn is not here", missing);
    }

    [Fact]
    public void Lockstep_Faults_ListsTheTable()
    {
        Ran ran = Run("lockstep", "--faults", "--json");
        Assert.Equal(0, ran.Status);
        Assert.Equal(KnownFaults.Rows.Length, ran.Out.Split('\n', StringSplitOptions.RemoveEmptyEntries).Length);
    }

    private static UnicornLibrary Library()
    {
        UnicornLibrary? library = UnicornLibrary.Find(out string missing);
        Assert.SkipWhen(library is null, $"{missing}: {UnicornLibrary.HowToInstall}");
        return library!;
    }

    private static LockstepDifference FindWith(UnicornLibrary library, FlatMode mode, InstructionRow row)
    {
        var variants = new MachineVariants { Instructions = InstructionTable.Default.With(row) };
        using var pair = new LockstepPair(library, mode, MachineOptions.DefaultCpu, KnownFaults.Rows, variants);
        for (ulong seed = 1; seed < 500; seed++)
        {
            if (pair.Run(seed) is { } found)
            {
                return found;
            }
        }

        throw new InvalidOperationException("500 programs agree");
    }
}
