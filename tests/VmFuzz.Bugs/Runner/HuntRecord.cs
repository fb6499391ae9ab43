using System.Text.Json.Serialization;
using VmFuzz.Fuzzing;

namespace VmFuzz.Bugs.Runner;

/// <summary>What a hunt is told.</summary>
/// <param name="Bug">Id of the fault.</param>
/// <param name="Mode">What inputs are made from.</param>
/// <param name="Seed">Where all choices come from.</param>
/// <param name="Seconds">Wall time after which it gives up.</param>
/// <param name="Executions">Executions after which it gives up; 0 for no bound.</param>
/// <param name="FirstProbe">First cell of the coverage map that belongs to the instrumented assemblies.</param>
/// <param name="Cells">Cells; 0 when nothing is instrumented.</param>
/// <param name="Target">What finds it; null for the fault's own.</param>
internal sealed record HuntOrder(string Bug, FuzzMode Mode, ulong Seed, double Seconds, ulong Executions, int FirstProbe, int Cells, FuzzTarget? Target);

/// <summary>What a hunt brought.</summary>
/// <param name="Bug">Id of the fault.</param>
/// <param name="Mode">What inputs were made from.</param>
/// <param name="Seed">The seed.</param>
/// <param name="Seconds">Its bound of wall time.</param>
/// <param name="Found">Whether an oracle fired.</param>
/// <param name="Executions">Executions to the first trigger, or in all.</param>
/// <param name="Elapsed">Seconds to the first trigger, or in all.</param>
/// <param name="Oracle">Id of the oracle.</param>
/// <param name="Where">The place that it named.</param>
/// <param name="Text">Its line.</param>
/// <param name="Exits">VM exits of the triggering run.</param>
/// <param name="Noise">Findings that the product without the fault has too; not counted.</param>
internal sealed record HuntRecord(
    string Bug, FuzzMode Mode, ulong Seed, double Seconds, bool Found, ulong Executions, double Elapsed,
    string Oracle, string Where, string Text, ulong Exits, IReadOnlyList<string> Noise)
{
    /// <summary>Base64 of the encoded input that triggered it; empty when none did.</summary>
    public string Input { get; init; } = "";
}

[JsonSourceGenerationOptions(WriteIndented = true, UseStringEnumConverter = true, PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase)]
[JsonSerializable(typeof(HuntOrder))]
[JsonSerializable(typeof(HuntRecord))]
[JsonSerializable(typeof(List<HuntRecord>))]
internal sealed partial class HuntJson : JsonSerializerContext;
