using System.Diagnostics;
using VmFuzz.Fuzzing;

namespace VmFuzz.Cli.Tests;

/// <summary>A view that remembers.</summary>
internal sealed class RecordingView : IFuzzView
{
    public List<string> Said { get; } = [];

    public List<FoundFinding> Findings { get; } = [];

    public Action<CampaignView>? Shown { get; set; }

    public void Show(CampaignView view) => Shown?.Invoke(view);

    public void Say(string line) => Said.Add(line);

    public void Found(FoundFinding finding) => Findings.Add(finding);

    public void Dispose()
    {
    }
}

/// <summary>A supervisor whose workers are scripts: what a worker says and how it ends is under control.</summary>
public abstract class SupervisorFixture : CommandFixture
{
    internal RecordingView View { get; } = new();

    internal FuzzArguments Arguments => new()
    {
        Target = FuzzTargetRow.BuiltIn[0],
        Driver = FuzzDriver.BuiltIn,
        Output = At("out"),
        ShownOutput = At("out"),
        HangSeconds = 0.5,
        Seed = 1,
    };

    /// <summary>Runs a campaign of one worker.</summary>
    /// <remarks>
    /// In the script <c>$order</c> is its order, <c>$dir</c> its directory, <c>$n</c> how often it was started;
    /// <c>current PHASE INDEX</c> writes the file of the running execution.
    /// </remarks>
    internal (CampaignView View, string? Problem) RunScript(string script, FuzzArguments? arguments = null, Action<Supervisor>? started = null)
    {
        arguments ??= Arguments;
        using CampaignDirectory directory = CampaignDirectory.Open(arguments, static () => 1);
        string dir = Path.Combine(arguments.Output, "worker00");
        string text = $$"""
            dir='{{dir}}'
            mkdir -p "$dir"
            echo x >> '{{At("starts")}}'
            n=$(wc -l < '{{At("starts")}}')
            current() { printf "VFC1\\00$1\\0\\0\\0\\00$2\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0" > "$dir/.current"; }
            IFS= read -r order
            {{script}}
            """;
        using var supervisor = new Supervisor(arguments, directory, View, () => new ProcessStartInfo("/bin/bash") { ArgumentList = { "-c", text } });
        started?.Invoke(supervisor);
        string? problem = supervisor.Run();
        return (supervisor.View, problem);
    }
}
