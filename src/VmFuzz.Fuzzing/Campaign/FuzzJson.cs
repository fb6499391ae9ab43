using System.Text.Json;
using System.Text.Json.Serialization;

namespace VmFuzz.Fuzzing;

/// <summary>How the host's records become JSON.</summary>
[JsonSourceGenerationOptions(
    PropertyNameCaseInsensitive = true,
    UseStringEnumConverter = true,
    ReadCommentHandling = JsonCommentHandling.Skip,
    AllowTrailingCommas = true)]
[JsonSerializable(typeof(FuzzHostConfig))]
[JsonSerializable(typeof(FuzzHostRequest))]
[JsonSerializable(typeof(FuzzHostResponse))]
internal sealed partial class FuzzJson : JsonSerializerContext;
