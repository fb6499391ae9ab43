using System.Buffers.Binary;
using System.Numerics;
using System.Runtime.CompilerServices;
using System.Text;

namespace VmFuzz.Trace;

/// <summary>
/// Writes MessagePack into a buffer of the caller. Every value gets its shortest encoding. When the buffer has no room
/// for a value, nothing of it is written, <see cref="Failed"/> becomes true and stays so. Allocates nothing.
/// </summary>
public ref struct MsgPackWriter
{
    private readonly Span<byte> _buffer;
    private int _position;
    private bool _failed;

    /// <summary>Starts at the beginning of a buffer.</summary>
    /// <param name="buffer">Where to write.</param>
    public MsgPackWriter(Span<byte> buffer)
    {
        _buffer = buffer;
        _position = 0;
        _failed = false;
    }

    /// <summary>Bytes written so far.</summary>
    public readonly int Position => _position;

    /// <summary>Whether a value did not fit. Then the bytes written are of no use.</summary>
    public readonly bool Failed => _failed;

    /// <summary>The bytes written so far.</summary>
    public readonly ReadOnlySpan<byte> Written => _buffer[.._position];

    /// <summary>Writes an unsigned integer.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void WriteUInt(ulong value)
    {
        int position = _position;
        if (_buffer.Length - position < 9 || _failed)
        {
            WriteUIntAtEnd(value);
        }
        else if (value < 0x80)
        {
            _buffer[position] = (byte)value;
            _position = position + 1;
        }
        else
        {
            // 1, 2, 4 or 8 bytes: the bytes needed, rounded up to a power of two. One store of eight bytes; those behind
            // the value are overwritten by what follows.
            int log = Log(value);
            Span<byte> at = _buffer.Slice(position, 9);
            at[0] = (byte)(0xcc + log);
            BinaryPrimitives.WriteUInt64BigEndian(at[1..], value << (64 - (8 << log)));
            _position = position + 1 + (1 << log);
        }
    }

    /// <summary>Writes a signed integer; one that is not negative is written as an unsigned one.</summary>
    public void WriteInt(long value)
    {
        if (value >= 0)
        {
            WriteUInt((ulong)value);
        }
        else if (value >= -32)
        {
            Put((byte)value, 0, 0);
        }
        else if (value >= sbyte.MinValue)
        {
            Put(0xd0, 1, (ulong)value);
        }
        else if (value >= short.MinValue)
        {
            Put(0xd1, 2, (ulong)value);
        }
        else if (value >= int.MinValue)
        {
            Put(0xd2, 4, (ulong)value);
        }
        else
        {
            Put(0xd3, 8, (ulong)value);
        }
    }

    /// <summary>Writes an unsigned integer in nine bytes whatever its value: for a place that is filled in later.</summary>
    public void WriteUInt64Fixed(ulong value) => Put(0xcf, 8, value);

    /// <summary>Writes nil.</summary>
    public void WriteNil() => Put(0xc0, 0, 0);

    /// <summary>Writes true or false.</summary>
    public void WriteBool(bool value) => Put(value ? (byte)0xc3 : (byte)0xc2, 0, 0);

    /// <summary>Writes the head of an array; its elements follow.</summary>
    /// <param name="count">Elements, at least 0.</param>
    public void WriteArrayHeader(int count)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(count);
        if (count < 16 && (uint)_position < (uint)_buffer.Length && !_failed)
        {
            _buffer[_position++] = (byte)(0x90 | count);
        }
        else if (count < 16)
        {
            _failed = true;
        }
        else if (count <= ushort.MaxValue)
        {
            Put(0xdc, 2, (ulong)count);
        }
        else
        {
            Put(0xdd, 4, (ulong)count);
        }
    }

    /// <summary>Writes the head of a map; its keys and values follow in turn.</summary>
    /// <param name="count">Pairs, at least 0.</param>
    public void WriteMapHeader(int count)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(count);
        if (count < 16)
        {
            Put((byte)(0x80 | count), 0, 0);
        }
        else if (count <= ushort.MaxValue)
        {
            Put(0xde, 2, (ulong)count);
        }
        else
        {
            Put(0xdf, 4, (ulong)count);
        }
    }

    /// <summary>Writes only the head of a byte string; the caller supplies the bytes elsewhere.</summary>
    /// <param name="length">Bytes, at least 0.</param>
    public void WriteBinHeader(int length)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        if (length <= byte.MaxValue)
        {
            Put(0xc4, 1, (ulong)length);
        }
        else if (length <= ushort.MaxValue)
        {
            Put(0xc5, 2, (ulong)length);
        }
        else
        {
            Put(0xc6, 4, (ulong)length);
        }
    }

    /// <summary>Writes a byte string.</summary>
    public void WriteBin(scoped ReadOnlySpan<byte> bytes)
    {
        WriteBinHeader(bytes.Length);
        PutBytes(bytes);
    }

    /// <summary>Writes bytes of a byte string whose head was written (<see cref="WriteBinHeader"/>).</summary>
    public void WriteBytes(scoped ReadOnlySpan<byte> bytes) => PutBytes(bytes);

    /// <summary>Writes a text given as UTF-8.</summary>
    /// <param name="utf8">Valid UTF-8; not checked here.</param>
    public void WriteText(scoped ReadOnlySpan<byte> utf8)
    {
        WriteTextHeader(utf8.Length);
        PutBytes(utf8);
    }

    /// <summary>Writes a text. Lone surrogates become U+FFFD.</summary>
    public void WriteText(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        int length = Encoding.UTF8.GetByteCount(text);
        WriteTextHeader(length);
        if (_failed || length > _buffer.Length - _position)
        {
            _failed = true;
            return;
        }

        _position += Encoding.UTF8.GetBytes(text, _buffer[_position..]);
    }

    /// <summary>
    /// Writes unsigned integers at a place in a span that has room for nine bytes each, without the writer's own state:
    /// the hot loops keep the position in a register this way.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static int Put(Span<byte> buffer, int position, ulong value)
    {
        if (value < 0x80)
        {
            buffer[position] = (byte)value;
            return position + 1;
        }

        int log = Log(value);
        Span<byte> at = buffer.Slice(position, 9);
        at[0] = (byte)(0xcc + log);
        BinaryPrimitives.WriteUInt64BigEndian(at[1..], value << (64 - (8 << log)));
        return position + 1 + (1 << log);
    }

    /// <summary>Writes unsigned integers two by two, when there is room for the longest encoding of each.</summary>
    internal void WritePairs(scoped ReadOnlySpan<TraceDelta> deltas)
    {
        if (_failed || _buffer.Length - _position < 13 * deltas.Length + 9)
        {
            foreach (ref readonly TraceDelta delta in deltas)
            {
                WriteUInt(delta.Field);
                WriteUInt(delta.Value);
            }

            return;
        }

        Span<byte> buffer = _buffer;
        int position = _position;
        foreach (ref readonly TraceDelta delta in deltas)
        {
            position = Put(buffer, position, delta.Field);
            position = Put(buffer, position, delta.Value);
        }

        _position = position;
    }

    private static int Log(ulong value) =>
        32 - BitOperations.LeadingZeroCount((uint)((71 - BitOperations.LeadingZeroCount(value)) >> 3) - 1);

    private void WriteUIntAtEnd(ulong value)
    {
        if (value < 0x80)
        {
            Put((byte)value, 0, 0);
        }
        else
        {
            Put((byte)(0xcc + Log(value)), 1 << Log(value), value);
        }
    }

    private void WriteTextHeader(int length)
    {
        if (length < 32)
        {
            Put((byte)(0xa0 | length), 0, 0);
        }
        else if (length <= byte.MaxValue)
        {
            Put(0xd9, 1, (ulong)length);
        }
        else if (length <= ushort.MaxValue)
        {
            Put(0xda, 2, (ulong)length);
        }
        else
        {
            Put(0xdb, 4, (ulong)length);
        }
    }

    private void Put(byte lead, int width, ulong value)
    {
        if (_failed || _buffer.Length - _position < width + 1)
        {
            _failed = true;
            return;
        }

        _buffer[_position] = lead;
        Span<byte> rest = _buffer.Slice(_position + 1, width);
        switch (width)
        {
            case 1:
                rest[0] = (byte)value;
                break;
            case 2:
                BinaryPrimitives.WriteUInt16BigEndian(rest, (ushort)value);
                break;
            case 4:
                BinaryPrimitives.WriteUInt32BigEndian(rest, (uint)value);
                break;
            case 8:
                BinaryPrimitives.WriteUInt64BigEndian(rest, value);
                break;
            default:
                break;
        }

        _position += width + 1;
    }

    private void PutBytes(scoped ReadOnlySpan<byte> bytes)
    {
        if (_failed || bytes.Length > _buffer.Length - _position)
        {
            _failed = true;
            return;
        }

        bytes.CopyTo(_buffer[_position..]);
        _position += bytes.Length;
    }
}
