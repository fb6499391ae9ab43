using System.Text;
using VmFuzz.Trace;

namespace VmFuzz.Trace.Tests;

/// <summary>Traces and events that the tests share; the same on every run.</summary>
internal static class Samples
{
    public static byte[] Image { get; } = MakeImage(700);

    public static TraceHeader Header { get; } = new()
    {
        EngineVersion = "0.1.0",
        SemanticsVersion = 7,
        Source = "live",
        RowsHash = 0x1234_5678_9abc_def0,
        Plugins = ["handlers 1.2"],
        Machine = [new("machine", "flat"), new("memory", "1048576"), new("seed", "42")],
        Blobs = [TraceBlobReference.Of("kernel", "guest.bin", Image), TraceBlobReference.Of("initrd", "elsewhere", [1, 2, 3])],
    };

    public static byte[] MakeImage(int length)
    {
        byte[] image = new byte[length];
        for (int i = 0; i < length; i++)
        {
            image[i] = (byte)((i * 7) ^ (i >> 3));
        }

        return image;
    }

    /// <summary>An event with every field of its kind set; the numbers differ with the seed.</summary>
    public static TraceEvent Full(TraceEventKind kind, ulong seed)
    {
        TraceEvent item = new(kind) { Retired = 1000 * seed };
        foreach (TraceField field in item.Row!.Fields)
        {
            ulong word = Mix((seed << 8) + (ulong)field.Key);
            switch (field.Type)
            {
                case TraceFieldType.Signed:
                    item.SetWord(field.Key, (ulong)-(long)(1 + (word % 1000)));
                    break;
                case TraceFieldType.Bytes or TraceFieldType.Text:
                    item.SetBytes(Encoding.UTF8.GetBytes($"bytes of {seed} ü"));
                    break;
                case TraceFieldType.Controls:
                    item.AddControl(0x4002, word);
                    item.AddControl(0x401e, 0);
                    break;
                case TraceFieldType.State:
                    item.AddDelta(0x1000, 0, word);
                    item.AddDelta(0x1000, 16, 5);
                    item.AddDelta(0x1001, 0x6820, 2);
                    item.AddDelta(0x1000, 3, 0);
                    break;
                default:
                    item.SetWord(field.Key, Math.Max(1, field.Max == ulong.MaxValue ? word : word % (field.Max + 1)));
                    break;
            }
        }

        item.Vcpu = (int)(seed & 1);
        return item;
    }

    /// <summary>An exit as a loop of CPUID makes them.</summary>
    public static TraceEvent Exit(TraceEvent into, ulong number)
    {
        into.Clear(TraceEventKind.Exit);
        into.Retired = number * 25;
        into.ExitReason = 10;
        into.InstructionLength = 2;
        into.Rip = 0xffff_ffff_8100_0000 + (number % 50 * 16);
        into.Digest = Mix(number);
        into.AddDelta(0x1000, 0, number);
        into.AddDelta(0x1000, 1, 0xffff_8880_0000_0000 + (number * 64));
        return into;
    }

    public static TraceEvent End() => new(TraceEventKind.End) { Digest = 99, MemoryDigest = 100, InputsHash = 101, Retired = 5000, ConsoleLength = 3, ConsoleHash = 8 };

    /// <summary>A small whole trace: an image and two chunks with all kinds of events, below 4 KiB.</summary>
    public static byte[] Small(TraceWriterOptions? options = null)
    {
        using MemoryStream stream = new();
        using TraceWriter writer = new(stream, Header, options, leaveOpen: true);
        writer.AddBlob(Image);
        foreach (TraceEvent item in AllKinds())
        {
            writer.Append(item);
            if (item.Kind == TraceEventKind.Input)
            {
                writer.Flush();
            }
        }

        TraceEvent end = End();
        end.SetText("the guest halted");
        writer.Finish(end);
        return stream.ToArray();
    }

    public static IEnumerable<TraceEvent> AllKinds()
    {
        ulong seed = 1;
        foreach (TraceEventRow row in TraceSchema.Rows)
        {
            if (row.Kind != TraceEventKind.End)
            {
                yield return Full(row.Kind, seed++);
                yield return new TraceEvent(row.Kind) { Retired = 1000 * seed };
            }
        }
    }

    /// <summary>A whole trace with exits only, in small chunks.</summary>
    public static byte[] Exits(int count, TraceWriterOptions options)
    {
        using MemoryStream stream = new();
        using TraceWriter writer = new(stream, Header, options, leaveOpen: true);
        TraceEvent item = new();
        for (int i = 0; i < count; i++)
        {
            writer.Append(Exit(item, (ulong)i));
        }

        writer.Finish(End());
        return stream.ToArray();
    }

    public static ulong Mix(ulong x)
    {
        x = (x ^ (x >> 32) ^ 0x9E37_79B9_7F4A_7C15) * 0xD6E8_FEB8_6659_FD93;
        x = (x ^ (x >> 32)) * 0xD6E8_FEB8_6659_FD93;
        return x ^ (x >> 32);
    }
}
