using VmFuzz.Fuzzing;

namespace VmFuzz.Cli;

/// <summary>What a path given to <c>explain</c> or <c>reproduce</c> holds.</summary>
/// <param name="Path">The path as the user wrote it.</param>
/// <param name="Bytes">The input.</param>
/// <param name="Finding">The finding, when the path is one's directory.</param>
/// <param name="Target">The target's name, as far as what stands around the path says it.</param>
/// <param name="PluginFiles">Plug-ins that the target was in.</param>
internal sealed record InputSubject(string Path, byte[] Bytes, Finding? Finding, string? Target, IReadOnlyList<string> PluginFiles)
{
    /// <summary>The input.</summary>
    public FuzzInput Input { get; } = FuzzCodec.Decode(Bytes);

    /// <summary>Whether the bytes are in the form that inputs are written in.</summary>
    public bool Canonical => Bytes.AsSpan().SequenceEqual(FuzzCodec.Encode(Input.Clone()));

    /// <summary>Reads a path; what cannot be used is the user's error.</summary>
    public static InputSubject Read(string path)
    {
        if (Directory.Exists(path))
        {
            return ReadFolder(path);
        }

        InputFiles.MustExist(path, "the input");
        byte[] bytes = ReadFile(path);
        string folder = System.IO.Path.GetDirectoryName(System.IO.Path.GetFullPath(path)) ?? "/";
        // The file of a finding knows its target; one of a campaign's queue or crashes the campaign's.
        if (TryFinding(folder, out Finding? beside) is null && beside is not null)
        {
            return new(path, bytes, null, beside.Campaign.Target, beside.Campaign.PluginFiles);
        }

        string worker = System.IO.Path.GetDirectoryName(folder) ?? "/";
        CampaignFile? campaign = CampaignFile.TryRead(System.IO.Path.GetDirectoryName(worker) ?? "/") ?? CampaignFile.TryRead(worker);
        return new(path, bytes, null, campaign?.Target is { Length: > 0 } target ? target : null, campaign?.Plugins ?? []);
    }

    private static InputSubject ReadFolder(string path)
    {
        string? wrong = TryFinding(path, out Finding? finding);
        if (wrong is not null)
        {
            throw UserError.At(wrong, path, "name the file of the input in it");
        }

        if (finding is not null)
        {
            string input = System.IO.Path.Combine(path, FindingNames.Input);
            // Triage that has not ended has the input elsewhere.
            byte[] bytes = File.Exists(input) ? ReadFile(input) : Pending(path);
            return new(path, bytes, finding, finding.Campaign.Target, finding.Campaign.PluginFiles);
        }

        if (File.Exists(System.IO.Path.Combine(path, Regression.Expect)))
        {
            string? broken = Regression.TryRead(path, out Regression? regression);
            return broken is not null
                ? throw new UserError(broken)
                : new(path, ReadFile(System.IO.Path.Combine(path, FindingNames.Input)), null, regression!.Target, []);
        }

        throw FindingList.Read(path).Workers.Length != 0
            ? UserError.At("this is a campaign, not a finding", path, $"'vmfuzz findings {path}' lists what it found")
            : UserError.At("there is no finding", path, "name a finding's directory or a file");
    }

    // Null without a finding also when there is none; a text when there is one that cannot be used.
    private static string? TryFinding(string folder, out Finding? finding)
    {
        finding = null;
        string full = System.IO.Path.GetFullPath(folder);
        var lines = new List<string>();
        Corpus files = Corpus.OpenToRead(full, lines.Add);
        if (files.TryRead(FindingNames.Facts, FindingJson.MostBytes) is { } facts)
        {
            return FindingJson.TryRead(facts, out finding) is { } wrong ? $"{FindingNames.Facts} cannot be used ({wrong})" : null;
        }

        if (files.TryRead(FindingNames.Pending, FindingJson.MostBytes) is not { } begun)
        {
            return lines.Count == 0 ? null : Quantities.Plain(lines[0]);
        }

        string? broken = FindingJson.TryRead(begun, out PendingFinding? pending);
        finding = pending?.Finding;
        return broken is null ? null : $"{FindingNames.Pending} cannot be used ({broken})";
    }

    private static byte[] Pending(string folder)
    {
        Corpus files = Corpus.OpenToRead(folder, static _ => { });
        return files.TryRead(FindingNames.Pending, FindingJson.MostBytes) is { } begun && FindingJson.TryRead(begun, out PendingFinding? pending) is null
            ? [.. pending!.Input]
            : throw UserError.At($"the finding has no {FindingNames.Input}", folder, "its files were moved or deleted");
    }

    private static byte[] ReadFile(string path)
    {
        try
        {
            // Pipes and devices say 0 bytes; opening one could wait for ever.
            long length = new FileInfo(path).Length;
            if (length == 0)
            {
                return [];
            }

            using FileStream stream = File.OpenRead(path);
            byte[] bytes = new byte[(int)Math.Min(length, FuzzLimits.InputBytes)];
            int read = stream.ReadAtLeast(bytes, bytes.Length, throwOnEndOfStream: false);
            return bytes[..read];
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException or NotSupportedException)
        {
            throw UserError.At($"the input cannot be read ({error.Message.ReplaceLineEndings(" ")})", path, "check the path and its permissions");
        }
    }
}
