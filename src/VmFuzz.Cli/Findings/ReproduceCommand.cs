using System.ComponentModel;
using System.Diagnostics;
using System.Globalization;
using VmFuzz.Fuzzing;

namespace VmFuzz.Cli;

/// <summary><c>vmfuzz reproduce</c>.</summary>
internal static class ReproduceCommand
{
    /// <summary>How long an input may take that is known to hang or to kill its process.</summary>
    public const int DefaultSeconds = 10;

    private const int MostSeconds = 86_400;

    /// <summary>Runs a finding or an input again.</summary>
    public static int Execute(Host host, string path, string? targetName, IReadOnlyList<string> plugins, string? secondsText, bool here, bool json)
    {
        int seconds = Seconds(secondsText);
        InputSubject subject = InputSubject.Read(path);
        FuzzPlugins loaded = FuzzPlugins.Load(plugins);
        string name = targetName ?? subject.Target ?? InputText.NameOf(subject.Input.Target);
        FuzzTargetRow target = loaded.Find(name)
            ?? throw UserError.At(
                $"there is no target '{Quantities.Plain(name)}'",
                path,
                subject.PluginFiles.Count != 0 && plugins.Count == 0
                    ? $"give --plugin {Quantities.Plain(string.Join(" --plugin ", subject.PluginFiles))}"
                    : $"use {string.Join(", ", loaded.Targets.Select(static t => t.Name))}");
        if (!here && subject.Finding is { } deadly && FindingNames.EndsProcess(deadly.Violation))
        {
            return InChild(host, path, target.Name, loaded, seconds, json);
        }

        Reproduced result = Reproducer.Run(target.CreateExecutor, subject.Input, subject.Finding, EngineIdentity.Here(loaded.Identities));
        int status = result.Probe.Violation is null ? ExitStatus.Fine : ExitStatus.Finding;
        if (json)
        {
            WriteJson(host, path, target.Name, subject, result, status);
        }
        else
        {
            WriteText(host.Out, path, target.Name, subject, result);
        }

        return status;
    }

    private static int Seconds(string? text)
    {
        if (text is null)
        {
            return DefaultSeconds;
        }

        return Quantities.TryNumber(text, out ulong value) && value is > 0 and <= MostSeconds
            ? (int)value
            : throw UserError.At($"'{text}' is not a number of seconds", "--seconds", $"give a number from 1 to {MostSeconds}");
    }

    /// <summary>Runs it in a process of its own, whose end is the answer.</summary>
    private static int InChild(Host host, string path, string target, FuzzPlugins plugins, int seconds, bool json)
    {
        ProcessStartInfo recipe = WorkerProcess.Recipe(0);
        recipe.ArgumentList.RemoveAt(recipe.ArgumentList.Count - 1);
        foreach (string word in (string[])["reproduce", Path.GetFullPath(path), "--here", "--target", target, .. plugins.Paths.SelectMany(static p => new[] { "--plugin", p }), .. json ? new[] { "--json" } : []])
        {
            recipe.ArgumentList.Add(word);
        }

        recipe.UseShellExecute = false;
        recipe.RedirectStandardOutput = true;
        recipe.RedirectStandardError = true;
        recipe.RedirectStandardInput = true;
        using Process process = Start(recipe);
        process.StandardInput.Close();
        Task<string> output = process.StandardOutput.ReadToEndAsync();
        Task<string> error = process.StandardError.ReadToEndAsync();
        string what;
        if (process.WaitForExit(seconds * 1000))
        {
            process.WaitForExit();
            if (process.ExitCode is ExitStatus.Fine or ExitStatus.Finding or ExitStatus.Usage or ExitStatus.EngineBug)
            {
                host.Out.Write(output.Result);
                host.Err.Write(error.Result);
                return process.ExitCode;
            }

            what = string.Create(CultureInfo.InvariantCulture, $"it ends the process that runs it, with status {process.ExitCode}");
        }
        else
        {
            process.Kill(entireProcessTree: true);
            process.WaitForExit();
            what = string.Create(CultureInfo.InvariantCulture, $"it did not end within {seconds} s");
        }

        if (json)
        {
            JsonReport.Write(host.Out, writer =>
            {
                writer.WriteString("command", "reproduce");
                writer.WriteNumber("status", ExitStatus.Finding);
                writer.WriteString("path", path);
                writer.WriteString("target", target);
                writer.WriteBoolean("stillShows", true);
                writer.WriteString("text", what);
            });
        }
        else
        {
            host.Out.WriteLine($"{Quantities.Plain(path)}: still shows: {what}");
        }

        return ExitStatus.Finding;
    }

    private static Process Start(ProcessStartInfo recipe)
    {
        try
        {
            return Process.Start(recipe)!;
        }
        catch (Win32Exception error)
        {
            throw UserError.At($"a process cannot be started ({error.Message.ReplaceLineEndings(" ")})", recipe.FileName, "run it in this one with --here");
        }
    }

    private static void WriteText(TextWriter writer, string path, string target, InputSubject subject, Reproduced result)
    {
        InputProbe probe = result.Probe;
        string seen = probe.Violation is { } violation ? Quantities.Plain(violation.ToString()) : "nothing breaks";
        string? key = subject.Finding is { } finding ? Quantities.Plain(finding.Violation.Key) : null;
        string verdict = key is null ? seen
            : result.Still ? "still shows " + seen
            : probe.Violation is null ? $"does not show {key} any more: {seen}"
            : $"does not show {key} any more, but {seen}";
        writer.WriteLine($"{Quantities.Plain(path)}: {verdict}");
        writer.WriteLine($"  target {target}, {Quantities.Grouped(probe.Exits)} exits, {Quantities.Grouped(probe.Instructions)} instructions{(probe.Deep ? "; seen by comparing several runs" : "")}");
        if (key is not null)
        {
            writer.WriteLine($"  key {probe.Violation?.Key ?? "none"}: {(result.SameKey == true ? "the recorded one" : $"not the recorded {key}")}");
        }

        string digest = Quantities.Digest(probe.Digest);
        writer.WriteLine(result.SameDigest switch
        {
            true => $"  digest {digest}: the recorded one",
            false => $"  digest {digest}: not the recorded {Quantities.Digest(subject.Finding!.Digest!.Value)}",
            null => $"  digest {digest}",
        });
        if (result.SameEngine == false)
        {
            writer.WriteLine($"  recorded by another engine: {Quantities.Plain(subject.Finding!.Campaign.Engine.Version)}, semantics {subject.Finding.Campaign.Engine.Semantics}, rows {Quantities.Digest(subject.Finding.Campaign.Engine.Rows)}");
        }
    }

    private static void WriteJson(Host host, string path, string target, InputSubject subject, Reproduced result, int status) => JsonReport.Write(host.Out, writer =>
    {
        InputProbe probe = result.Probe;
        writer.WriteString("command", "reproduce");
        writer.WriteNumber("status", status);
        writer.WriteString("path", path);
        writer.WriteString("target", target);
        writer.WriteBoolean("stillShows", result.Still);
        writer.WriteString("key", probe.Violation?.Key);
        writer.WriteString("text", probe.Violation?.Text);
        writer.WriteBoolean("deep", probe.Deep);
        writer.WriteNumber("exits", probe.Exits);
        writer.WriteNumber("instructions", probe.Instructions);
        writer.WriteString("digest", Quantities.Digest(probe.Digest));
        if (subject.Finding is { } finding)
        {
            writer.WriteString("recordedKey", finding.Violation.Key);
            writer.WriteBoolean("sameKey", result.SameKey == true);
            writer.WriteString("recordedDigest", finding.Digest is { } digest ? Quantities.Digest(digest) : null);
            writer.WriteBoolean("sameDigest", result.SameDigest == true);
            writer.WriteBoolean("sameEngine", result.SameEngine == true);
        }
    });
}
