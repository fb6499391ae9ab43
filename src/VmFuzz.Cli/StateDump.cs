using System.Globalization;
using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Machines;

namespace VmFuzz.Cli;

/// <summary>The processor's state at the end of a run.</summary>
internal static class StateDump
{
    /// <summary>Fields of at most eight bytes, by name.</summary>
    public static IReadOnlyList<KeyValuePair<string, string>> Of(Machine machine)
    {
        ProcessorState state = machine.Processor.Fields;
        var result = new List<KeyValuePair<string, string>>();
        for (int i = 0; i < state.Fields.Length; i++)
        {
            StateField field = state.Fields[i];
            if (field.Width <= 8)
            {
                result.Add(new(field.Name, "0x" + state.ReadWord(i).ToString("x", CultureInfo.InvariantCulture)));
            }
        }

        return result;
    }

    /// <summary>Four fields a line.</summary>
    public static void Write(TextWriter writer, IReadOnlyList<KeyValuePair<string, string>> fields)
    {
        for (int i = 0; i < fields.Count; i += 4)
        {
            var line = new System.Text.StringBuilder(" ");
            for (int j = i; j < Math.Min(i + 4, fields.Count); j++)
            {
                line.Append(' ').Append((fields[j].Key + "=" + fields[j].Value).PadRight(34));
            }

            writer.WriteLine(line.ToString().TrimEnd());
        }
    }
}
