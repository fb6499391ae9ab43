using System.Collections.Immutable;
using FsCheck;
using FsCheck.Fluent;
using VmFuzz.Replay;
using VmFuzz.Trace;

namespace VmFuzz.Testing;

// What traces hold.
public static partial class Generators
{
    /// <summary>Trace events of every kind but the end, with any values that the schema allows.</summary>
    public static Arbitrary<TraceEvent> TraceEvents() => Arb.From(
        from row in Gen.Elements(TraceSchema.Rows.Where(static r => r.Kind != TraceEventKind.End))
        from seed in Word64
        select Event(row, new SplitMix(seed)));

    /// <summary>Traces of any events in chunks of any size; shrinks by leaving events out.</summary>
    public static Arbitrary<TraceOfEvents> Traces()
    {
        Gen<TraceOfEvents> gen =
            from events in Gen.ListOf(TraceEvents().Generator)
            from chunk in Gen.Frequency((2, Gen.Choose(1, 400)), (1, Gen.Choose(1, 65536)))
            from level in Gen.Choose(0, 9)
            select new TraceOfEvents([.. events], chunk, level);
        return Arb.From(gen, static trace => Without(trace.Events).Select(events => trace with { Events = events }));
    }

    private static TraceEvent Event(TraceEventRow row, SplitMix random)
    {
        var made = new TraceEvent(row.Kind) { Retired = random.Next() >> (int)random.Below(64), Vcpu = (int)random.Below(4) };
        foreach (TraceField field in row.Fields)
        {
            ulong word = AtomMaker.Value(random);
            switch (field.Type)
            {
                case TraceFieldType.Signed:
                    made.SetWord(field.Key, (ulong)(long)(int)word);
                    break;
                case TraceFieldType.Bytes:
                    byte[] bytes = new byte[random.Below(40)];
                    for (int i = 0; i < bytes.Length; i++)
                    {
                        bytes[i] = (byte)random.Next();
                    }

                    made.SetBytes(bytes);
                    break;
                case TraceFieldType.Text:
                    made.SetText($"text {word}");
                    break;
                case TraceFieldType.Controls:
                    for (ulong i = random.Below(5); i > 0; i--)
                    {
                        made.AddControl((ushort)random.Next(), AtomMaker.Value(random));
                    }

                    break;
                case TraceFieldType.State:
                    for (ulong i = random.Below(9); i > 0; i--)
                    {
                        made.AddDelta((ushort)(0x1000 + random.Below(4)), (ushort)random.Next(), AtomMaker.Value(random));
                    }

                    break;
                default:
                    made.SetWord(field.Key, field.Max == ulong.MaxValue ? word : word % (field.Max + 1));
                    break;
            }
        }

        return made;
    }
}
