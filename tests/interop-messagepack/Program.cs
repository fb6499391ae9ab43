using System.Buffers;
using System.IO.Compression;
using MessagePack;

// Reads traces with the MessagePack package and nothing of this project, and compares what is in them with what their
// ends say. Knows the format only from src/docs/trace-format.md. Arguments: files or folders; none: corpus/traces.
string[] places = args.Length != 0 ? args : ["corpus/traces"];
string[] files = [.. places.SelectMany(static place => Directory.Exists(place) ? Directory.GetFiles(place, "*.vmtrace") : [place]).Order(StringComparer.Ordinal)];
int bad = 0;
foreach (string file in files)
{
    string? wrong = Trace.Check(File.ReadAllBytes(file), out ulong events);
    Console.WriteLine(wrong is null ? $"{file}: {events} events" : $"{file}: {wrong}");
    bad += wrong is null ? 0 : 1;
}

Console.WriteLine($"{files.Length} traces, {bad} bad");
return files.Length != 0 && bad == 0 ? 0 : 1;

/// <summary>One trace.</summary>
internal static class Trace
{
    private const int Header = 1, Events = 3, End = 5, Index = 6;
    private const int LastKind = 13;

    // Kinds of events whose numbers the end tells, and the keys under which it does.
    private static readonly (int Kind, int Key, string Name)[] Totals =
        [(1, 5, "entries"), (2, 6, "exits"), (3, 7, "injected"), (4, 8, "delivered"), (5, 9, "inputs")];

    /// <summary>Reads a trace to its end.</summary>
    /// <param name="file">The bytes.</param>
    /// <param name="events">How many events it has, the end included.</param>
    /// <returns>What is wrong, or null.</returns>
    public static string? Check(byte[] file, out ulong events)
    {
        ulong[] counts = new ulong[LastKind + 1];
        ulong[] told = new ulong[64];
        ulong indexed = 0;
        int last = 0;
        events = 0;
        MessagePackReader chunks = new(file);
        for (ulong number = 0; !chunks.End; number++)
        {
            if (chunks.ReadArrayHeader() != 6)
            {
                return $"chunk {number} is not an array of six";
            }

            int kind = chunks.ReadInt32();
            ulong sequence = chunks.ReadUInt64();
            int codec = chunks.ReadInt32();
            int length = chunks.ReadInt32();
            chunks.ReadUInt64(); // The checksum: of bytes, which is not this package's business.
            byte[] payload = Unpack(chunks.ReadBytes() ?? default, codec, length);
            if (sequence != number || payload.Length != length || (number == 0) != (kind == Header))
            {
                return $"chunk {number} has a wrong number, length or kind";
            }

            MessagePackReader reader = new(payload);
            switch (kind)
            {
                case Header:
                    reader.ReadArrayHeader();
                    if (reader.ReadString() != "vmtrace" || reader.ReadUInt64() != 1)
                    {
                        return "not a trace of version 1";
                    }

                    break;
                case Events or End:
                    while (!reader.End)
                    {
                        ReadEvent(ref reader, counts, kind == End ? told : null);
                        events++;
                    }

                    break;
                case Index:
                    reader.ReadArrayHeader();
                    indexed = reader.ReadUInt64();
                    break;
                default:
                    break;
            }

            last = kind;
        }

        foreach ((int kind, int key, string name) in Totals)
        {
            if (counts[kind] != told[key])
            {
                return $"{counts[kind]} {name}, {told[key]} by the end";
            }
        }

        return last != Index ? "truncated" : indexed != events - 1 ? $"{events - 1} events, {indexed} by the index" : null;
    }

    private static void ReadEvent(ref MessagePackReader reader, ulong[] counts, ulong[]? values)
    {
        int fields = reader.ReadArrayHeader() - 3;
        counts[reader.ReadInt32()]++;
        reader.ReadUInt64();
        ulong mask = reader.ReadUInt64();
        for (int key = 0; key < 64; key++)
        {
            if ((mask >> key & 1) == 0)
            {
                continue;
            }

            fields--;
            if (values is not null && reader.NextMessagePackType == MessagePackType.Integer)
            {
                values[key] = reader.ReadUInt64();
            }
            else
            {
                reader.Skip();
            }
        }

        if (fields != 0)
        {
            throw new MessagePackSerializationException("an event has other fields than its mask says");
        }
    }

    private static byte[] Unpack(ReadOnlySequence<byte> bytes, int codec, int length)
    {
        byte[] raw = bytes.ToArray();
        if (codec == 0)
        {
            return raw;
        }

        byte[] payload = new byte[length];
        using ZLibStream stream = new(new MemoryStream(raw), CompressionMode.Decompress);
        stream.ReadExactly(payload);
        return payload;
    }
}
