using System.Globalization;
using VmFuzz.Fuzzing;

namespace VmFuzz.Cli;

/// <summary><c>vmfuzz fuzz rerun</c>: one execution of a campaign once more.</summary>
internal static class RerunCommand
{
    /// <summary>Makes the input of an execution from its index, runs it, and compares with what was noted at the time.</summary>
    /// <param name="host">Where to.</param>
    /// <param name="shown">The campaign's directory.</param>
    /// <param name="worker">Number of the worker.</param>
    /// <param name="execution">Index of the execution.</param>
    /// <param name="trace">Where its trace goes; empty for nowhere.</param>
    /// <param name="json">Whether the report is JSON.</param>
    public static int Execute(Host host, string shown, int worker, ulong execution, string trace, bool json)
    {
        string root = Path.GetFullPath(shown);
        CampaignFile file = CampaignFile.Read(root, shown);
        if (!Directory.Exists(Path.Combine(root, CampaignFile.WorkerName(worker))))
        {
            throw UserError.At($"the campaign has no worker {worker}", shown, $"it has workers 0 to {file.Jobs - 1}");
        }

        if (trace.Length != 0)
        {
            InputFiles.MustBeWritable(trace, "--trace", [], overwrite: false);
        }

        FuzzPlugins plugins = FuzzPlugins.Load(file.Plugins);
        FuzzTargetRow target = plugins.Find(file.Target) ?? throw UserError.At($"there is no target '{file.Target}' any more", shown, "check the plug-ins of the campaign");
        using var directory = CampaignDirectory.Hold(root, shown);
        FuzzHostResponse answer = Ask(file, root, worker, execution);
        if (answer.Error is { } error)
        {
            throw UserError.At(error, string.Create(CultureInfo.InvariantCulture, $"{shown}, worker {worker}, execution {execution}"), "check the index against fuzzer_stats");
        }

        if (trace.Length != 0)
        {
            using IFuzzExecutor executor = target.CreateExecutor();
            executor.Record(FuzzCodec.Decode(answer.Input ?? []), Path.GetFullPath(trace), new FuzzOrigin(target.Name, plugins.Identities));
        }

        bool traced = trace.Length != 0 && File.Exists(trace);

        int status = answer.SameDigest == false || answer.Violation is not null ? ExitStatus.Finding : ExitStatus.Fine;
        if (json)
        {
            JsonReport.Write(host.Out, writer =>
            {
                writer.WriteString("command", "fuzz rerun");
                writer.WriteNumber("status", status);
                writer.WriteNumber("worker", worker);
                writer.WriteNumber("execution", execution);
                writer.WriteString("digest", answer.Digest is { } d ? "0x" + d : null);
                writer.WriteString("compared", Compared(answer));
                writer.WriteString("violation", answer.Violation);
                writer.WriteNumber("bytes", answer.Input?.Length ?? 0);
                writer.WriteString("trace", traced ? trace : null);
            });
            return status;
        }

        host.Out.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{file.Target}, worker {worker}, execution {execution}: {answer.Input?.Length ?? 0} bytes"));
        host.Out.WriteLine($"  digest {(answer.Digest is { } digest ? "0x" + digest : "unknown")}: {Compared(answer)}");
        host.Out.WriteLine(answer.Violation is { } violation ? $"  broke {Quantities.Plain(violation)}" : "  broke nothing");
        if (trace.Length != 0)
        {
            host.Out.WriteLine(traced ? $"  trace {trace}: vmfuzz trace dump {trace}" : "  no trace: this target's runs are not of a kind that traces hold");
        }

        return status;
    }

    private static string Compared(FuzzHostResponse answer) => answer.SameDigest switch
    {
        true => "the same as when it ran first",
        false => "ANOTHER than when it ran first",
        null => "none was noted when it ran first",
    };

    private static FuzzHostResponse Ask(CampaignFile file, string root, int worker, ulong execution)
    {
        var order = new WorkerOrder
        {
            Worker = worker,
            Target = file.Target,
            Root = root,
            Seed = file.Seed,
            Plugins = file.Plugins,
            Coverage = file.Coverage,
            Sync = file.Jobs > 1,
        };
        Func<byte[], byte[]> engine = HostLoader.Open(WorkerCampaign.ConfigOf(order), file.Coverage);
        FuzzHostResponse answer = FuzzHostResponse.FromJson(engine(new FuzzHostRequest { Op = FuzzHostRequest.Rerun, Index = execution }.ToJson()));
        engine(new FuzzHostRequest { Op = FuzzHostRequest.Stop }.ToJson());
        return answer;
    }
}
