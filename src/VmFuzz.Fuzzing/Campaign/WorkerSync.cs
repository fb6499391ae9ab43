using System.Collections.Immutable;

namespace VmFuzz.Fuzzing;

/// <summary>A file of another worker's queue.</summary>
/// <param name="Worker">Name of its directory.</param>
/// <param name="Id">Its number.</param>
/// <param name="Path">Its full path.</param>
internal readonly record struct WorkerFile(string Worker, uint Id, string Path);

/// <summary>Looks for new inputs in the queues of other workers: directories beside this one.</summary>
internal sealed class WorkerSync(string folder, string own, Action<string> log)
{
    private const string Prefix = "sync-";

    /// <summary>For each worker the number after the last file that was looked at.</summary>
    public ImmutableSortedDictionary<string, uint> Synced { get; set; } = ImmutableSortedDictionary.Create<string, uint>(StringComparer.Ordinal);

    /// <summary>Whether an entry came from another worker.</summary>
    public static bool IsImport(CorpusName name) => name.Operation.StartsWith(Prefix, StringComparison.Ordinal);

    /// <summary>The operation in the name of such an entry.</summary>
    public static string OperationOf(string worker) => Prefix + worker;

    /// <summary>New files, by worker and number. Those that the other worker has from elsewhere are left out.</summary>
    public Queue<WorkerFile> Look()
    {
        var found = new Queue<WorkerFile>();
        try
        {
            string self = Path.GetFileName(own);
            string[] workers = [.. new DirectoryInfo(folder).GetDirectories().Select(static d => d.Name).Order(StringComparer.Ordinal)];
            foreach (string worker in workers)
            {
                string queue = Path.Combine(folder, worker, "queue");
                if (!string.Equals(worker, self, StringComparison.Ordinal) && Directory.Exists(queue))
                {
                    Look(worker, queue, found);
                }
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            log($"{folder} cannot be read: {e.Message}");
        }

        return found;
    }

    /// <summary>Says that a file was looked at.</summary>
    public void Took(WorkerFile file) => Synced = Synced.SetItem(file.Worker, file.Id + 1);

    private void Look(string worker, string queue, Queue<WorkerFile> found)
    {
        uint from = Synced.GetValueOrDefault(worker);
        var fresh = new List<WorkerFile>();
        foreach (FileInfo file in new DirectoryInfo(queue).EnumerateFiles("id:*"))
        {
            if (IdOf(file.Name) >= from && CorpusName.Parse(file.Name) is { Id: < Corpus.MostId } name && !IsImport(name))
            {
                fresh.Add(new WorkerFile(worker, name.Id, file.FullName));
            }
        }

        foreach (WorkerFile file in fresh.OrderBy(static f => f.Id).ThenBy(static f => f.Path, StringComparer.Ordinal))
        {
            found.Enqueue(file);
        }
    }

    // The digits behind "id:": the rest of the name is looked at only when they are new.
    private static ulong IdOf(string name)
    {
        ulong id = 0;
        for (int i = 3; i < name.Length && i < 13 && char.IsAsciiDigit(name[i]); i++)
        {
            id = (id * 10) + (ulong)(name[i] - '0');
        }

        return id;
    }
}
