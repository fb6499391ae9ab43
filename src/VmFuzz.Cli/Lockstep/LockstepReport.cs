using System.Globalization;
using System.Text.Json;
using Iced.Intel;
using VmFuzz.Machines;

namespace VmFuzz.Cli.Lockstep;

/// <summary>What <c>lockstep</c> prints.</summary>
internal static class LockstepReport
{
    /// <summary>The known faults.</summary>
    public static void WriteFaults(Host host, bool json)
    {
        if (!json)
        {
            Tables.Write(host, ["fault", "what differs", "why", "SDM"], KnownFaults.Rows.Select(static f => new[] { f.Id, f.What, f.Why, f.Section }));
            return;
        }

        foreach (KnownFault fault in KnownFaults.Rows)
        {
            JsonReport.Write(host.Out, writer =>
            {
                writer.WriteString("fault", fault.Id);
                writer.WriteString("what", fault.What);
                writer.WriteString("why", fault.Why);
                writer.WriteString("section", fault.Section);
                writer.WriteString("mode", NameOf(fault.Mode));
                writer.WriteString("example", Convert.ToHexStringLower(fault.Example.AsSpan()));
            });
        }
    }

    /// <summary>The summary, and the difference.</summary>
    public static void Write(Host host, UnicornLibrary library, LockstepArguments arguments, LockstepResult result, bool json)
    {
        if (json)
        {
            JsonReport.Write(host.Out, writer => Write(writer, library, arguments, result));
            return;
        }

        string ended = result.Difference is not null ? "they differ" : result.Interrupted ? "they agree so far" : "they agree";
        host.Out.WriteLine(string.Create(
            CultureInfo.InvariantCulture,
            $"VmFuzz and Unicorn {library.Version}: {ended}"));
        host.Out.WriteLine(string.Create(
            CultureInfo.InvariantCulture,
            $"  {Quantities.Grouped(result.Instructions)} instructions compared in {Quantities.Grouped(result.Runs)} runs of {Quantities.Grouped(result.Programs)} programs, {Quantities.Seconds(result.Seconds)} s ({Quantities.Mips(result.Instructions, result.Seconds)} MIPS)"));
        host.Out.WriteLine($"  modes {string.Join(", ", arguments.Modes.Select(NameOf))}, seed {arguments.Seed}; {Quantities.Grouped(result.Exceptions)} runs ended in the same exception");
        for (int i = 0; i < result.Met.Length; i++)
        {
            if (result.Met[i] != 0)
            {
                host.Out.WriteLine($"  known fault {KnownFaults.Rows[i].Id}: {Quantities.Grouped(result.Met[i])} times");
            }
        }

        if (result.Difference is { } difference)
        {
            Write(host.Out, arguments, difference);
        }
    }

    /// <summary>A mode as options name it.</summary>
    public static string NameOf(FlatMode mode) => mode.ToString().ToLowerInvariant();

    private static void Write(TextWriter output, LockstepArguments arguments, LockstepDifference difference)
    {
        LockstepCase found = difference.Case;
        LockstepProgram program = difference.Program;
        output.WriteLine();
        output.WriteLine($"program {difference.Seed}, run {difference.Run}, {NameOf(program.Mode)}:");
        foreach (Instruction instruction in program.Instructions)
        {
            string bytes = Convert.ToHexStringLower(program.Code.AsSpan((int)(instruction.IP - program.Start), instruction.Length));
            string mark = instruction.IP == found.Before.Rip ? "> " : "  ";
            output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"  {mark}{instruction.IP:x8}  {bytes,-24} {instruction}"));
        }

        output.WriteLine();
        output.WriteLine($"at the instruction:      {found.Facts.Instruction}");
        output.WriteLine($"  VmFuzz: {found.ModelEnd}; Unicorn: {found.UnicornEnd}");
        output.WriteLine($"  {"",-8} {"before",18} {"VmFuzz",18} {"Unicorn",18}");
        uint differs = RegisterImage.Differences(found.Model, found.Unicorn, found.Flags);
        for (int i = 0; i < RegisterImage.Words; i++)
        {
            if (program.Mode != FlatMode.Long64 && i is >= 8 and < 16)
            {
                continue;
            }

            output.WriteLine(string.Create(
                CultureInfo.InvariantCulture,
                $"  {RegisterImage.NameOf(i),-8} {found.Before[i],18:x} {found.Model[i],18:x} {found.Unicorn[i],18:x}{((differs >> i & 1) != 0 ? "  differs" : "")}"));
        }

        output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"  defined flags {found.Flags:x}, differing {found.FlagsDiffering:x}"));
        if (found.Memory is { } address)
        {
            output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"  memory differs from {address:x} on"));
        }

        output.WriteLine();
        output.WriteLine($"again: {Again(arguments, difference)}");
    }

    private static string Again(LockstepArguments arguments, LockstepDifference difference) =>
        $"vmfuzz lockstep --oracle unicorn --mode {NameOf(difference.Program.Mode)} "
        + (arguments.Code is { } code ? $"--code {Convert.ToHexStringLower(code)}" : $"--seed {difference.Seed} --instructions 1")
        + (arguments.Cpu == MachineOptions.DefaultCpu ? "" : $" -cpu {arguments.Cpu}");

    private static void Write(Utf8JsonWriter writer, UnicornLibrary library, LockstepArguments arguments, LockstepResult result)
    {
        writer.WriteString("command", "lockstep");
        writer.WriteNumber("status", result.Difference is null ? ExitStatus.Fine : ExitStatus.Finding);
        writer.WriteString("oracle", "unicorn");
        writer.WriteString("version", library.Version);
        writer.WriteNumber("seed", arguments.Seed);
        writer.WriteStartArray("modes");
        foreach (FlatMode mode in arguments.Modes)
        {
            writer.WriteStringValue(NameOf(mode));
        }

        writer.WriteEndArray();
        writer.WriteNumber("programs", result.Programs);
        writer.WriteNumber("runs", result.Runs);
        writer.WriteNumber("instructions", result.Instructions);
        writer.WriteNumber("exceptions", result.Exceptions);
        writer.WriteBoolean("interrupted", result.Interrupted);
        writer.WriteNumber("seconds", Math.Round(result.Seconds, 3));
        writer.WriteStartObject("faults");
        for (int i = 0; i < result.Met.Length; i++)
        {
            writer.WriteNumber(KnownFaults.Rows[i].Id, result.Met[i]);
        }

        writer.WriteEndObject();
        if (result.Difference is { } difference)
        {
            writer.WriteStartObject("difference");
            Write(writer, arguments, difference);
            writer.WriteEndObject();
        }
    }

    private static void Write(Utf8JsonWriter writer, LockstepArguments arguments, LockstepDifference difference)
    {
        LockstepCase found = difference.Case;
        writer.WriteNumber("seed", difference.Seed);
        writer.WriteNumber("run", difference.Run);
        writer.WriteString("mode", NameOf(difference.Program.Mode));
        writer.WriteString("program", Convert.ToHexStringLower(difference.Program.Code));
        writer.WriteString("instruction", found.Facts.Instruction.ToString());
        writer.WriteString("vmfuzzEnd", found.ModelEnd);
        writer.WriteString("unicornEnd", found.UnicornEnd);
        Write(writer, "before", found.Before);
        Write(writer, "vmfuzz", found.Model);
        Write(writer, "unicorn", found.Unicorn);
        writer.WriteString("definedFlags", Hex(found.Flags));
        writer.WriteString("memory", found.Memory is { } address ? Hex(address) : null);
        writer.WriteString("again", Again(arguments, difference));
    }

    private static void Write(Utf8JsonWriter writer, string name, in RegisterImage image)
    {
        writer.WriteStartObject(name);
        for (int i = 0; i < RegisterImage.Words; i++)
        {
            writer.WriteString(RegisterImage.NameOf(i), Hex(image[i]));
        }

        writer.WriteEndObject();
    }

    private static string Hex(ulong value) => "0x" + value.ToString("x", CultureInfo.InvariantCulture);
}
