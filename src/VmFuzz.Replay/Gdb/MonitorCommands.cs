using System.Collections.Immutable;
using System.Globalization;
using System.Text;
using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Machines;

namespace VmFuzz.Replay.Gdb;

/// <summary>The commands behind gdb's <c>monitor</c>. All only look.</summary>
internal static class MonitorCommands
{
    private static readonly ImmutableArray<Row> Rows =
    [
        new("help", "this list", static _ => Help()),
        new("position", "retired instructions, virtual time, bytes on the console", Position),
        new("registers", "the processor's whole state; under the hypervisor control registers as it set them", Registers),
    ];

    private readonly record struct Row(string Name, string Text, Func<Machine, string> Run);

    /// <summary>Carries out a command.</summary>
    public static string Run(Machine machine, string command)
    {
        string name = command.Trim();
        foreach (Row row in Rows)
        {
            if (row.Name == name)
            {
                return row.Run(machine);
            }
        }

        return "There is no such command.\n" + Help();
    }

    private static string Help()
    {
        var text = new StringBuilder();
        foreach (Row row in Rows)
        {
            text.Append(CultureInfo.InvariantCulture, $"monitor {row.Name,-10} {row.Text}\n");
        }

        return text.ToString();
    }

    private static string Position(Machine machine) => string.Create(
        CultureInfo.InvariantCulture,
        $"instruction {machine.Retired}, {machine.Clock.Now} ns, console {machine.ConsoleLength} bytes\n");

    private static string Registers(Machine machine)
    {
        ProcessorState state = machine.Processor.Fields;
        var text = new StringBuilder();
        for (int i = 0; i < state.Fields.Length; i++)
        {
            StateField field = state.Fields[i];
            if (field.Width <= 8)
            {
                text.Append(CultureInfo.InvariantCulture, $"{field.Name} 0x{state.ReadWord(i):x}\n");
            }
        }

        return text.ToString();
    }
}
