using System.Globalization;
using VmFuzz.Machines;

namespace VmFuzz.Conformance.Tests;

/// <summary>The guests of the corpus find nothing wrong with the machine they run on.</summary>
public sealed class GuestRunTests
{
    [Theory]
    [InlineData("hello16")]
    [InlineData("hello32")]
    [InlineData("hello64")]
    [InlineData("faults64")]
    [InlineData("paging64")]
    [InlineData("exits64")]
    [InlineData("chaos")]
    [InlineData("loop64")]
    public void Guest_UnderTheHypervisor_PrintsTheSameAsOnTheBareProcessor(string name)
    {
        GuestRun bare = GuestRun.Of(name, Accelerator.Bare);
        GuestRun kvm = GuestRun.Of(name, Accelerator.Kvm);
        AssertEnded(kvm);
        Assert.Equal(bare.Output, kvm.Output);
    }

    // Closer together the answers part, rightly: while one is handled, a processor keeps one NMI and the hypervisor two.
    [Theory]
    [InlineData(300, 3)]
    [InlineData(2000, 4)]
    [InlineData(20000, 5)]
    public void Chaos_UnderInputs_PrintsTheSameOnBoth(int distance, ulong seed)
    {
        GuestRun bare = GuestRun.Of("chaos", Accelerator.Bare, new ScriptedInputs(distance, seed));
        GuestRun kvm = GuestRun.Of("chaos", Accelerator.Kvm, new ScriptedInputs(distance, seed));
        AssertEnded(kvm);
        Assert.Equal(bare.Output, kvm.Output);
    }

    [Theory]
    [InlineData("hello16", "hi\n")]
    [InlineData("hello32", "hi\n")]
    [InlineData("hello64", "hi\n")]
    [InlineData("faults64", "UDDGSGPPPPBIT\n")]
    [InlineData("paging64", "OK\n")]
    public void Guest_OnTheBareProcessor_PrintsWhatItShould(string name, string output)
    {
        GuestRun run = GuestRun.Of(name, Accelerator.Bare);
        AssertEnded(run);
        Assert.Equal(output, run.Output);
        Assert.Equal(run, GuestRun.Of(name, Accelerator.Bare, reference: true));
    }

    [Fact]
    public void Exits_OnTheBareProcessor_EndWell()
    {
        GuestRun run = GuestRun.Of("exits64", Accelerator.Bare);
        AssertEnded(run);
        Assert.Matches("^exits [0-9a-f]{16}\n$", run.Output);
    }

    [Fact]
    public void Loop_OnTheBareProcessor_ComputesWhatTheHostComputes()
    {
        ulong[] table = new ulong[0x10000];
        ulong x = 0x9E37_79B9_7F4A_7C15;
        ulong sum = 0;
        for (int round = 0; round < 3_846_000; round++)
        {
            x = (x * 6364136223846793005) + 1442695040888963407;
            ref ulong word = ref table[(int)(x >> 40) & 0xFFFF];
            word ^= x;
            sum += ulong.RotateLeft(word, 23);
            sum += sum >> 63;
        }

        GuestRun run = GuestRun.Of("loop64", Accelerator.Bare);
        AssertEnded(run);
        Assert.Equal(sum.ToString("x16", CultureInfo.InvariantCulture) + "\n", run.Output);
    }

    [Theory]
    [InlineData(0, 1)]
    [InlineData(100, 2)]
    [InlineData(300, 3)]
    [InlineData(2000, 4)]
    [InlineData(20000, 5)]
    public void Chaos_UnderInputs_SurvivesAndRepeats(int distance, ulong seed)
    {
        var inputs = new ScriptedInputs(distance, seed);
        GuestRun run = GuestRun.Of("chaos", Accelerator.Bare, inputs);
        AssertEnded(run);
        string counters = run.Output[run.Output.IndexOf("nmi=", StringComparison.Ordinal)..];
        Assert.Matches("^nmi=[0-9a-f]{16} int=[0-9a-f]{16} echo=[0-9a-f]{16} sum=[0-9a-f]{16}\n$", counters);

        // Of what came close together a part may be merged or lost; nothing is made up.
        Assert.InRange(Value(counters, "nmi="), inputs.Nmis > 0 ? 1UL : 0, (ulong)inputs.Nmis);
        Assert.InRange(Value(counters, "int="), inputs.Interrupts > 0 ? 1UL : 0, (ulong)(inputs.Interrupts + inputs.Bytes));
        Assert.InRange(Value(counters, "echo="), inputs.Bytes > 0 ? 1UL : 0, (ulong)inputs.Bytes);
        Assert.Equal(run, GuestRun.Of("chaos", Accelerator.Bare, new ScriptedInputs(distance, seed)));
        if (distance != 0)
        {
            Assert.NotEqual(run.Output, GuestRun.Of("chaos", Accelerator.Bare, new ScriptedInputs(distance, seed + 100)).Output, StringComparer.Ordinal);
        }
    }

    private static ulong Value(string counters, string name) =>
        ulong.Parse(counters.AsSpan(counters.IndexOf(name, StringComparison.Ordinal) + name.Length, 16), NumberStyles.HexNumber, CultureInfo.InvariantCulture);

    private static void AssertEnded(GuestRun run)
    {
        Assert.Equal(MachineStopKind.DebugExit, run.Stop.Kind);
        Assert.True(run.Stop.GuestStatus == 1, $"{run.Stop.Text}: {run.Output}");
    }
}
