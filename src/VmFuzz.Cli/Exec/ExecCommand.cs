using System.CommandLine;
using System.Text;
using VmFuzz.Cpu;
using VmFuzz.Machines;
using VmFuzz.Machines.Vectors;

namespace VmFuzz.Cli.Exec;

/// <summary><c>vmfuzz exec</c>: instruction vectors in, what they did out; a line for a line.</summary>
internal static class ExecCommand
{
    /// <summary>Longest line in bytes.</summary>
    public const int LongestLine = 256 << 10;

    // Output that is written at once while there is more input at hand.
    private const int Chunk = 32 << 10;

    public static Command Create(Host host, Dictionary<Command, string> help)
    {
        var command = new Command("exec", "Execute instruction vectors: JSON Lines in, one line out for each, with what it changed. src/docs/exec.md has the format.");
        help[command] = """
            echo '{"id":1,"code":"4801d8","regs":{"rax":"0x1","rbx":"0xff"}}' | vmfuzz exec
            vmfuzz exec vectors.jsonl -cpu max,-bmi1 > results.jsonl
            vmfuzz exec session.jsonl --keep

            Status: 0 every line was executed; 2 some could not be, and say why.
            """;
        var file = new Argument<string?>("FILE") { Arity = ArgumentArity.ZeroOrOne, Description = "The vectors; standard input when absent or -." };
        Option<string> cpu = MachineOptionSet.CpuOption();
        var keep = new Option<bool>("--keep") { Description = "A line goes on with the state that the one before left, instead of a fresh machine." };
        command.Add(file);
        command.Add(cpu);
        command.Add(keep);
        command.SetAction(parsed => Execute(host, parsed.GetValue(file), MachineOptionSet.CpuOf(parsed.GetValue(cpu)), parsed.GetValue(keep)));
        return command;
    }

    private static int Execute(Host host, string? file, string cpu, bool keep)
    {
        CpuModels.TryParse(cpu, out CpuModel model);
        using Stream input = Open(host, file);
        using var results = new ResultWriter();
        using var machine = new VectorMachine(model, keep);
        var vectors = new VectorReader();
        var lines = new LineReader(input, LongestLine) { BeforeWait = () => Drain(host, results) };
        int status = ExitStatus.Fine;
        while (lines.TryRead(out ReadOnlyMemory<byte> line, out bool tooLong))
        {
            string? wrong = tooLong ? $"the line is longer than {LongestLine} bytes" : vectors.TryRead(line.Span);
            if ((wrong ?? Run(machine, vectors, results)) is { } error)
            {
                results.WriteError(tooLong ? null : vectors.Id, error);
                status = ExitStatus.Usage;
            }

            if (results.Written.Length >= Chunk)
            {
                Drain(host, results);
            }
        }

        Drain(host, results);
        return status;
    }

    private static string? Run(VectorMachine machine, VectorReader vectors, ResultWriter results)
    {
        if (machine.TryLoad(vectors.Vector) is { } wrong)
        {
            return wrong;
        }

        VectorOutcome outcome = machine.Run(vectors.Vector.Max);
        if (outcome.Stop == VectorStop.Unimplemented)
        {
            return $"not modelled: {outcome.Unimplemented}";
        }

        results.Write(vectors.Id, machine, outcome);
        return null;
    }

    private static Stream Open(Host host, string? file)
    {
        if (file is null or "-")
        {
            return host.OpenInput?.Invoke() ?? throw UserError.At("there is no standard input", "exec", "name a file");
        }

        return InputFiles.OpenRead(file, "the file of vectors");
    }

    private static void Drain(Host host, ResultWriter results)
    {
        if (results.Written.IsEmpty)
        {
            return;
        }

        if (host.RawOut is { } raw)
        {
            raw.Write(results.Written);
            raw.Flush();
        }
        else
        {
            host.Out.Write(Encoding.UTF8.GetString(results.Written));
        }

        results.Clear();
    }
}
