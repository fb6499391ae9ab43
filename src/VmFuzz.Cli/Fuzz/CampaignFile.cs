using System.Text.Json;
using System.Text.Json.Serialization;
using VmFuzz.Machines;

namespace VmFuzz.Cli;

/// <summary>What <c>campaign.json</c> says: all that must stay the same for the campaign to go on.</summary>
internal sealed record CampaignFile
{
    /// <summary>Name in the directory.</summary>
    public const string Name = "campaign.json";

    /// <summary>This version of the directory's layout.</summary>
    public const int CurrentFormat = 1;

    private static readonly JsonSerializerOptions Json = new(JsonSerializerDefaults.Web) { WriteIndented = true };

    /// <summary>Version of the layout.</summary>
    [JsonRequired]
    public int Format { get; init; }

    /// <summary>Version of the product that made it; for people.</summary>
    public string Engine { get; init; } = "";

    /// <summary>Version of what guests can see.</summary>
    public uint Semantics { get; init; }

    /// <summary>Hash over the ids of all rows.</summary>
    public string Rows { get; init; } = "";

    /// <summary>Name of the target.</summary>
    public string Target { get; init; } = "";

    /// <summary>Name of the driver.</summary>
    public string Driver { get; init; } = FuzzDriver.BuiltIn.Name;

    /// <summary>The seed; worker N makes its own from it and N.</summary>
    public ulong Seed { get; init; }

    /// <summary>Most workers there ever were.</summary>
    public int Jobs { get; init; }

    /// <summary>Whether code coverage steers it.</summary>
    public bool Coverage { get; init; } = true;

    /// <summary>Full paths of the plug-ins.</summary>
    public string[] Plugins { get; init; } = [];

    /// <summary>What the plug-ins said they were.</summary>
    public string[] PluginIdentities { get; init; } = [];

    /// <summary>What a new campaign says.</summary>
    public static CampaignFile Of(FuzzArguments arguments, ulong seed) => new()
    {
        Format = CurrentFormat,
        Engine = Machines.Engine.Version,
        Semantics = Machines.Engine.SemanticsVersion,
        Rows = Quantities.Digest(Machines.Engine.RowsHash),
        Target = arguments.Target.Name,
        Driver = arguments.Driver.Name,
        Seed = seed,
        Jobs = arguments.Jobs,
        Coverage = arguments.Coverage,
        Plugins = [.. arguments.Plugins],
        PluginIdentities = [.. arguments.PluginIdentities],
    };

    /// <summary>Reads it; null when there is none that can be read.</summary>
    /// <param name="directory">The directory of a campaign.</param>
    public static CampaignFile? TryRead(string directory)
    {
        try
        {
            return JsonSerializer.Deserialize<CampaignFile>(File.ReadAllBytes(Path.Combine(directory, Name)), Json);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException or JsonException)
        {
            return null;
        }
    }

    /// <summary>Reads the file of a campaign that must be there and of this version.</summary>
    /// <param name="directory">The directory of a campaign.</param>
    /// <param name="shown">The directory as the user wrote it.</param>
    public static CampaignFile Read(string directory, string shown)
    {
        if (!Directory.Exists(directory))
        {
            throw UserError.At("there is no campaign", shown, "check the path");
        }

        CampaignFile file = TryRead(directory)
            ?? throw UserError.At($"{Name} is missing or cannot be read", shown, "name the directory that was given to --out");
        if (file.Format != CurrentFormat)
        {
            throw UserError.At($"the campaign has format {file.Format} and this version reads {CurrentFormat}", shown, $"start another: --out ELSEWHERE --input {Path.Combine(shown, WorkerName(0), "queue")}");
        }

        return file.Semantics != Machines.Engine.SemanticsVersion || file.Rows != Quantities.Digest(Machines.Engine.RowsHash)
            ? throw UserError.At($"the campaign is of another engine ({file.Engine}, semantics {file.Semantics}, rows {file.Rows})", shown, $"start another: --out ELSEWHERE --input {Path.Combine(shown, WorkerName(0), "queue")}")
            : file;
    }

    /// <summary>Name of a worker's directory.</summary>
    public static string WorkerName(int worker) => string.Create(System.Globalization.CultureInfo.InvariantCulture, $"worker{worker:d2}");

    /// <summary>The content of the file.</summary>
    public byte[] ToBytes() => [.. JsonSerializer.SerializeToUtf8Bytes(this, Json), (byte)'\n'];
}
