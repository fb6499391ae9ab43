using System.Text.Json;
using System.Text.Json.Serialization;

namespace VmFuzz.Cli;

/// <summary>An execution, or a queue entry, with which a worker process ended or hung.</summary>
/// <param name="Execution">Index of the execution.</param>
/// <param name="Oracle">Id of the oracle that stands for it.</param>
/// <param name="Where">The place.</param>
/// <param name="Text">One line for people.</param>
internal sealed record WorkerDeath(ulong Execution, string Oracle, string Where, string Text);

/// <summary>What a supervisor tells a worker: a JSON object on one line of its standard input.</summary>
internal sealed record WorkerOrder
{
    /// <summary>Whether it shall end; everything else says how it begins.</summary>
    public bool Stop { get; init; }

    /// <summary>Whether it shall only say where its execution stands, which does not end; everything else means nothing then.</summary>
    public bool Place { get; init; }

    /// <summary>Its number.</summary>
    public int Worker { get; init; }

    /// <summary>Name of the target.</summary>
    public string Target { get; init; } = "";

    /// <summary>Full path of the directory of the campaign.</summary>
    public string Root { get; init; } = "";

    /// <summary>Seed of the campaign.</summary>
    public ulong Seed { get; init; }

    /// <summary>Executions after which it ends; 0 for no limit.</summary>
    public ulong Executions { get; init; }

    /// <summary>Whether there are other workers to take inputs from.</summary>
    public bool Sync { get; init; }

    /// <summary>Full paths of plug-ins.</summary>
    public string[] Plugins { get; init; } = [];

    /// <summary>Full paths of directories with inputs to start from.</summary>
    public string[] Inputs { get; init; } = [];

    /// <summary>Whether probes are put into the assemblies.</summary>
    public bool Coverage { get; init; } = true;

    /// <summary>MiB after which it ends at the end of an epoch; 0 for no limit.</summary>
    public int MemoryMib { get; init; }

    /// <summary>Wall seconds after which it ends itself when its supervisor is gone and an execution hangs.</summary>
    public double HangSeconds { get; init; }

    /// <summary>Numbers of queue entries that ended the process when they were loaded.</summary>
    public uint[] Skip { get; init; } = [];

    /// <summary>What ended the process before; to be saved as a finding.</summary>
    public WorkerDeath? Death { get; init; }

    /// <summary>The command line of the campaign, for <c>fuzzer_stats</c>.</summary>
    public string CommandLine { get; init; } = "";
}

/// <summary>What a worker says.</summary>
internal enum WorkerWord
{
    /// <summary>The campaign is loaded; executions begin.</summary>
    Ready,

    /// <summary>How it stands.</summary>
    Status,

    /// <summary>A finding that it did not have before.</summary>
    Finding,

    /// <summary>Where its execution stands.</summary>
    Place,

    /// <summary>A line for people.</summary>
    Log,

    /// <summary>It cannot be started with what the user gave: a line.</summary>
    Refused,

    /// <summary>It ends; everything is on disk.</summary>
    End,
}

/// <summary>Why a worker ends.</summary>
internal static class WorkerEnd
{
    /// <summary>It was told to.</summary>
    public const string Stopped = "stopped";

    /// <summary>It has done its executions.</summary>
    public const string Done = "done";

    /// <summary>It has grown too large and wants to be started anew.</summary>
    public const string Memory = "memory";
}

/// <summary>What a worker tells its supervisor: a JSON object on one line of its standard output.</summary>
internal sealed record WorkerReport
{
    private static readonly JsonSerializerOptions Options = new(JsonSerializerDefaults.Web)
    {
        Converters = { new JsonStringEnumConverter() },
        DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
    };

    /// <summary>What it is about.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.Never)]
    public required WorkerWord Word { get; init; }

    /// <summary>Its figures, with <see cref="WorkerWord.Ready"/>, <see cref="WorkerWord.Status"/> and <see cref="WorkerWord.End"/>.</summary>
    public WorkerStatus? Status { get; init; }

    /// <summary>A finding.</summary>
    public FoundFinding? Finding { get; init; }

    /// <summary>A line for people, the reason of an end, or a place.</summary>
    public string? Text { get; init; }

    /// <summary>Whether the finding is one that the directory had when the worker began.</summary>
    public bool Known { get; init; }

    /// <summary>One line.</summary>
    public static string Format<T>(T message) => JsonSerializer.Serialize(message, Options);

    /// <summary>Reads a line; null when it makes no sense.</summary>
    public static T? TryParse<T>(string line)
        where T : class
    {
        try
        {
            return JsonSerializer.Deserialize<T>(line, Options);
        }
        catch (JsonException)
        {
            return null;
        }
    }
}
