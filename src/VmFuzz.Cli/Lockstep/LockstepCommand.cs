using System.CommandLine;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using VmFuzz.Cli.Exec;
using VmFuzz.Machines;

namespace VmFuzz.Cli.Lockstep;

/// <summary><c>vmfuzz lockstep</c>: random programs on the processor model and on another emulator, compared after every instruction.</summary>
internal static class LockstepCommand
{
    private const string Unicorn = "unicorn";
    private const ulong DefaultInstructions = 10_000_000;
    private const int MostJobs = 64;

    public static Command Create(Host host, Dictionary<Command, string> help)
    {
        var command = new Command("lockstep", "Run random programs on the processor model and on another emulator, and compare registers, flags and memory. src/docs/lockstep.md says how.");
        help[command] = """
            vmfuzz lockstep --oracle unicorn
            vmfuzz lockstep --mode long64 --seed 7 --instructions 100_000_000 --jobs 2
            vmfuzz lockstep --faults

            Status: 0 both agree but for known faults of the other; 1 a difference; 2 the other emulator is not here.
            """;
        var oracle = new Option<string>("--oracle") { HelpName = Unicorn, Description = $"The other emulator. Default: {Unicorn} (libunicorn 2)." };
        var mode = new Option<string>("--mode") { HelpName = "real16|protected32|long64|all", Description = "Mode of the code; all takes them in turn. Default: all." };
        var seed = new Option<string>("--seed") { HelpName = "N", Description = "Seed of the first program; the next has the next number. Default: 1." };
        var instructions = new Option<string>("--instructions") { HelpName = "N", Description = "End when so many instructions were compared. Default: 10 million." };
        var jobs = new Option<string>("--jobs") { HelpName = "N", Description = $"Threads, each with programs of its own, 1 to {MostJobs}. Default: 1." };
        var code = new Option<string>("--code") { HelpName = "HEX", Description = "Run these instructions once instead, from registers and memory of zeros." };
        var faults = new Option<bool>("--faults") { Description = "List the known faults of the other emulator, and do nothing else." };
        Option<string> cpu = MachineOptionSet.CpuOption();
        Option<bool> json = CommandTree.JsonOption("The summary as one JSON object.");
        foreach (Option option in (Option[])[oracle, mode, seed, instructions, jobs, code, cpu, faults, json])
        {
            command.Options.Add(option);
        }

        command.SetAction(parsed =>
        {
            if (parsed.GetValue(faults))
            {
                LockstepReport.WriteFaults(host, parsed.GetValue(json));
                return ExitStatus.Fine;
            }

            if ((parsed.GetValue(oracle) ?? Unicorn) is var name && name != Unicorn)
            {
                throw UserError.At($"there is no oracle '{name}'", "--oracle", $"the one there is: {Unicorn}");
            }

            FlatMode[] modes = ModesOf(parsed.GetValue(mode) ?? "all");
            var arguments = new LockstepArguments(
                modes,
                Number(parsed.GetValue(seed), "--seed", 1, 0, ulong.MaxValue),
                Number(parsed.GetValue(instructions), "--instructions", DefaultInstructions, 1, ulong.MaxValue >> 1),
                (int)Number(parsed.GetValue(jobs), "--jobs", 1, 1, MostJobs),
                CodeOf(parsed.GetValue(code), modes),
                MachineOptionSet.CpuOf(parsed.GetValue(cpu)));
            if (UnicornLibrary.Find(out string missing) is not { } library)
            {
                throw UserError.At(missing, "--oracle unicorn", UnicornLibrary.HowToInstall);
            }

            return Execute(host, library, arguments, parsed.GetValue(json));
        });
        return command;
    }

    private static int Execute(Host host, UnicornLibrary library, LockstepArguments arguments, bool json)
    {
        var run = new LockstepRun(library, arguments);
        using PosixSignalRegistration? interrupt = host.OwnsProcess ? PosixSignalRegistration.Create(PosixSignal.SIGINT, context =>
        {
            context.Cancel = true;
            run.RequestStop();
        }) : null;
        using var screen = new Screen(null, null, host.Err, owned: false);
        if (host.ErrorIsTerminal)
        {
            screen.StartProgress(() => string.Create(
                CultureInfo.InvariantCulture, $"{Quantities.Grouped(run.Instructions)} instructions compared, {Quantities.Mips(run.Instructions, run.Seconds)} MIPS"));
        }

        LockstepResult result;
        try
        {
            result = run.Execute();
        }
        finally
        {
            screen.StopProgress();
        }

        LockstepReport.Write(host, library, arguments, result, json);
        return result.Difference is null ? ExitStatus.Fine : ExitStatus.Finding;
    }

    private static FlatMode[] ModesOf(string text) => text switch
    {
        "all" => [FlatMode.Long64, FlatMode.Protected32, FlatMode.Real16],
        "long64" => [FlatMode.Long64],
        "protected32" => [FlatMode.Protected32],
        "real16" => [FlatMode.Real16],
        _ => throw UserError.At($"there is no mode '{text}'", "--mode", "one of real16, protected32, long64, all"),
    };

    // The digits; whether they are instructions depends on the mode.
    private static byte[]? CodeOf(string? text, FlatMode[] modes)
    {
        if (text is null)
        {
            return null;
        }

        byte[] bytes = new byte[text.Length / 2];
        if (text.Length is 0 or > 2 * LockstepProgram.MostBytes || !HexText.TryBytes(Encoding.UTF8.GetBytes(text), bytes))
        {
            throw UserError.At($"'{text}' is no code of 1 to {LockstepProgram.MostBytes} bytes in hexadecimal digits", "--code", "give pairs of digits");
        }

        foreach (FlatMode mode in modes)
        {
            if (LockstepProgram.IsCut(mode, bytes))
            {
                throw UserError.At($"the last instruction of '{text}' is cut in {LockstepReport.NameOf(mode)}", "--code", "give whole instructions, and --mode");
            }
        }

        return bytes;
    }

    private static ulong Number(string? text, string option, ulong otherwise, ulong least, ulong most)
    {
        if (text is null)
        {
            return otherwise;
        }

        return Quantities.TryNumber(text, out ulong value) && value >= least && value <= most
            ? value
            : throw UserError.At($"'{text}' is no number from {least} to {most}", option, "give one");
    }
}

/// <summary>What <c>lockstep</c> was asked for.</summary>
/// <param name="Modes">Modes, taken in turn.</param>
/// <param name="Seed">Seed of the first program.</param>
/// <param name="Instructions">When to end.</param>
/// <param name="Jobs">Threads.</param>
/// <param name="Code">What to run instead of random programs; null for those.</param>
/// <param name="Cpu">VmFuzz's processor model.</param>
internal sealed record LockstepArguments(FlatMode[] Modes, ulong Seed, ulong Instructions, int Jobs, byte[]? Code, string Cpu);
