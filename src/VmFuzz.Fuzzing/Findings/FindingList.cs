using System.Collections.Immutable;

namespace VmFuzz.Fuzzing;

/// <summary>One finding of a campaign, as all of its workers have it.</summary>
/// <param name="Best">The copy to look at: the surest, then the smallest, then the first.</param>
/// <param name="Folder">Its folder, relative to the campaign's directory, with '/'.</param>
/// <param name="Copies">Workers that have it.</param>
public sealed record MergedFinding(Finding Best, string Folder, int Copies);

/// <summary>The findings of a campaign directory: those of the workers below it, merged by target and key.</summary>
/// <param name="Findings">By target, then key.</param>
/// <param name="Pending">Folders of findings whose triage has not ended, relative to the directory.</param>
/// <param name="Loose">Files in <c>crashes</c> and <c>hangs</c> that belong to no finding, relative to the directory.</param>
/// <param name="Workers">The workers' directories, relative to the directory; "." is the directory itself.</param>
/// <param name="Lines">What could not be read, a line each.</param>
public sealed record FindingList(
    ImmutableArray<MergedFinding> Findings,
    ImmutableArray<string> Pending,
    ImmutableArray<string> Loose,
    ImmutableArray<string> Workers,
    ImmutableArray<string> Lines)
{
    private static readonly ImmutableArray<string> WorkerFolders = [FindingNames.Folder, "queue", "crashes", "hangs"];

    /// <summary>Whether a directory is one of a worker: it has one of the folders that workers make.</summary>
    public static bool IsWorker(string path) => WorkerFolders.Any(f => Directory.Exists(Path.Combine(path, f)));

    /// <summary>Reads a directory; nothing in it is changed.</summary>
    /// <param name="path">A campaign's directory, or a worker's.</param>
    public static FindingList Read(string path)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        var lines = new List<string>();
        var found = new SortedDictionary<string, List<(Finding Finding, string Folder)>>(StringComparer.Ordinal);
        var pending = new List<string>();
        var loose = new List<string>();
        ImmutableArray<string> workers = FindWorkers(path, lines);
        foreach (string worker in workers)
        {
            ReadWorker(path, worker, found, pending, loose, lines);
        }

        return new(
            [.. found.Values.Select(Merge)], [.. pending], [.. loose], workers, [.. lines]);
    }

    private static ImmutableArray<string> FindWorkers(string path, List<string> lines)
    {
        var workers = ImmutableArray.CreateBuilder<string>();
        if (IsWorker(path))
        {
            workers.Add(".");
        }

        try
        {
            workers.AddRange(new DirectoryInfo(path).GetDirectories()
                .Where(static d => d.LinkTarget is null && !WorkerFolders.Contains(d.Name, StringComparer.Ordinal) && IsWorker(d.FullName))
                .Select(static d => d.Name)
                .Order(StringComparer.Ordinal));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            lines.Add($"{path} cannot be read: {e.Message}");
        }

        return workers.ToImmutable();
    }

    private static void ReadWorker(
        string path,
        string worker,
        SortedDictionary<string, List<(Finding Finding, string Folder)>> found,
        List<string> pending,
        List<string> loose,
        List<string> lines)
    {
        string prefix = worker == "." ? "" : worker + "/";
        Corpus corpus = Corpus.OpenToRead(Path.Combine(path, worker), lines.Add);
        var used = new SortedSet<string>(StringComparer.Ordinal);
        foreach (FindingEntry entry in new FindingFiles(corpus, lines.Add).List())
        {
            string folder = prefix + FindingNames.Folder + "/" + entry.Slug;
            if (entry.Finding is not { } finding)
            {
                lines.Add(prefix + entry.Wrong);
                continue;
            }

            used.Add(finding.CorpusFile);
            if (entry.Pending is not null)
            {
                pending.Add(folder);
            }

            string key = finding.Campaign.Target + "\n" + finding.Violation.Key;
            if (!found.TryGetValue(key, out List<(Finding, string)>? copies))
            {
                found.Add(key, copies = []);
            }

            copies.Add((finding, folder));
        }

        foreach (CorpusFolder folder in (ReadOnlySpan<CorpusFolder>)[CorpusFolder.Crashes, CorpusFolder.Hangs])
        {
            foreach (string name in corpus.Names(folder))
            {
                string file = Corpus.RelativeOf(folder, name);
                if (CorpusName.Parse(name) is not null && !used.Contains(file))
                {
                    loose.Add(prefix + file);
                }
            }
        }
    }

    private static MergedFinding Merge(List<(Finding Finding, string Folder)> copies)
    {
        (Finding best, string folder) = copies
            .OrderBy(static c => c.Finding.State)
            .ThenBy(static c => c.Finding.Bytes)
            .ThenBy(static c => c.Finding.Execution)
            .ThenBy(static c => c.Folder, StringComparer.Ordinal)
            .First();
        return new(best, folder, copies.Count);
    }
}
