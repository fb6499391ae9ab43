using System.Numerics;
using System.Text.Unicode;

namespace VmFuzz.Trace;

/// <summary>
/// Events as MessagePack: <c>[kind, retired delta, presence mask, fields present...]</c>. A field that is 0 or empty is
/// left out, so an event has exactly one encoding.
/// </summary>
internal static class TraceEventCodec
{
    /// <summary>Writes one event. The row is the one of the event's kind.</summary>
    /// <returns>The first field over its maximum, or null.</returns>
    public static TraceField? Encode(ref MsgPackWriter writer, TraceEventRow row, TraceEvent from, ulong retiredDelta)
    {
        ReadOnlySpan<ulong> slots = from.Slots;
        uint mask = NotZero(slots, row.ScalarMask);
        if (row.Deltas is { } deltas && from.Deltas.Length != 0)
        {
            mask |= 1U << deltas.Key;
        }

        if (row.Bytes is { } bytes && from.Bytes.Length != 0)
        {
            mask |= 1U << bytes.Key;
        }

        writer.WriteArrayHeader(3 + BitOperations.PopCount(mask));
        writer.WriteUInt((ulong)row.Kind);
        writer.WriteUInt(retiredDelta);
        writer.WriteUInt(mask);
        for (uint rest = mask; rest != 0; rest &= rest - 1)
        {
            TraceField field = row.ByKey[BitOperations.TrailingZeroCount(rest)]!;
            ulong word = slots[field.Key];
            switch (field.Type)
            {
                case TraceFieldType.Signed:
                    if ((long)word is < int.MinValue or > int.MaxValue)
                    {
                        return field;
                    }

                    writer.WriteInt((long)word);
                    break;
                case TraceFieldType.Bytes:
                    writer.WriteBin(from.Bytes);
                    break;
                case TraceFieldType.Text:
                    if (!Utf8.IsValid(from.Bytes))
                    {
                        return field;
                    }

                    writer.WriteText(from.Bytes);
                    break;
                case TraceFieldType.Controls:
                    if (!AllWithoutComponent(from.Deltas))
                    {
                        return field;
                    }

                    EncodePairs(ref writer, from.Deltas);
                    break;
                case TraceFieldType.State:
                    EncodeState(ref writer, from.Deltas);
                    break;
                default:
                    if (word > field.Max)
                    {
                        return field;
                    }

                    writer.WriteUInt(word);
                    break;
            }
        }

        return null;
    }

    /// <summary>
    /// Reads one event. <see cref="TraceEvent.Retired"/> then holds the delta as it is in the file.
    /// </summary>
    /// <returns>What is wrong, or null.</returns>
    public static string? Decode(ref MsgPackReader reader, TraceEvent into)
    {
        if (!reader.TryReadArrayHeader(3 + TraceSchema.SlotCount, out int count)
            || !reader.TryReadUInt(byte.MaxValue, out ulong kind)
            || !reader.TryReadUInt(out ulong retiredDelta)
            || !reader.TryReadUInt(uint.MaxValue, out ulong mask))
        {
            return Unreadable(reader);
        }

        if (TraceSchema.Find((TraceEventKind)kind) is not { } row)
        {
            return "unknown kind of event";
        }

        if ((mask & ~(ulong)row.Mask) != 0)
        {
            return $"{row.Name}: the presence mask names a field that the kind does not have";
        }

        if (count != 3 + BitOperations.PopCount(mask))
        {
            return $"{row.Name}: the array's size does not match the presence mask";
        }

        into.Clear(row.Kind);
        into.Retired = retiredDelta;
        for (uint rest = (uint)mask; rest != 0; rest &= rest - 1)
        {
            TraceField field = row.ByKey[BitOperations.TrailingZeroCount(rest)]!;
            bool read;
            bool empty;
            switch (field.Type)
            {
                case TraceFieldType.Signed:
                    read = reader.TryReadInt(out long signed) && signed is >= int.MinValue and <= int.MaxValue;
                    empty = signed == 0;
                    into.SetWord(field.Key, (ulong)signed);
                    break;
                case TraceFieldType.Bytes:
                    read = reader.TryReadBin(TraceSchema.MaxBytes, out ReadOnlySpan<byte> bytes);
                    empty = bytes.IsEmpty;
                    into.SetBytes(bytes);
                    break;
                case TraceFieldType.Text:
                    read = reader.TryReadText(TraceSchema.MaxBytes, out ReadOnlySpan<byte> text);
                    empty = text.IsEmpty;
                    into.SetBytes(text);
                    break;
                case TraceFieldType.Controls:
                    read = DecodePairs(ref reader, 0, into, out empty);
                    break;
                case TraceFieldType.State:
                    read = DecodeState(ref reader, into, out empty);
                    break;
                default:
                    read = reader.TryReadUInt(field.Max, out ulong word);
                    empty = word == 0;
                    into.SetWord(field.Key, word);
                    break;
            }

            if (!read)
            {
                return $"{row.Name}: {field.Name}: {Unreadable(reader)}";
            }

            if (empty)
            {
                return $"{row.Name}: {field.Name} is present but empty";
            }
        }

        return null;
    }

    /// <summary>A bit for every slot of a mask that is not 0. Word by word: the slots were written so just now.</summary>
    private static uint NotZero(ReadOnlySpan<ulong> slots, uint mask)
    {
        uint found = 0;
        for (uint rest = mask; rest != 0; rest &= rest - 1)
        {
            int key = BitOperations.TrailingZeroCount(rest);
            found |= (slots[key] != 0 ? 1U : 0) << key;
        }

        return found;
    }

    private static bool AllWithoutComponent(ReadOnlySpan<TraceDelta> deltas)
    {
        foreach (ref readonly TraceDelta delta in deltas)
        {
            if (delta.Component != 0)
            {
                return false;
            }
        }

        return true;
    }

    private static void EncodePairs(ref MsgPackWriter writer, ReadOnlySpan<TraceDelta> deltas)
    {
        writer.WriteArrayHeader(2 * deltas.Length);
        writer.WritePairs(deltas);
    }

    private static bool DecodePairs(ref MsgPackReader reader, ushort component, TraceEvent into, out bool empty)
    {
        empty = false;
        if (!reader.TryReadArrayHeader(2 * TraceSchema.MaxDeltas, out int count) || (count & 1) != 0
            || (count / 2) + into.Deltas.Length > TraceSchema.MaxDeltas)
        {
            return false;
        }

        for (int i = 0; i < count; i += 2)
        {
            if (!reader.TryReadUInt(ushort.MaxValue, out ulong field) || !reader.TryReadUInt(out ulong value))
            {
                return false;
            }

            into.AddDelta(component, (ushort)field, value);
        }

        empty = count == 0;
        return true;
    }

    private static void EncodeState(ref MsgPackWriter writer, ReadOnlySpan<TraceDelta> deltas)
    {
        int groups = 1;
        for (int i = 1; i < deltas.Length; i++)
        {
            groups += deltas[i].Component != deltas[i - 1].Component ? 1 : 0;
        }

        writer.WriteArrayHeader(2 * groups);
        while (!deltas.IsEmpty)
        {
            int length = 1;
            while (length < deltas.Length && deltas[length].Component == deltas[0].Component)
            {
                length++;
            }

            writer.WriteUInt(deltas[0].Component);
            EncodePairs(ref writer, deltas[..length]);
            deltas = deltas[length..];
        }
    }

    private static bool DecodeState(ref MsgPackReader reader, TraceEvent into, out bool empty)
    {
        empty = false;
        if (!reader.TryReadArrayHeader(2 * TraceSchema.MaxDeltas, out int count) || (count & 1) != 0)
        {
            return false;
        }

        // Two groups of one component in a row would be a second encoding of the same deltas.
        ulong previous = ulong.MaxValue;
        for (int i = 0; i < count; i += 2)
        {
            if (!reader.TryReadUInt(ushort.MaxValue, out ulong component) || component == previous
                || !DecodePairs(ref reader, (ushort)component, into, out bool emptyGroup) || emptyGroup)
            {
                return false;
            }

            previous = component;
        }

        empty = count == 0;
        return true;
    }

    private static string Unreadable(MsgPackReader reader) => reader.Error switch
    {
        MsgPackError.End => "the bytes end inside a value",
        MsgPackError.Type => "a value of another type was expected",
        MsgPackError.NotMinimal => "a value is not in its shortest encoding",
        MsgPackError.TooLarge => "a value or length is over its limit",
        MsgPackError.TooDeep => "nested too deep",
        MsgPackError.Utf8 => "a text is not UTF-8",
        _ => "a value is out of range",
    };
}
