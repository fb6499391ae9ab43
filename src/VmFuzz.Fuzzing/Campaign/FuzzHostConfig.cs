using System.Text.Json;

namespace VmFuzz.Fuzzing;

/// <summary>What a campaign makes inputs from, and whether it learns from what they did.</summary>
public enum FuzzMode
{
    /// <summary>Structured mutators, with feedback: the one to use.</summary>
    Full,
    /// <summary>Mutations of the encoded bytes only, with feedback.</summary>
    Coverage,
    /// <summary>Structured mutators on the seeds, without feedback: the corpus never grows.</summary>
    Structure,
    /// <summary>Random bytes, without feedback.</summary>
    Random,
}

/// <summary>
/// What <see cref="FuzzHost"/> is told, as UTF-8 JSON. Only <see cref="Target"/> and <see cref="Directory"/> are
/// needed; names are those of the properties, in any case.
/// </summary>
public sealed record FuzzHostConfig
{
    /// <summary>Name of the target's row.</summary>
    public string Target { get; set; } = "";

    /// <summary>The campaign's own directory, one for each worker.</summary>
    public string Directory { get; set; } = "";

    /// <summary>Where all choices come from.</summary>
    public ulong Seed { get; set; } = 1;

    /// <summary>What inputs are made from.</summary>
    public FuzzMode Mode { get; set; }

    /// <summary>Whether a directory with a campaign in it may be gone on with. Without it such a directory is refused.</summary>
    public bool Resume { get; set; }

    /// <summary>Folders of inputs to start with, in order: any bytes.</summary>
    public IReadOnlyList<string> Inputs { get; set; } = [];

    /// <summary>Start with one empty input in place of the built-in seeds.</summary>
    public bool Empty { get; set; }

    /// <summary>Folder in which other workers have their directories; null takes nothing over.</summary>
    public string? SyncFrom { get; set; }

    /// <summary>Paths of plug-ins.</summary>
    public IReadOnlyList<string> Plugins { get; set; } = [];

    /// <summary>First probe of the instrumented assemblies in the coverage map.</summary>
    public int ProbeBase { get; set; }

    /// <summary>Probes of the instrumented assemblies; 0 when nothing is instrumented.</summary>
    public int ProbeCount { get; set; }

    /// <summary>One execution in this many is run again under other conditions; 0 for none.</summary>
    public int DeepEvery { get; set; } = 64;

    /// <summary>
    /// Numbers of queue entries that are neither run nor mutated any more: those whose loading ended the process
    /// (<see cref="CurrentExecution"/> says which). Remembered in the directory.
    /// </summary>
    public IReadOnlyList<uint> Skip { get; set; } = [];

    /// <summary>Process id for <c>fuzzer_stats</c>.</summary>
    public ulong Process { get; set; }

    /// <summary>Seconds since 1970 at the start, for <c>fuzzer_stats</c>.</summary>
    public ulong Clock { get; set; }

    /// <summary>Banner for <c>fuzzer_stats</c>; empty for the target's name.</summary>
    public string Banner { get; set; } = "";

    /// <summary>Command line for <c>fuzzer_stats</c>.</summary>
    public string CommandLine { get; set; } = "";

    /// <summary>As UTF-8 JSON.</summary>
    public byte[] ToJson() => JsonSerializer.SerializeToUtf8Bytes(this, FuzzJson.Default.FuzzHostConfig);
}

/// <summary>What a campaign is asked, as UTF-8 JSON.</summary>
public sealed record FuzzHostRequest
{
    /// <summary>Runs <see cref="Executions"/> executions.</summary>
    public const string Step = "step";

    /// <summary>Gives the status only.</summary>
    public const string Status = "status";

    /// <summary>Writes <c>fuzzer_stats</c> and a line of <c>plot_data</c>.</summary>
    public const string Stats = "stats";

    /// <summary>Makes the input of execution <see cref="Index"/>; runs nothing.</summary>
    public const string Input = "input";

    /// <summary>Makes the input of execution <see cref="Index"/> and runs it, deeply too. The campaign does not notice.</summary>
    public const string Rerun = "rerun";

    /// <summary>Adds a finding that only a supervisor sees: execution <see cref="Index"/> ended the process or did not end.</summary>
    public const string Finding = "finding";

    /// <summary>
    /// Says where the execution that runs stands: <see cref="IFuzzExecutor.Place"/>. The one request that may come from
    /// another thread while a step goes on.
    /// </summary>
    public const string Place = "place";

    /// <summary>Writes what is left to write and closes. Every later request is an error.</summary>
    public const string Stop = "stop";

    /// <summary>One of the constants above.</summary>
    public string Op { get; set; } = "";

    /// <summary>How many executions. Has no influence on what they do.</summary>
    public int Executions { get; set; }

    /// <summary>Milliseconds since the campaign was opened.</summary>
    public ulong Time { get; set; }

    /// <summary>Seconds since 1970, for <c>fuzzer_stats</c>.</summary>
    public ulong Clock { get; set; }

    /// <summary>Index of an execution.</summary>
    public ulong Index { get; set; }

    /// <summary>Of a finding: the oracle's id, for instance <see cref="OracleFolders.Hang"/>.</summary>
    public string Oracle { get; set; } = "";

    /// <summary>Of a finding: the place.</summary>
    public string Where { get; set; } = "";

    /// <summary>Of a finding: one line for people.</summary>
    public string Text { get; set; } = "";

    /// <summary>As UTF-8 JSON.</summary>
    public byte[] ToJson() => JsonSerializer.SerializeToUtf8Bytes(this, FuzzJson.Default.FuzzHostRequest);
}

/// <summary>What a campaign answers, as UTF-8 JSON.</summary>
public sealed record FuzzHostResponse
{
    /// <summary>What is wrong, in one line that says what to do; null when all is well.</summary>
    public string? Error { get; set; }

    /// <summary>Whether opening was refused (wrong usage): every request gets this answer.</summary>
    public bool Refused { get; set; }

    /// <summary>The campaign's figures; null with an error.</summary>
    public CampaignStatus? Status { get; set; }

    /// <summary>Where the execution stands; null when that was not asked for.</summary>
    public string? Place { get; set; }

    /// <summary>The bytes of the input asked for, base64 in JSON.</summary>
    public byte[]? Input { get; set; }

    /// <summary>Number of the queue entry that the input is or was made from; null when there is none.</summary>
    public uint? Source { get; set; }

    /// <summary>What the input run again broke, or null.</summary>
    public string? Violation { get; set; }

    /// <summary>Digest after the input run again: 16 hexadecimal digits.</summary>
    public string? Digest { get; set; }

    /// <summary>Whether that is the digest noted when it ran first; null when none was noted.</summary>
    public bool? SameDigest { get; set; }

    /// <summary>Lines for people since the last answer.</summary>
    public IReadOnlyList<string> Log { get; set; } = [];

    /// <summary>Reads an answer.</summary>
    /// <exception cref="JsonException">These bytes are not one.</exception>
    public static FuzzHostResponse FromJson(ReadOnlySpan<byte> json) =>
        JsonSerializer.Deserialize(json, FuzzJson.Default.FuzzHostResponse) ?? throw new JsonException("null is not an answer");

    /// <summary>As UTF-8 JSON.</summary>
    public byte[] ToJson() => JsonSerializer.SerializeToUtf8Bytes(this, FuzzJson.Default.FuzzHostResponse);
}
