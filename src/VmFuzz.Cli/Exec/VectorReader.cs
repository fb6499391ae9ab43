using System.Collections.Immutable;
using System.Text;
using System.Text.Json;
using System.Text.Unicode;
using VmFuzz.Machines.Vectors;

namespace VmFuzz.Cli.Exec;

/// <summary>Reads vectors: one JSON object each (src/docs/exec.md). Nothing is allocated for what is too large.</summary>
internal sealed class VectorReader
{
    // Longer names are no names of registers.
    private const int LongestName = 32;
    private const int LongestId = 256;

    private static readonly ImmutableArray<(string Name, Member Read)> Members =
    [
        ("id", static (VectorReader self, ref Utf8JsonReader json) => self.ReadId(ref json)),
        ("mode", static (VectorReader self, ref Utf8JsonReader json) => self.ReadMode(ref json)),
        ("code", static (VectorReader self, ref Utf8JsonReader json) => self.ReadCode(ref json)),
        ("max", static (VectorReader self, ref Utf8JsonReader json) => self.ReadMax(ref json)),
        ("regs", static (VectorReader self, ref Utf8JsonReader json) => self.ReadRegisters(ref json)),
        ("mem", static (VectorReader self, ref Utf8JsonReader json) => self.ReadMemory(ref json)),
    ];

    private static readonly ImmutableArray<(string Name, VectorMode Mode)> Modes =
    [
        .. Enum.GetValues<VectorMode>().Select(static mode => (mode.ToString().ToLowerInvariant(), mode)),
    ];

    private readonly byte[] _code = new byte[InstructionVector.MaxCode];
    private readonly byte[] _memory = new byte[InstructionVector.MaxMemory];
    private int _used;

    private delegate string? Member(VectorReader self, ref Utf8JsonReader json);

    /// <summary>The last vector read.</summary>
    public InstructionVector Vector { get; } = new();

    /// <summary>Its id as JSON, or null; also of a line that is wrong behind its id.</summary>
    public string? Id { get; private set; }

    /// <summary>Reads a line.</summary>
    /// <returns>What is wrong with it, in a few words; null when nothing is.</returns>
    public string? TryRead(ReadOnlySpan<byte> line)
    {
        Vector.Clear();
        Id = null;
        _used = 0;
        try
        {
            var json = new Utf8JsonReader(line, new JsonReaderOptions { MaxDepth = 8 });
            return ReadObject(ref json);
        }
        catch (JsonException error)
        {
            return $"not JSON at byte {error.BytePositionInLine}";
        }
    }

    private string? ReadObject(ref Utf8JsonReader json)
    {
        if (!json.Read() || json.TokenType != JsonTokenType.StartObject)
        {
            return "not a JSON object";
        }

        int seen = 0;
        while (json.Read() && json.TokenType == JsonTokenType.PropertyName)
        {
            int member = 0;
            while (member < Members.Length && !json.ValueTextEquals(Members[member].Name))
            {
                member++;
            }

            if (member == Members.Length)
            {
                return $"no such member: use {string.Join(", ", Members.Select(static m => m.Name))}";
            }

            if ((seen & (1 << member)) != 0)
            {
                return $"{Members[member].Name} is given twice";
            }

            seen |= 1 << member;
            json.Read();
            if (Members[member].Read(this, ref json) is { } wrong)
            {
                return wrong;
            }
        }

        // Whatever follows the object is not JSON to the reader.
        json.Read();
        return (seen & (1 << 2)) == 0 ? "code is missing" : null;
    }

    private string? ReadId(ref Utf8JsonReader json)
    {
        if (json.TokenType is not (JsonTokenType.String or JsonTokenType.Number) || json.ValueSpan.Length > LongestId)
        {
            return $"id is a string or a number of at most {LongestId} bytes";
        }

        if (!Utf8.IsValid(json.ValueSpan))
        {
            return "id is not UTF-8";
        }

        string text = Encoding.UTF8.GetString(json.ValueSpan);
        Id = json.TokenType == JsonTokenType.String ? $"\"{text}\"" : text;
        return null;
    }

    private string? ReadMode(ref Utf8JsonReader json)
    {
        foreach ((string name, VectorMode mode) in Modes)
        {
            if (json.TokenType == JsonTokenType.String && json.ValueTextEquals(name))
            {
                Vector.Mode = mode;
                return null;
            }
        }

        return $"mode is one of {string.Join(", ", Modes.Select(static m => m.Name))}";
    }

    private string? ReadCode(ref Utf8JsonReader json)
    {
        if (json.TokenType != JsonTokenType.String || json.ValueSpan.Length > InstructionVector.MaxCode * 2
            || !HexText.TryBytes(json.ValueSpan, _code))
        {
            return $"code is a string of hexadecimal digits, at most {InstructionVector.MaxCode} bytes";
        }

        Vector.Code = _code.AsMemory(0, json.ValueSpan.Length / 2);
        return null;
    }

    private string? ReadMax(ref Utf8JsonReader json)
    {
        if (json.TokenType != JsonTokenType.Number || !json.TryGetUInt64(out ulong max) || max is 0 or > InstructionVector.MaxRetired)
        {
            return $"max is a number from 1 to {InstructionVector.MaxRetired}";
        }

        Vector.Max = max;
        return null;
    }

    private string? ReadRegisters(ref Utf8JsonReader json)
    {
        if (json.TokenType != JsonTokenType.StartObject)
        {
            return "regs is an object";
        }

        Span<char> name = stackalloc char[LongestName * 2];
        while (json.Read() && json.TokenType == JsonTokenType.PropertyName)
        {
            int length = CopyName(json, name);
            json.Read();
            string? wrong = json.TokenType == JsonTokenType.StartObject
                ? ReadParts(ref json, name, length)
                : ReadRegister(ref json, name[..length]);
            if (wrong is not null)
            {
                return wrong;
            }
        }

        return null;
    }

    // Parts of a segment or table register: cs becomes cs.base and so on.
    private string? ReadParts(ref Utf8JsonReader json, scoped Span<char> name, int length)
    {
        name[length++] = '.';
        while (json.Read() && json.TokenType == JsonTokenType.PropertyName)
        {
            int part = CopyName(json, name[length..]);
            json.Read();
            if (ReadRegister(ref json, name[..(length + part)]) is { } wrong)
            {
                return wrong;
            }
        }

        return null;
    }

    // A name that is too long, or has characters that names do not have, becomes one that no register has.
    private static int CopyName(in Utf8JsonReader json, Span<char> name) =>
        json.ValueSpan.Length < LongestName && Ascii.ToUtf16(json.ValueSpan, name, out int count) == System.Buffers.OperationStatus.Done ? count : 0;

    private string? ReadRegister(ref Utf8JsonReader json, scoped ReadOnlySpan<char> name)
    {
        int register = VectorRegister.Find(name);
        if (register < 0)
        {
            return $"there is no register '{Quantities.Plain(name.ToString())}'";
        }

        return json.TokenType == JsonTokenType.String && HexText.TryNumber(json.ValueSpan, out VectorValue value)
            ? Vector.TrySet(register, value)
            : $"{VectorRegister.All[register].Name} is a string: 0x and hexadecimal digits";
    }

    private string? ReadMemory(ref Utf8JsonReader json)
    {
        if (json.TokenType != JsonTokenType.StartArray)
        {
            return "mem is an array";
        }

        while (json.Read() && json.TokenType != JsonTokenType.EndArray)
        {
            if (Vector.Memory.Count == InstructionVector.MaxPieces)
            {
                return $"mem has more than {InstructionVector.MaxPieces} pieces";
            }

            if (ReadPiece(ref json) is { } wrong)
            {
                return wrong;
            }
        }

        return null;
    }

    private string? ReadPiece(ref Utf8JsonReader json)
    {
        const string shape = "a piece of mem is an object of at, a string of 0x and at most 16 digits, and hex, a string of at least one byte";
        if (json.TokenType != JsonTokenType.StartObject)
        {
            return shape;
        }

        VectorValue at = default;
        int from = _used;
        bool hasAt = false;
        while (json.Read() && json.TokenType == JsonTokenType.PropertyName)
        {
            bool isAt = json.ValueTextEquals("at");
            bool isHex = json.ValueTextEquals("hex");
            if (!json.Read() || json.TokenType != JsonTokenType.String || isAt == isHex || (isAt ? hasAt : _used > from))
            {
                return shape;
            }

            if (isAt)
            {
                hasAt = HexText.TryNumber(json.ValueSpan, out at) && at.Length <= 64;
                if (!hasAt)
                {
                    return shape;
                }

                continue;
            }

            int length = json.ValueSpan.Length / 2;
            if (length > _memory.Length - _used)
            {
                return $"mem has more than {InstructionVector.MaxMemory} bytes";
            }

            if (!HexText.TryBytes(json.ValueSpan, _memory.AsSpan(_used)))
            {
                return shape;
            }

            _used += length;
        }

        if (!hasAt || _used == from)
        {
            return shape;
        }

        Vector.Add(new VectorBytes((ulong)at.Low, _memory.AsMemory(from, _used - from)));
        return null;
    }
}
