using System.Text.Json;

namespace VmFuzz.Bugs.Runner;

/// <summary>The results on disk: whole after every hunt, so that a run can be ended at any time and gone on with.</summary>
internal sealed class HuntFile
{
    private readonly string? _path;
    private readonly List<HuntRecord> _records = [];

    public HuntFile(string? path)
    {
        _path = path;
        if (path is not null && File.Exists(path))
        {
            _records.AddRange(JsonSerializer.Deserialize(File.ReadAllBytes(path), HuntJson.Default.ListHuntRecord) ?? []);
        }
    }

    /// <summary>The results, in the order in which they came.</summary>
    public IReadOnlyList<HuntRecord> Records => _records;

    /// <summary>Whether a hunt need not be run: it found something, or was given as much time before.</summary>
    public bool IsDone(HuntOrder order) => _records.Any(r => Same(r, order) && (r.Found || r.Seconds >= order.Seconds));

    /// <summary>Adds a result, in place of one with less time.</summary>
    public void Add(HuntOrder order, HuntRecord record)
    {
        _records.RemoveAll(r => Same(r, order));
        _records.Add(record);
        if (_path is not null)
        {
            string next = _path + ".new";
            File.WriteAllBytes(next, JsonSerializer.SerializeToUtf8Bytes(_records, HuntJson.Default.ListHuntRecord));
            File.Move(next, _path, overwrite: true);
        }
    }

    private static bool Same(HuntRecord r, HuntOrder o) => r.Mode == o.Mode && r.Seed == o.Seed && string.Equals(r.Bug, o.Bug, StringComparison.Ordinal);
}
