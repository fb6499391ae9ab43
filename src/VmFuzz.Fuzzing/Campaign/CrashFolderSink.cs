using System.Globalization;

namespace VmFuzz.Fuzzing;

/// <summary>
/// Saves findings as AFL++ does, as files in <c>crashes</c> and <c>hangs</c>, with a line for each in <c>findings.log</c>
/// that says its key.
/// </summary>
public sealed class CrashFolderSink : IFindingSink
{
    /// <summary>Name of the log: key, file and execution, apart by tabs, with a hash at the end.</summary>
    public const string FileName = "findings.log";

    private const byte Abort = 6;
    private const byte Alarm = 14;
    private readonly Corpus _corpus;
    private readonly List<KnownFinding> _known = [];
    private readonly LineFile _log;

    /// <summary>Reads what the directory has.</summary>
    public CrashFolderSink(Corpus corpus)
    {
        ArgumentNullException.ThrowIfNull(corpus);
        _corpus = corpus;
        bool endsWell = corpus.ReadLines(FileName, line =>
        {
            string[] parts = EpochRecord.Unseal(line)?.Split('\t') ?? [];
            if (parts.Length == 3 && ulong.TryParse(parts[2], NumberStyles.None, CultureInfo.InvariantCulture, out ulong execution))
            {
                _known.Add(new KnownFinding(Uri.UnescapeDataString(parts[0]), parts[1], execution));
            }

            return true;
        });
        _log = new LineFile(corpus, FileName, endsWell);
    }

    /// <inheritdoc/>
    public IReadOnlyList<KnownFinding> Known() => _known;

    /// <inheritdoc/>
    public string? Add(FoundInput found)
    {
        ArgumentNullException.ThrowIfNull(found);
        CorpusFolder folder = OracleFolders.Of(found.Violation);
        CorpusName name = new()
        {
            Source = found.Source,
            Signal = folder == CorpusFolder.Hangs ? Alarm : Abort,
            Time = found.Time,
            Executions = found.Execution,
            Operation = found.Operation,
        };
        if (_corpus.Add(folder, name, FuzzCodec.Encode(found.Input)) is not { } written)
        {
            return null;
        }

        // A kill before this line costs one file more: the finding is saved again when it is seen again.
        string file = $"{Path.GetFileName(_corpus.PathOf(folder))}/{written.Format()}";
        string line = string.Create(CultureInfo.InvariantCulture, $"{Uri.EscapeDataString(found.Violation.Key)}\t{file}\t{found.Execution}");
        _log.TryAppend(EpochRecord.Seal(line));
        return file;
    }
}
