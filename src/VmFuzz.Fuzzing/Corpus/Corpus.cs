using System.Collections.Immutable;
using System.Runtime.InteropServices;
using System.Text;

namespace VmFuzz.Fuzzing;

/// <summary>Folders of a campaign, as AFL++ has them.</summary>
public enum CorpusFolder : byte
{
    /// <summary>Inputs kept for something new.</summary>
    Queue,
    /// <summary>Findings.</summary>
    Crashes,
    /// <summary>Inputs that did not end.</summary>
    Hangs,
}

/// <summary>One file of a corpus.</summary>
/// <param name="FileName">Its name, without folder.</param>
/// <param name="Name">What the name says; null for a foreign name.</param>
/// <param name="Bytes">Its first <see cref="FuzzLimits.InputBytes"/> bytes: any bytes.</param>
public sealed record CorpusFile(string FileName, CorpusName? Name, ImmutableArray<byte> Bytes);

/// <summary>
/// The directory of a campaign: <c>queue</c>, <c>crashes</c>, <c>hangs</c>, <c>fuzzer_stats</c>, <c>plot_data</c>. Never
/// writes or reads outside it; what cannot be read or written is a line in the log and not the end of the campaign.
/// </summary>
public sealed partial class Corpus
{
    /// <summary>Numbers from here on are not believed.</summary>
    internal const uint MostId = 1 << 30;

    private const string Temporary = ".tmp-";

    private readonly string _root;
    private readonly Action<string> _log;
    private readonly uint[] _next = new uint[3];

    private Corpus(string root, Action<string> log)
    {
        _root = root;
        _log = log;
    }

    /// <summary>Full path of the directory.</summary>
    public string Root => _root;

    /// <summary>Opens a directory and makes what is missing in it.</summary>
    /// <param name="path">The directory.</param>
    /// <param name="log">Takes lines for people.</param>
    /// <param name="corpus">The corpus, when the result is null.</param>
    /// <returns>What is wrong, in one line that says what to do; or null.</returns>
    public static string? TryOpen(string path, Action<string> log, out Corpus? corpus)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        ArgumentNullException.ThrowIfNull(log);
        corpus = null;
        try
        {
            string root = Path.TrimEndingDirectorySeparator(Path.GetFullPath(path));
            Directory.CreateDirectory(root);
            Corpus opened = new(root, log);
            foreach (CorpusFolder folder in Enum.GetValues<CorpusFolder>())
            {
                string full = opened.PathOf(folder);
                if (new DirectoryInfo(full).LinkTarget is not null)
                {
                    return $"{full} is a link and may lead out of {root}; use a directory of its own";
                }

                Directory.CreateDirectory(full);
                opened._next[(int)folder] = opened.FirstFree(folder);
            }

            corpus = opened;
            return null;
        }
        catch (Exception e) when (IsFile(e))
        {
            return $"{path} cannot be used as an output directory: {e.Message}";
        }
    }

    /// <summary>Called after each step of a change, at each of which a kill may come: for tests.</summary>
    internal Action? Changed { get; set; }

    /// <summary>Full path of a folder.</summary>
    public string PathOf(CorpusFolder folder) => Path.Combine(_root, NameOf(folder));

    /// <summary>The number that the next file of a folder gets.</summary>
    public uint NextId(CorpusFolder folder) => _next[(int)folder];

    /// <summary>Full path of something in the directory.</summary>
    /// <param name="relative">A relative path.</param>
    /// <returns>Null when it leads out of the directory or is not a path.</returns>
    public string? Resolve(string relative)
    {
        ArgumentNullException.ThrowIfNull(relative);
        if (relative.Length == 0 || relative.Contains('\0', StringComparison.Ordinal) || Path.IsPathRooted(relative))
        {
            return null;
        }

        string full = Path.GetFullPath(Path.Combine(_root, relative));
        if (!full.StartsWith(_root + Path.DirectorySeparatorChar, StringComparison.Ordinal))
        {
            return null;
        }

        // A link on the way may lead anywhere.
        for (string? part = full; part is not null && part.Length > _root.Length; part = Path.GetDirectoryName(part))
        {
            if (new FileInfo(part).LinkTarget is not null)
            {
                return null;
            }
        }

        return full;
    }

    /// <summary>Writes an input under the next number of its folder.</summary>
    /// <param name="folder">The folder.</param>
    /// <param name="name">What the name shall say; its number is set here.</param>
    /// <param name="bytes">The content.</param>
    /// <returns>The name as written; null when it could not be written, with a line in the log.</returns>
    public CorpusName? Add(CorpusFolder folder, CorpusName name, ReadOnlySpan<byte> bytes)
    {
        ArgumentNullException.ThrowIfNull(name);
        CorpusName numbered = name with { Id = _next[(int)folder] };
        if (!TryReplace(Path.Combine(NameOf(folder), numbered.Format()), bytes))
        {
            return null;
        }

        _next[(int)folder]++;
        return numbered;
    }

    /// <summary>Every readable file of a folder, by name. Directories are left alone; links and unreadable files get a line.</summary>
    public IReadOnlyList<CorpusFile> Read(CorpusFolder folder) => ReadFolder(PathOf(folder), _log);

    /// <summary>Every readable file of any directory of inputs, by name.</summary>
    /// <param name="path">The directory.</param>
    /// <param name="log">Takes lines for people.</param>
    public static IReadOnlyList<CorpusFile> ReadFolder(string path, Action<string> log)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        ArgumentNullException.ThrowIfNull(log);
        var files = new List<CorpusFile>();
        string[] names;
        try
        {
            names = [.. new DirectoryInfo(path).GetFiles().Select(static f => f.Name).Order(StringComparer.Ordinal)];
        }
        catch (Exception e) when (IsFile(e))
        {
            log($"{path} cannot be read: {e.Message}");
            return files;
        }

        foreach (string name in names)
        {
            if (!name.StartsWith(Temporary, StringComparison.Ordinal) && TryRead(Path.Combine(path, name), log, out byte[] bytes))
            {
                files.Add(new CorpusFile(name, CorpusName.Parse(name), [.. bytes]));
            }
        }

        return files;
    }

    /// <summary>Writes a whole file: under another name first, so that a kill at any moment leaves the old or the new one.</summary>
    /// <param name="relative">A path in the directory.</param>
    /// <param name="bytes">The content.</param>
    /// <returns>Whether it was written; if not, there is a line in the log.</returns>
    public bool TryReplace(string relative, ReadOnlySpan<byte> bytes)
    {
        if (ForWriting(relative) is not { } full)
        {
            return false;
        }

        string draft = Path.Combine(Path.GetDirectoryName(full)!, Temporary + "draft");
        try
        {
            // A draft that was left behind, or a link put there, is not written through.
            File.Delete(draft);
            using (FileStream stream = new(draft, FileMode.CreateNew, FileAccess.Write, FileShare.None))
            {
                stream.Write(bytes);
            }

            Publish(draft, full);
            return true;
        }
        catch (Exception e) when (IsFile(e))
        {
            _log($"{full} cannot be written: {e.Message}");
            return false;
        }
    }

    private string? ForWriting(string relative)
    {
        string? full = Resolve(relative);
        if (full is null)
        {
            _log($"{relative} leads out of {_root}: not written");
        }

        return full;
    }

    private void Publish(string draft, string full)
    {
        Changed?.Invoke();
        File.Move(draft, full, overwrite: true);
        Changed?.Invoke();
    }

    /// <summary>Adds a line to a file of the directory.</summary>
    /// <returns>Whether it was written; if not, there is a line in the log.</returns>
    public bool TryAppend(string relative, string line)
    {
        if (ForWriting(relative) is not { } full)
        {
            return false;
        }

        try
        {
            File.AppendAllText(full, line + "\n");
            return true;
        }
        catch (Exception e) when (IsFile(e))
        {
            _log($"{full} cannot be written: {e.Message}");
            return false;
        }
    }

    /// <summary>Reads a file of the directory, at most <see cref="FuzzLimits.InputBytes"/> bytes.</summary>
    /// <returns>Null when there is none or it cannot be read.</returns>
    public byte[]? TryRead(string relative) =>
        Resolve(relative) is { } full && File.Exists(full) && TryRead(full, _log, out byte[] bytes) ? bytes : null;

    /// <summary>Goes through the lines of a file of the directory; one that is longer than 1 MiB counts as empty.</summary>
    /// <param name="relative">A path in the directory.</param>
    /// <param name="line">Gets each line, without its end; says whether to go on.</param>
    /// <returns>Whether the file ends with the end of a line; true for a missing one.</returns>
    public bool ReadLines(string relative, Func<string, bool> line)
    {
        ArgumentNullException.ThrowIfNull(line);
        const int Longest = 1 << 20;
        if (Resolve(relative) is not { } full || !File.Exists(full))
        {
            return true;
        }

        try
        {
            using FileStream stream = new(full, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
            byte[] block = new byte[1 << 16];
            var text = new List<byte>();
            bool ended = true;
            for (int read = stream.Read(block); read > 0; read = stream.Read(block))
            {
                ReadOnlySpan<byte> rest = block.AsSpan(0, read);
                for (int end = rest.IndexOf((byte)'\n'); end >= 0; end = rest.IndexOf((byte)'\n'))
                {
                    text.AddRange(rest[..end]);
                    rest = rest[(end + 1)..];
                    string whole = text.Count > Longest ? "" : Encoding.UTF8.GetString(CollectionsMarshal.AsSpan(text));
                    text.Clear();
                    if (!line(whole))
                    {
                        return true;
                    }
                }

                if (text.Count <= Longest)
                {
                    text.AddRange(rest);
                }

                ended = rest.Length == 0;
            }

            if (!ended)
            {
                line(Encoding.UTF8.GetString(CollectionsMarshal.AsSpan(text)));
            }

            return ended;
        }
        catch (Exception e) when (IsFile(e))
        {
            _log($"{full} cannot be read: {e.Message}");
            return true;
        }
    }

    internal static bool TryRead(string path, Action<string> log, out byte[] bytes) =>
        TryRead(path, FuzzLimits.InputBytes, log, out bytes);

    private static bool TryRead(string path, int most, Action<string> log, out byte[] bytes)
    {
        bytes = [];
        try
        {
            FileInfo info = new(path);
            if (info.LinkTarget is not null)
            {
                log($"{path} is a link: skipped");
                return false;
            }

            // Pipes and devices say 0 bytes; opening one could wait for ever.
            if (info.Length == 0)
            {
                return true;
            }

            using FileStream stream = new(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
            bytes = new byte[(int)Math.Min(info.Length, most)];
            int read = stream.ReadAtLeast(bytes, bytes.Length, throwOnEndOfStream: false);
            Array.Resize(ref bytes, read);
            return true;
        }
        catch (Exception e) when (IsFile(e))
        {
            log($"{path} cannot be read: {e.Message}");
            return false;
        }
    }

    private uint FirstFree(CorpusFolder folder)
    {
        uint next = 0;
        foreach (string path in Directory.GetFileSystemEntries(PathOf(folder)))
        {
            // A number that leaves no room for others is nobody's.
            if (CorpusName.Parse(Path.GetFileName(path)) is { } name && name.Id >= next && name.Id < MostId)
            {
                next = name.Id + 1;
            }
        }

        return next;
    }

    private static string NameOf(CorpusFolder folder) => folder switch
    {
        CorpusFolder.Queue => "queue",
        CorpusFolder.Crashes => "crashes",
        _ => "hangs",
    };

    private static bool IsFile(Exception e) =>
        e is IOException or UnauthorizedAccessException or NotSupportedException or ArgumentException or System.Security.SecurityException;
}
