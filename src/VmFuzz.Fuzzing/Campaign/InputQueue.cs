using System.Collections.Immutable;

namespace VmFuzz.Fuzzing;

/// <summary>The queue of a campaign, by number, as it is in memory and in the directory.</summary>
internal sealed class InputQueue
{
    private readonly List<QueueEntry> _entries = [];
    private readonly HashSet<ulong> _contents = [];
    private readonly FuzzTarget _target;
    private uint _next;

    private InputQueue(FuzzTarget target) => _target = target;

    /// <summary>The entries, by number.</summary>
    public List<QueueEntry> Entries => _entries;

    /// <summary>Files of the folder whose names say no number, or one that another has: inputs to start with.</summary>
    public List<CorpusFile> Foreign { get; } = [];

    /// <summary>One more than the largest index in a name.</summary>
    public ulong Known { get; private set; }

    /// <summary>The largest time in a name. Unit: milliseconds.</summary>
    public ulong Time { get; private set; }

    public int Deepest { get; private set; }

    public int Found { get; private set; }

    public int Imported { get; private set; }

    /// <summary>Reads the folder.</summary>
    public static InputQueue Read(Corpus corpus, FuzzTarget target)
    {
        InputQueue queue = new(target) { _next = corpus.NextId(CorpusFolder.Queue) };
        IReadOnlyList<CorpusFile> files = corpus.Read(CorpusFolder.Queue);
        foreach (CorpusFile file in files.Where(static f => f.Name is { Id: < Corpus.MostId }).OrderBy(static f => f.Name!.Id))
        {
            CorpusName name = file.Name!;
            if (queue._entries.Count != 0 && queue._entries[^1].Id == name.Id)
            {
                queue.Foreign.Add(file);
                continue;
            }

            FuzzInput input = queue.Decode(file.Bytes.AsSpan());
            ImmutableArray<byte> bytes = [.. FuzzCodec.Encode(input)];
            queue._contents.Add(TextHash.Of(bytes.AsSpan()));
            queue.Enter(name, input, bytes);
        }

        queue.Foreign.AddRange(files.Where(static f => f.Name is null or { Id: >= Corpus.MostId }));
        return queue;
    }

    /// <summary>Reads any bytes as an input of the target.</summary>
    public FuzzInput Decode(ReadOnlySpan<byte> bytes)
    {
        FuzzInput input = FuzzCodec.Decode(bytes);
        input.Target = _target;
        return input;
    }

    /// <summary>Whether an input is in the queue.</summary>
    public bool Has(FuzzInput input) => _contents.Contains(TextHash.Of(FuzzCodec.Encode(input)));

    /// <summary>Adds an input and writes it, now or as soon as that can be done.</summary>
    /// <returns>Null when the queue has it already.</returns>
    public QueueEntry? Add(FuzzInput input, CorpusName name, Corpus corpus, CampaignWriter writer)
    {
        byte[] bytes = FuzzCodec.Encode(input);
        if (!_contents.Add(TextHash.Of(bytes)))
        {
            return null;
        }

        CorpusName numbered = name with { Id = _next++ };
        // What a later session reads, bit for bit.
        QueueEntry entry = Enter(numbered, FuzzCodec.Decode(bytes), [.. bytes]);
        writer.Do(() => corpus.Add(CorpusFolder.Queue, numbered, bytes) is not null);
        return entry;
    }

    /// <summary>How many entries were there before an execution.</summary>
    public int AvailableTo(ulong execution, EpochRecord epoch)
    {
        int count = Math.Min(epoch.Queue, _entries.Count);
        while (count < _entries.Count && _entries[count].Execution < execution)
        {
            count++;
        }

        return count;
    }

    /// <summary>Position of an entry, or -1.</summary>
    public int IndexOf(uint id)
    {
        int low = 0;
        int high = _entries.Count - 1;
        while (low <= high)
        {
            int middle = (low + high) / 2;
            uint there = _entries[middle].Id;
            if (there == id)
            {
                return middle;
            }

            (low, high) = there < id ? (middle + 1, high) : (low, middle - 1);
        }

        return -1;
    }

    private QueueEntry Enter(CorpusName name, FuzzInput input, ImmutableArray<byte> bytes)
    {
        int parent = name.Source is { } source ? IndexOf(source) : -1;
        QueueEntry entry = new(name.Id, input, bytes, name.Executions, parent < 0 ? 1 : _entries[parent].Depth + 1);
        _entries.Add(entry);
        Deepest = Math.Max(Deepest, entry.Depth);
        Imported += WorkerSync.IsImport(name) ? 1 : 0;
        Found += name.Original.Length == 0 && !WorkerSync.IsImport(name) ? 1 : 0;
        if (name.Executions < EpochRecord.MostIndex)
        {
            Known = Math.Max(Known, name.Executions + 1);
        }

        Time = Math.Max(Time, name.Time);
        return entry;
    }
}
