using System.Globalization;
using VmFuzz.Fuzzing;
using VmFuzz.Trace;

namespace VmFuzz.Cli;

/// <summary>An input that was read from somewhere.</summary>
/// <param name="Origin">Name of its file, without folder.</param>
/// <param name="Bytes">Its bytes, in the one form in which inputs are written.</param>
/// <param name="Input">What they say.</param>
internal sealed record ReadInput(string Origin, byte[] Bytes, FuzzInput Input);

/// <summary>Inputs in files and folders of any kind, and folders of inputs that are made here.</summary>
internal static class InputFolder
{
    private const string TraceSuffix = ".vmtrace";

    /// <summary>
    /// Reads inputs: a trace gives several; a campaign's or a worker's directory gives its queues; any other directory
    /// gives its files; any other file is one input.
    /// </summary>
    /// <param name="path">What the user named.</param>
    /// <param name="target">The only kind of inputs wanted; null for all.</param>
    /// <param name="log">Takes lines for people.</param>
    public static IReadOnlyList<ReadInput> Read(string path, FuzzTarget? target, Action<string> log)
    {
        if (path.Length == 0 || (!Directory.Exists(path) && !File.Exists(path)))
        {
            throw UserError.At("there is no such file or directory", path, "check the path");
        }

        return Directory.Exists(path)
            ? [.. FoldersOf(path).SelectMany(folder => ReadFolder(folder, target, log))]
            : path.EndsWith(TraceSuffix, StringComparison.Ordinal) ? ReadTrace(path, target) : ReadFile(path, target, log);
    }

    /// <summary>Makes a folder for inputs.</summary>
    /// <param name="path">The folder.</param>
    /// <param name="mustBeEmpty">Whether one with files in it is refused.</param>
    public static void Make(string path, bool mustBeEmpty)
    {
        if (path.Length == 0 || File.Exists(path))
        {
            throw UserError.At("the output is not a directory", path, "name a directory");
        }

        if (File.Exists(Path.Combine(path, CampaignFile.Name)) || Directory.Exists(Path.Combine(path, "queue")))
        {
            throw UserError.At("the output is a campaign's", path, "name a directory of inputs, and give it to fuzz with --input");
        }

        try
        {
            Directory.CreateDirectory(path);
            if (mustBeEmpty && Directory.EnumerateFileSystemEntries(path).Any())
            {
                throw UserError.At("the output is not empty", path, "name another directory");
            }
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException or NotSupportedException)
        {
            throw UserError.At($"the output cannot be made ({error.Message.ReplaceLineEndings(" ")})", path, "choose another place");
        }
    }

    /// <summary>Writes inputs into a folder, under numbers of their own.</summary>
    public static void Write(string folder, IEnumerable<ReadInput> inputs)
    {
        uint next = 0;
        foreach (string name in Directory.EnumerateFiles(folder).Select(static f => Path.GetFileName(f)))
        {
            next = CorpusName.Parse(name) is { } used && used.Id >= next ? used.Id + 1 : next;
        }

        foreach (ReadInput input in inputs)
        {
            CorpusName? before = CorpusName.Parse(input.Origin);
            string origin = before is null ? input.Origin : before.Original.Length != 0 ? before.Original : before.Operation;
            string path = Path.Combine(folder, new CorpusName { Id = next++, Original = origin.Length == 0 ? "input" : origin }.Format());
            try
            {
                File.WriteAllBytes(path + ".tmp", input.Bytes);
                File.Move(path + ".tmp", path);
            }
            catch (Exception error) when (error is IOException or UnauthorizedAccessException)
            {
                throw UserError.At($"an input cannot be written ({error.Message.ReplaceLineEndings(" ")})", path, "make room, or choose another place");
            }
        }
    }

    /// <summary>Leaves out inputs that came before.</summary>
    /// <param name="inputs">Inputs.</param>
    /// <param name="seen">Those that came before; grows.</param>
    public static IReadOnlyList<ReadInput> Distinct(IEnumerable<ReadInput> inputs, HashSet<string> seen) =>
        [.. inputs.Where(i => seen.Add(Convert.ToBase64String(i.Bytes)))];

    private static IEnumerable<string> FoldersOf(string path)
    {
        if (File.Exists(Path.Combine(path, CampaignFile.Name)))
        {
            return Directory.GetDirectories(path, "worker*").Order(StringComparer.Ordinal).Select(static w => Path.Combine(w, "queue")).Where(Directory.Exists);
        }

        string queue = Path.Combine(path, "queue");
        return [Directory.Exists(queue) ? queue : path];
    }

    private static IEnumerable<ReadInput> ReadFolder(string folder, FuzzTarget? target, Action<string> log) =>
        Corpus.ReadFolder(folder, log)
            .Where(static f => !f.FileName.StartsWith('.') && !f.FileName.EndsWith(".tmp", StringComparison.Ordinal))
            .SelectMany(f => f.FileName.EndsWith(TraceSuffix, StringComparison.Ordinal)
                ? ReadTrace(Path.Combine(folder, f.FileName), target)
                : [Canonical(f.FileName, f.Bytes.AsSpan(), target)]);

    private static ReadInput[] ReadTrace(string path, FuzzTarget? target)
    {
        using TraceReader reader = ReplayCommand.Open(path);
        return
        [
            .. TraceSeeds.FromTrace(reader)
                .Where(i => target is null || i.Target == target)
                .Select((i, number) => new ReadInput(string.Create(CultureInfo.InvariantCulture, $"{Path.GetFileNameWithoutExtension(path)}-{number}"), FuzzCodec.Encode(i), i)),
        ];
    }

    private static ReadInput[] ReadFile(string path, FuzzTarget? target, Action<string> log)
    {
        var info = new FileInfo(path);
        try
        {
            using FileStream stream = info.OpenRead();
            var bytes = new byte[(int)Math.Min(info.Length, FuzzLimits.InputBytes)];
            if (info.Length > bytes.Length)
            {
                log($"{path} is longer than an input: of its {info.Length} bytes the first {bytes.Length} count");
            }

            int count = stream.ReadAtLeast(bytes, bytes.Length, throwOnEndOfStream: false);
            return [Canonical(info.Name, bytes.AsSpan(0, count), target)];
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            throw UserError.At($"the input cannot be read ({error.Message.ReplaceLineEndings(" ")})", path, "check its permissions");
        }
    }

    private static ReadInput Canonical(string name, ReadOnlySpan<byte> bytes, FuzzTarget? target)
    {
        FuzzInput input = new();
        FuzzCodec.Decode(bytes, input, target);
        return new ReadInput(name, FuzzCodec.Encode(input), input);
    }
}
