using System.Buffers.Binary;
using System.Text.Unicode;

namespace VmFuzz.Trace;

/// <summary>Why a value could not be read.</summary>
public enum MsgPackError : byte
{
    /// <summary>Nothing went wrong.</summary>
    None = 0,
    /// <summary>The bytes end inside the value.</summary>
    End = 1,
    /// <summary>The value is of another type than asked for, or of a type that is not read at all.</summary>
    Type = 2,
    /// <summary>The value has a shorter encoding.</summary>
    NotMinimal = 3,
    /// <summary>The value or its length is over the limit.</summary>
    TooLarge = 4,
    /// <summary>Arrays or maps are nested deeper than the limit.</summary>
    TooDeep = 5,
    /// <summary>A text is not valid UTF-8.</summary>
    Utf8 = 6,
}

/// <summary>
/// Reads MessagePack from bytes of unknown origin. Never throws and never allocates; accepts only the shortest encoding
/// of a value, so that every byte matters. The first error stays in <see cref="Error"/> and every later read fails too.
/// </summary>
public ref struct MsgPackReader
{
    private readonly ReadOnlySpan<byte> _bytes;
    private int _position;

    /// <summary>Starts at the beginning of the bytes.</summary>
    /// <param name="bytes">What to read.</param>
    public MsgPackReader(ReadOnlySpan<byte> bytes)
    {
        _bytes = bytes;
        _position = 0;
        Error = MsgPackError.None;
    }

    /// <summary>Bytes read so far, up to the first value that could not be read.</summary>
    public readonly int Position => _position;

    /// <summary>Bytes not yet read.</summary>
    public readonly int Remaining => _bytes.Length - _position;

    /// <summary>The first error, or <see cref="MsgPackError.None"/>.</summary>
    public MsgPackError Error { get; private set; }

    /// <summary>Whether everything was read without an error.</summary>
    public readonly bool Finished => Error == MsgPackError.None && _position == _bytes.Length;

    /// <summary>Reads an unsigned integer.</summary>
    public bool TryReadUInt(out ulong value)
    {
        if ((uint)_position < (uint)_bytes.Length && Error == MsgPackError.None)
        {
            byte lead = _bytes[_position];
            if (lead < 0x80)
            {
                value = lead;
                _position++;
                return true;
            }

            int log = lead - 0xcc;
            if ((uint)log > 3)
            {
                value = 0;
                return Fail(MsgPackError.Type);
            }

            int width = 1 << log;
            ulong minimum = log == 0 ? 0x80 : 1UL << (4 << log);
            if (Remaining < 9)
            {
                return TryWord(width, minimum, out value);
            }

            ulong word = BinaryPrimitives.ReadUInt64BigEndian(_bytes.Slice(_position + 1, 8)) >> (64 - (8 * width));
            if (word < minimum)
            {
                value = 0;
                return Fail(MsgPackError.NotMinimal);
            }

            value = word;
            _position += width + 1;
            return true;
        }

        value = 0;
        return Fail(MsgPackError.End);
    }

    /// <summary>Reads an unsigned integer of at most <paramref name="max"/>.</summary>
    public bool TryReadUInt(ulong max, out ulong value)
    {
        int start = _position;
        if (!TryReadUInt(out value))
        {
            return false;
        }

        if (value <= max)
        {
            return true;
        }

        _position = start;
        value = 0;
        return Fail(MsgPackError.TooLarge);
    }

    /// <summary>Reads a signed integer.</summary>
    public bool TryReadInt(out long value)
    {
        value = 0;
        if (!TryPeek(out byte lead))
        {
            return false;
        }

        if (lead >= 0xe0)
        {
            value = (sbyte)lead;
            _position++;
            return true;
        }

        if (lead is < 0xd0 or > 0xd3)
        {
            bool read = TryReadUInt(long.MaxValue, out ulong unsigned);
            value = (long)unsigned;
            return read;
        }

        int width = 1 << (lead - 0xd0);
        int start = _position;
        if (!TryWord(width, 0, out ulong word))
        {
            return false;
        }

        int unused = 64 - (8 * width);
        long extended = (long)(word << unused) >> unused;
        long above = width switch
        {
            1 => -32,
            2 => sbyte.MinValue,
            4 => short.MinValue,
            _ => int.MinValue,
        };
        if (extended >= above)
        {
            _position = start;
            return Fail(MsgPackError.NotMinimal);
        }

        value = extended;
        return true;
    }

    /// <summary>Reads an unsigned integer that has nine bytes whatever its value.</summary>
    public bool TryReadUInt64Fixed(out ulong value)
    {
        value = 0;
        if (!TryPeek(out byte lead))
        {
            return false;
        }

        return lead == 0xcf ? TryWord(8, 0, out value) : Fail(MsgPackError.Type);
    }

    /// <summary>Reads nil.</summary>
    public bool TryReadNil()
    {
        if (!TryPeek(out byte lead))
        {
            return false;
        }

        if (lead != 0xc0)
        {
            return Fail(MsgPackError.Type);
        }

        _position++;
        return true;
    }

    /// <summary>Reads true or false.</summary>
    public bool TryReadBool(out bool value)
    {
        value = false;
        if (!TryPeek(out byte lead))
        {
            return false;
        }

        if (lead is not (0xc2 or 0xc3))
        {
            return Fail(MsgPackError.Type);
        }

        value = lead == 0xc3;
        _position++;
        return true;
    }

    /// <summary>
    /// Reads the head of an array. The count is at most <paramref name="max"/> and never above the bytes that remain.
    /// </summary>
    public bool TryReadArrayHeader(int max, out int count) => TryCollection(0x90, 0xdc, 1, max, out count);

    /// <summary>Reads the head of a map. The count is at most <paramref name="max"/> and never above half the bytes that remain.</summary>
    public bool TryReadMapHeader(int max, out int count) => TryCollection(0x80, 0xde, 2, max, out count);

    /// <summary>Reads the head of a byte string, without asking whether the bytes are there.</summary>
    /// <param name="max">The longest length accepted.</param>
    /// <param name="length">Bytes that follow.</param>
    public bool TryReadBinHeader(int max, out int length)
    {
        length = 0;
        if (!TryPeek(out byte lead))
        {
            return false;
        }

        int start = _position;
        ulong word;
        bool read = lead switch
        {
            0xc4 => TryWord(1, 0, out word),
            0xc5 => TryWord(2, 0x100, out word),
            0xc6 => TryWord(4, 0x1_0000, out word),
            _ => FailWord(out word),
        };
        return read && TryLength(start, word, max, out length);
    }

    /// <summary>Reads a byte string of at most <paramref name="max"/> bytes; the result is a part of the input.</summary>
    public bool TryReadBin(int max, out ReadOnlySpan<byte> bytes)
    {
        bytes = default;
        return TryReadBinHeader(max, out int length) && TryBytes(length, out bytes);
    }

    /// <summary>Reads a text of at most <paramref name="max"/> bytes of valid UTF-8; the result is a part of the input.</summary>
    public bool TryReadText(int max, out ReadOnlySpan<byte> utf8)
    {
        utf8 = default;
        if (!TryPeek(out byte lead))
        {
            return false;
        }

        int start = _position;
        ulong word;
        bool read;
        if (lead is >= 0xa0 and <= 0xbf)
        {
            word = lead & 0x1fUL;
            _position++;
            read = true;
        }
        else
        {
            read = lead switch
            {
                0xd9 => TryWord(1, 32, out word),
                0xda => TryWord(2, 0x100, out word),
                0xdb => TryWord(4, 0x1_0000, out word),
                _ => FailWord(out word),
            };
        }

        if (!read || !TryLength(start, word, max, out int length) || !TryBytes(length, out ReadOnlySpan<byte> bytes))
        {
            return false;
        }

        if (!Utf8.IsValid(bytes))
        {
            _position = start;
            return Fail(MsgPackError.Utf8);
        }

        utf8 = bytes;
        return true;
    }

    /// <summary>Passes over one value of any type but an extension, with everything in it.</summary>
    /// <param name="maxDepth">Arrays and maps may be nested this deep; 0 allows neither.</param>
    public bool TrySkip(int maxDepth)
    {
        if (!TryPeek(out byte lead))
        {
            return false;
        }

        switch (lead)
        {
            case < 0x80 or (>= 0xcc and <= 0xcf):
                return TryReadUInt(out _);
            case >= 0xe0 or (>= 0xd0 and <= 0xd3):
                return TryReadInt(out _);
            case <= 0x8f or 0xde or 0xdf:
                return TryReadMapHeader(int.MaxValue, out int pairs) && TrySkipElements(2L * pairs, maxDepth);
            case <= 0x9f or 0xdc or 0xdd:
                return TryReadArrayHeader(int.MaxValue, out int elements) && TrySkipElements(elements, maxDepth);
            case <= 0xbf or (>= 0xd9 and <= 0xdb):
                return TryReadText(int.MaxValue, out _);
            case >= 0xc4 and <= 0xc6:
                return TryReadBin(int.MaxValue, out _);
            case 0xc0 or 0xc2 or 0xc3:
                _position++;
                return true;
            case 0xca:
                return TryWord(4, 0, out _);
            case 0xcb:
                return TryWord(8, 0, out _);
            default:
                return Fail(MsgPackError.Type);
        }
    }

    private bool TrySkipElements(long count, int maxDepth)
    {
        if (maxDepth <= 0)
        {
            return Fail(MsgPackError.TooDeep);
        }

        for (long i = 0; i < count; i++)
        {
            if (!TrySkip(maxDepth - 1))
            {
                return false;
            }
        }

        return true;
    }

    private bool TryCollection(int fix, int wide, int bytesEach, int max, out int count)
    {
        count = 0;
        if (!TryPeek(out byte lead))
        {
            return false;
        }

        int start = _position;
        ulong word;
        bool read = true;
        if ((lead & 0xf0) == fix)
        {
            word = lead & 0x0fUL;
            _position++;
        }
        else if (lead == wide)
        {
            read = TryWord(2, 16, out word);
        }
        else if (lead == wide + 1)
        {
            read = TryWord(4, 0x1_0000, out word);
        }
        else
        {
            read = FailWord(out word);
        }

        if (!read || !TryLength(start, word, max, out int length))
        {
            return false;
        }

        if ((long)length * bytesEach > Remaining)
        {
            _position = start;
            return Fail(MsgPackError.End);
        }

        count = length;
        return true;
    }

    private bool TryLength(int start, ulong word, int max, out int length)
    {
        if (word > (ulong)Math.Max(0, max))
        {
            length = 0;
            _position = start;
            return Fail(MsgPackError.TooLarge);
        }

        length = (int)word;
        return true;
    }

    private bool TryBytes(int length, out ReadOnlySpan<byte> bytes)
    {
        if (length > Remaining)
        {
            bytes = default;
            return Fail(MsgPackError.End);
        }

        bytes = _bytes.Slice(_position, length);
        _position += length;
        return true;
    }

    /// <summary>Reads the big-endian word behind the lead byte; below <paramref name="minimum"/> it had a shorter form.</summary>
    private bool TryWord(int width, ulong minimum, out ulong value)
    {
        value = 0;
        if (Remaining < width + 1)
        {
            return Fail(MsgPackError.End);
        }

        ReadOnlySpan<byte> rest = _bytes.Slice(_position + 1, width);
        ulong word = width switch
        {
            1 => rest[0],
            2 => BinaryPrimitives.ReadUInt16BigEndian(rest),
            4 => BinaryPrimitives.ReadUInt32BigEndian(rest),
            _ => BinaryPrimitives.ReadUInt64BigEndian(rest),
        };
        if (word < minimum)
        {
            return Fail(MsgPackError.NotMinimal);
        }

        value = word;
        _position += width + 1;
        return true;
    }

    private bool TryPeek(out byte lead)
    {
        if (Error == MsgPackError.None && _position < _bytes.Length)
        {
            lead = _bytes[_position];
            return true;
        }

        lead = 0;
        return Fail(MsgPackError.End);
    }

    private bool FailWord(out ulong word)
    {
        word = 0;
        return Fail(MsgPackError.Type);
    }

    private bool Fail(MsgPackError error)
    {
        if (Error == MsgPackError.None)
        {
            Error = error;
        }

        return false;
    }
}
