using System.Buffers;
using System.Collections.Immutable;
using System.Text.Encodings.Web;
using System.Text.Json;
using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Machines.Vectors;

namespace VmFuzz.Cli.Exec;

/// <summary>Writes results: one JSON object a line (src/docs/exec.md).</summary>
internal sealed class ResultWriter : IDisposable
{
    private static readonly JsonEncodedText IdName = JsonEncodedText.Encode("id");
    private static readonly JsonEncodedText Hex = JsonEncodedText.Encode("hex");
    private static readonly JsonEncodedText At = JsonEncodedText.Encode("at");

    // Names of VectorRegister.All: the register, and its part or null.
    private static readonly ImmutableArray<(JsonEncodedText Name, JsonEncodedText? Part)> Names =
    [
        .. VectorRegister.All.Select(static row => row.Name.Split('.') is [string name, string part]
            ? (JsonEncodedText.Encode(name), JsonEncodedText.Encode(part))
            : (JsonEncodedText.Encode(row.Name), (JsonEncodedText?)null)),
    ];

    private static readonly ImmutableArray<JsonEncodedText> Stops =
    [
        .. Enum.GetValues<VectorStop>().Select(static stop => JsonEncodedText.Encode(stop.ToString().ToLowerInvariant())),
    ];

    private readonly ArrayBufferWriter<byte> _bytes = new(64 << 10);
    private readonly Utf8JsonWriter _json;

    public ResultWriter() =>
        _json = new Utf8JsonWriter(_bytes, new JsonWriterOptions { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping, SkipValidation = true });

    /// <summary>Bytes written since the last <see cref="Clear"/>.</summary>
    public ReadOnlySpan<byte> Written => _bytes.WrittenSpan;

    /// <summary>Forgets what was written.</summary>
    public void Clear() => _bytes.ResetWrittenCount();

    /// <summary>A line that could not be run.</summary>
    public void WriteError(string? id, string error)
    {
        Start(id);
        _json.WriteString("error", error);
        End();
    }

    /// <summary>What a vector did.</summary>
    public void Write(string? id, VectorMachine machine, in VectorOutcome outcome)
    {
        Start(id);
        _json.WriteNumber("retired", outcome.Retired);
        _json.WriteString("stop", Stops[(int)outcome.Stop]);
        if (outcome.Stop == VectorStop.Fault)
        {
            WriteFault(outcome.Event);
        }

        WriteRegisters(machine);
        WriteMemory(machine);
        End();
    }

    public void Dispose() => _json.Dispose();

    private void Start(string? id)
    {
        _json.Reset();
        _json.WriteStartObject();
        _json.WritePropertyName(IdName);
        _json.WriteRawValue(id ?? "null", skipInputValidation: true);
    }

    private void End()
    {
        _json.WriteEndObject();
        _json.Flush();
        _bytes.Write("\n"u8);
    }

    private void WriteFault(in GuestEvent fault)
    {
        _json.WriteStartObject("fault");
        _json.WriteNumber("vector", fault.Vector);
        if (fault.HasErrorCode)
        {
            WriteNumber("error", fault.ErrorCode);
        }

        if (fault is { Type: EventType.HardwareException, Vector: Vector.Pf })
        {
            WriteNumber("address", fault.Address);
        }

        _json.WriteEndObject();
    }

    private void WriteRegisters(VectorMachine machine)
    {
        _json.WriteStartObject("regs");
        JsonEncodedText? open = null;
        for (int i = 0; i < Names.Length; i++)
        {
            if (!machine.TryChange(i, out VectorValue value))
            {
                continue;
            }

            (JsonEncodedText name, JsonEncodedText? part) = Names[i];
            if (open is { } other && (part is null || !other.Equals(name)))
            {
                _json.WriteEndObject();
                open = null;
            }

            if (part is not null && open is null)
            {
                _json.WriteStartObject(name);
                open = name;
            }

            WriteNumber(part ?? name, value);
        }

        if (open is not null)
        {
            _json.WriteEndObject();
        }

        _json.WriteEndObject();
    }

    // Runs of bytes that differ; a run ends with its page.
    private void WriteMemory(VectorMachine machine)
    {
        _json.WriteStartArray("mem");
        foreach (VectorPage page in machine.WrittenPages())
        {
            machine.ReadPage(page, out ReadOnlySpan<byte> before, out ReadOnlySpan<byte> after);
            for (int at = before.CommonPrefixLength(after); at < after.Length; at += before[at..].CommonPrefixLength(after[at..]))
            {
                int start = at;
                while (at < after.Length && before[at] != after[at])
                {
                    at++;
                }

                _json.WriteStartObject();
                WriteNumber(At, page.Address + (ulong)start);
                WriteBytes(after[start..at]);
                _json.WriteEndObject();
            }
        }

        _json.WriteEndArray();
    }

    private void WriteBytes(ReadOnlySpan<byte> bytes)
    {
        Span<byte> text = stackalloc byte[Gpa.PageSize * 2];
        Convert.TryToHexStringLower(bytes, text, out int count);
        _json.WriteString(Hex, text[..count]);
    }

    private void WriteNumber(string name, ulong value) => WriteNumber(JsonEncodedText.Encode(name), value);

    private void WriteNumber(JsonEncodedText name, in VectorValue value)
    {
        Span<byte> text = stackalloc byte[HexText.MostCharacters];
        _json.WriteString(name, text[..HexText.Format(value, text)]);
    }
}
