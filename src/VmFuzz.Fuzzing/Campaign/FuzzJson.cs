using System.Text.Json;
using System.Text.Json.Serialization;

namespace VmFuzz.Fuzzing;

/// <summary>How the host's records become JSON.</summary>
[JsonSourceGenerationOptions(
    // The other way of writing makes an empty text of bytes that are null.
    GenerationMode = JsonSourceGenerationMode.Metadata,
    PropertyNameCaseInsensitive = true,
    UseStringEnumConverter = true,
    ReadCommentHandling = JsonCommentHandling.Skip,
    AllowTrailingCommas = true)]
[JsonSerializable(typeof(FuzzHostConfig))]
[JsonSerializable(typeof(FuzzHostRequest))]
[JsonSerializable(typeof(FuzzHostResponse))]
internal sealed partial class FuzzJson : JsonSerializerContext;
