using System.Globalization;
using System.Text;

namespace VmFuzz.Trace;

/// <summary>Compares two events field by field.</summary>
internal static class TraceComparison
{
    public static IReadOnlyList<TraceDifference> Differences(TraceEvent expected, TraceEvent actual)
    {
        ArgumentNullException.ThrowIfNull(expected);
        ArgumentNullException.ThrowIfNull(actual);
        if (expected.SameAs(actual))
        {
            return [];
        }

        if (expected.Kind != actual.Kind)
        {
            return [new("event", KindName(expected), KindName(actual))];
        }

        List<TraceDifference> differences = [];
        if (expected.Retired != actual.Retired)
        {
            differences.Add(new("retired", Decimal(expected.Retired), Decimal(actual.Retired)));
        }

        foreach (TraceField field in expected.Row?.Fields ?? [])
        {
            switch (field.Type)
            {
                case TraceFieldType.Bytes or TraceFieldType.Text:
                    if (!expected.Bytes.SequenceEqual(actual.Bytes))
                    {
                        differences.Add(new(field.Name, Shown(field, expected), Shown(field, actual)));
                    }

                    break;
                case TraceFieldType.Controls or TraceFieldType.State:
                    AddDeltas(field, expected, actual, differences);
                    break;
                default:
                    if (expected.GetWord(field.Key) != actual.GetWord(field.Key))
                    {
                        differences.Add(new(field.Name, Word(field, expected.GetWord(field.Key)), Word(field, actual.GetWord(field.Key))));
                    }

                    break;
            }
        }

        return differences;
    }

    /// <summary>A scalar value as text: number, hexadecimal, or name.</summary>
    public static string Word(TraceField field, ulong value) => field.Type switch
    {
        TraceFieldType.Hex => "0x" + value.ToString("x", CultureInfo.InvariantCulture),
        TraceFieldType.Signed => ((long)value).ToString(CultureInfo.InvariantCulture),
        TraceFieldType.Named => field.NameOf(value) ?? Decimal(value),
        _ => Decimal(value),
    };

    /// <summary>The name of a delta's place: component and field in hexadecimal.</summary>
    public static string Place(TraceField field, in TraceDelta delta) => field.Type == TraceFieldType.Controls
        ? $"0x{delta.Field:x4}"
        : $"0x{delta.Component:x4}.{delta.Field}";

    /// <summary>Deltas are compared by place first, so that one that is missing does not shift all others.</summary>
    private static void AddDeltas(TraceField field, TraceEvent expected, TraceEvent actual, List<TraceDifference> differences)
    {
        int before = differences.Count;
        foreach (ref readonly TraceDelta delta in expected.Deltas)
        {
            int at = Find(actual.Deltas, delta);
            if (at < 0 || actual.Deltas[at].Value != delta.Value)
            {
                differences.Add(new(Name(field, delta), Hex(delta), at < 0 ? "unchanged" : Hex(actual.Deltas[at])));
            }
        }

        foreach (ref readonly TraceDelta delta in actual.Deltas)
        {
            if (Find(expected.Deltas, delta) < 0)
            {
                differences.Add(new(Name(field, delta), "unchanged", Hex(delta)));
            }
        }

        if (differences.Count == before && !expected.Deltas.SequenceEqual(actual.Deltas))
        {
            differences.Add(new(field.Name, Order(field, expected), Order(field, actual)));
        }
    }

    private static int Find(ReadOnlySpan<TraceDelta> deltas, in TraceDelta wanted)
    {
        for (int i = 0; i < deltas.Length; i++)
        {
            if (deltas[i].Component == wanted.Component && deltas[i].Field == wanted.Field)
            {
                return i;
            }
        }

        return -1;
    }

    private static string Order(TraceField field, TraceEvent of)
    {
        StringBuilder text = new();
        foreach (ref readonly TraceDelta delta in of.Deltas)
        {
            text.Append(text.Length == 0 ? "" : " ").Append(Place(field, delta)).Append('=').Append(Hex(delta));
        }

        return text.ToString();
    }

    private static string Name(TraceField field, in TraceDelta delta) => $"{field.Name}[{Place(field, delta)}]";

    private static string Shown(TraceField field, TraceEvent of) =>
        field.Type == TraceFieldType.Text ? $"\"{of.Text}\"" : Convert.ToHexStringLower(of.Bytes);

    private static string KindName(TraceEvent of) => of.Row?.Name ?? Decimal((ulong)of.Kind);

    private static string Hex(in TraceDelta delta) => "0x" + delta.Value.ToString("x", CultureInfo.InvariantCulture);

    private static string Decimal(ulong value) => value.ToString(CultureInfo.InvariantCulture);
}
