using System.Diagnostics;
using System.Globalization;
using VmFuzz.Fuzzing;

namespace VmFuzz.Cli;

/// <summary>What the inputs that a fuzzer from outside has saved really break.</summary>
internal static class OutsideFindings
{
    private const int MostFiles = 1000;

    /// <summary>
    /// Brings the files into the one form of inputs and runs each, in processes of their own, with all oracles.
    /// </summary>
    /// <param name="findings">Folder of distinct findings.</param>
    /// <param name="seeds">Folder of seeds: fuzzers pass over those that end the process.</param>
    /// <param name="fuzzers">Whose saved files.</param>
    /// <param name="arguments">What was asked for.</param>
    /// <param name="say">Takes lines for people.</param>
    /// <returns>Distinct findings, in the order of the files.</returns>
    public static IReadOnlyList<FoundFinding> Collect(string findings, string seeds, IEnumerable<OutsideFuzzer> fuzzers, FuzzArguments arguments, Action<string> say)
    {
        (int Worker, string File)[] files =
        [
            .. Directory.Exists(findings) ? Directory.GetFiles(findings).Order(StringComparer.Ordinal).Select(static file => (0, file)) : [],
            .. Directory.Exists(seeds) ? Directory.GetFiles(seeds).Order(StringComparer.Ordinal).Select(static file => (0, file)) : [],
            .. fuzzers.SelectMany(static fuzzer => fuzzer.Saved().Order(StringComparer.Ordinal).Select(file => (fuzzer.Worker, file))),
        ];
        if (files.Length > MostFiles)
        {
            say($"of {files.Length} saved inputs only the first {MostFiles} are looked at");
            files = files[..MostFiles];
        }

        FuzzInput input = new();
        foreach ((int _, string file) in files)
        {
            FuzzCodec.Decode(File.ReadAllBytes(file), input, arguments.Target.Kind);
            File.WriteAllBytes(file, FuzzCodec.Encode(input));
        }

        var found = new Dictionary<string, FoundFinding>(StringComparer.Ordinal);
        int fine = 0;
        for (int next = 0; next < files.Length;)
        {
            // One process for as many as it survives.
            (IReadOnlyList<string> said, string? end) = Run([.. files[next..].Select(static f => f.File)], arguments);
            foreach (string text in end is null ? said : said.Append(end))
            {
                if (next == files.Length)
                {
                    break;
                }

                (int worker, string file) = files[next++];
                if (text == "fine")
                {
                    fine += Path.GetDirectoryName(file) == seeds ? 0 : 1;
                    continue;
                }

                string[] parts = text.Split(": ", 2);
                ulong execution = CorpusName.Parse(Path.GetFileName(file))?.Executions ?? 0;
                found.TryAdd(parts[0], new FoundFinding(parts[0], parts[^1], worker, execution, file));
            }

            if (said.Count == 0 && end is null)
            {
                say("saved inputs could not be run again");
                break;
            }
        }

        if (fine != 0)
        {
            say(string.Create(CultureInfo.InvariantCulture, $"{fine} saved inputs break nothing when run alone; they are kept"));
        }

        return [.. found.Values];
    }

    // What each of the first files broke, and what became of the one after them when the process did not outlive it.
    private static (IReadOnlyList<string> Said, string? End) Run(string[] files, FuzzArguments arguments)
    {
        string[] host = OutsideFuzzer.HostOf(AflFuzzer.HostName);
        ProcessStartInfo start = new(host[0], [.. host.Skip(1), .. OutsideFuzzer.TargetOf(arguments with { Coverage = false }), .. files])
        {
            UseShellExecute = false,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        start.Environment["DOTNET_DbgEnableMiniDump"] = "0";
        var said = new List<string>();
        using Process process = Process.Start(start)!;
        process.ErrorDataReceived += static (_, _) => { };
        process.BeginErrorReadLine();
        Task<string?> line = process.StandardOutput.ReadLineAsync();
        while (true)
        {
            // The first one also waits for the program to start.
            if (!line.Wait(TimeSpan.FromSeconds(arguments.HangSeconds + (said.Count == 0 ? 30 : 0))))
            {
                process.Kill();
                return (said, string.Create(CultureInfo.InvariantCulture, $"{OracleFolders.Hang}: no end after {arguments.HangSeconds} s"));
            }

            if (line.Result is not { } text)
            {
                break;
            }

            // Long texts have further lines, which begin otherwise.
            if (said.Count < files.Length && text.StartsWith(files[said.Count] + ": ", StringComparison.Ordinal))
            {
                said.Add(text[(files[said.Count].Length + 2)..]);
            }

            line = process.StandardOutput.ReadLineAsync();
        }

        process.WaitForExit();
        return (said, process.ExitCode > 128 ? string.Create(CultureInfo.InvariantCulture, $"{OracleFolders.Death}@signal{process.ExitCode - 128}: the process died of signal {process.ExitCode - 128}") : null);
    }
}
