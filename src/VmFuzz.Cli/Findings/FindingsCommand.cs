using VmFuzz.Fuzzing;

namespace VmFuzz.Cli;

/// <summary><c>vmfuzz findings</c>.</summary>
internal static class FindingsCommand
{
    /// <summary>Lists the findings of a campaign and writes reports.</summary>
    public static int Execute(Host host, string path, string? sarif, string? junit, bool force, bool json)
    {
        if (!Directory.Exists(path))
        {
            throw UserError.At(File.Exists(path) ? "this is a file" : "there is no campaign", path, "name the directory that was given to --out");
        }

        FindingList list = FindingList.Read(path);
        foreach (string line in list.Lines)
        {
            host.Err.WriteLine($"vmfuzz: {Quantities.Plain(line)}");
        }

        if (list.Workers.IsEmpty)
        {
            throw UserError.At("there is no campaign", path, "name the directory that was given to --out");
        }

        CheckReports(path, list, sarif, junit, force);
        if (sarif is not null)
        {
            WriteReport(sarif, "--sarif", SarifReport.Write(list));
        }

        if (junit is not null)
        {
            WriteReport(junit, "--junit", JUnitReport.Write(list, CampaignFile.TryRead(path) is { Target.Length: > 0 } file ? [file.Target] : []));
        }

        int status = list.Findings.IsEmpty && list.Loose.IsEmpty ? ExitStatus.Fine : ExitStatus.Finding;
        if (json)
        {
            WriteJson(host, path, list, status);
        }
        else
        {
            WriteText(host, path, list);
        }

        return status;
    }

    // Both are checked before one is written.
    private static void CheckReports(string path, FindingList list, string? sarif, string? junit, bool force)
    {
        foreach ((string? report, string option, string? other) in new[] { (sarif, "--sarif", junit), (junit, "--junit", null) })
        {
            if (report is null)
            {
                continue;
            }

            InputFiles.MustBeWritable(report, option, other is null ? [] : [other], overwrite: force);
            string full = Path.GetFullPath(File.Exists(report) ? File.ResolveLinkTarget(report, returnFinalTarget: true)?.FullName ?? report : report);
            string root = Path.GetFullPath(path);
            bool inside = list.Workers.Any(w => full.StartsWith(Path.GetFullPath(Path.Combine(root, w)) + Path.DirectorySeparatorChar, StringComparison.Ordinal));
            if (inside || string.Equals(full, Path.Combine(root, CampaignFile.Name), StringComparison.Ordinal))
            {
                throw UserError.At("the report would stand among the campaign's own files", report, "choose a place outside of them");
            }
        }
    }

    private static void WriteReport(string path, string option, byte[] bytes)
    {
        try
        {
            using FileStream stream = InputFiles.Create(path, option);
            stream.Write(bytes);
        }
        catch (IOException error)
        {
            throw UserError.At($"{option} cannot be written ({error.Message.ReplaceLineEndings(" ")})", path, "choose another place");
        }
    }

    private static void WriteText(Host host, string path, FindingList list)
    {
        TextWriter writer = host.Out;
        writer.WriteLine($"{Quantities.Plain(path)}: {Count(list.Findings.Length, "finding")}, {Count(list.Workers.Length, "worker")}");
        foreach (MergedFinding merged in list.Findings)
        {
            Finding finding = merged.Best;
            string copies = merged.Copies > 1 ? $", {merged.Copies} workers" : "";
            writer.WriteLine($"  {Quantities.Plain(finding.Violation.ToString())}");
            writer.WriteLine($"    {Quantities.Plain(finding.Campaign.Target)}, {FindingJson.NameOf(finding.State)}, {finding.Bytes} bytes, execution {finding.Execution}{copies}");
            writer.WriteLine($"    {Quantities.Plain(FindingNames.Command(Path.Combine(path, merged.Folder), null, finding.Campaign.PluginFiles))}");
        }

        foreach (string folder in list.Pending)
        {
            writer.WriteLine($"  {Quantities.Plain(folder)}: not looked at to the end; going on with the campaign does it");
        }

        foreach (string file in list.Loose)
        {
            writer.WriteLine($"  {Quantities.Plain(file)}: belongs to no finding");
            writer.WriteLine($"    {Quantities.Plain(FindingNames.Command(Path.Combine(path, file), null, []))}");
        }
    }

    private static void WriteJson(Host host, string path, FindingList list, int status) => JsonReport.Write(host.Out, writer =>
    {
        writer.WriteString("command", "findings");
        writer.WriteNumber("status", status);
        writer.WriteString("path", path);
        writer.WriteNumber("workers", list.Workers.Length);
        writer.WriteStartArray("findings");
        foreach (MergedFinding merged in list.Findings)
        {
            writer.WriteStartObject();
            writer.WriteString("folder", merged.Folder);
            writer.WriteNumber("copies", merged.Copies);
            FindingJson.WriteFacts(writer, merged.Best, FindingNames.Command(Path.Combine(path, merged.Folder), null, merged.Best.Campaign.PluginFiles));
            writer.WriteEndObject();
        }

        writer.WriteEndArray();
        Strings(writer, "pending", list.Pending);
        Strings(writer, "loose", list.Loose);
        Strings(writer, "unreadable", list.Lines);
    });

    private static void Strings(System.Text.Json.Utf8JsonWriter writer, string name, IEnumerable<string> values)
    {
        writer.WriteStartArray(name);
        foreach (string value in values)
        {
            writer.WriteStringValue(value);
        }

        writer.WriteEndArray();
    }

    private static string Count(int count, string what) => count == 1 ? $"1 {what}" : $"{count} {what}s";
}
