using VmFuzz.Machines;

namespace VmFuzz.Conformance.Tests;

/// <summary>The same bits everywhere: golden traces replay in other processes under other settings of the runtime.</summary>
public sealed class TraceSettingsTests
{
    public static TheoryData<string, string, string> Settings()
    {
        var data = new TheoryData<string, string, string>();
        foreach (string trace in (string[])["chaos-bare", "chaos-kvm", "exits64-kvm"])
        {
            data.Add(trace, "", "");
            data.Add(trace, "DOTNET_EnableHWIntrinsic", "0");
            data.Add(trace, "DOTNET_TieredCompilation", "0");
            data.Add(trace, "DOTNET_TieredPGO", "1");
            data.Add(trace, "LANG", "tr_TR.UTF-8");
            data.Add(trace, "LC_ALL", "de_DE.UTF-8");
        }

        return data;
    }

    [Theory]
    [MemberData(nameof(Settings))]
    public void GoldenTrace_InAnotherProcess_ReplaysIdentically(string trace, string name, string value)
    {
        (string, string)[] environment = name.Length == 0 ? []
            : name is "LANG" or "LC_ALL" ? [(name, value), ("DOTNET_SYSTEM_GLOBALIZATION_INVARIANT", "0")]
            : [(name, value)];
        Command.Replays(Path.Combine(Repository.Root, "corpus", "traces", trace + ".vmtrace"), null, environment);
    }

    [Theory]
    [InlineData("Debug")]
    [InlineData("Release")]
    public void GoldenTrace_InAnotherConfiguration_ReplaysIdentically(string configuration)
    {
        string? assembly = Command.OfConfiguration(configuration);
        Assert.SkipWhen(assembly is null, $"the {configuration} build of the command does not exist");
        Command.Replays(Path.Combine(Repository.Root, "corpus", "traces", "chaos-kvm.vmtrace"), assembly);
    }
}
