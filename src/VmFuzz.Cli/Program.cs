using System.CommandLine;
using System.CommandLine.Invocation;
using VmFuzz.Trace;

namespace VmFuzz.Cli;

/// <summary>The <c>vmfuzz</c> command.</summary>
public static class Program
{
    private const string DebugVariable = "VMFUZZ_DEBUG";

    /// <summary>Runs the command in this process.</summary>
    /// <param name="args">The arguments after the command's name.</param>
    /// <returns>0 fine, 1 a finding or divergence, 2 wrong usage or unreadable input, 3 an engine bug.</returns>
    public static int Main(string[] args) => Run(args, Host.OfProcess());

    /// <summary>Runs the command inside another program: no signals, no terminal, no standard input.</summary>
    /// <param name="args">The arguments after the command's name.</param>
    /// <param name="output">Reports, and the guest's console.</param>
    /// <param name="error">Messages and summaries.</param>
    /// <returns>The exit status.</returns>
    public static int Run(string[] args, TextWriter output, TextWriter error) =>
        Run(args, new Host { Out = output, Err = error });

    internal static int Run(string[] args, Host host)
    {
        try
        {
            return Dispatch(args, host);
        }
        catch (UserError error)
        {
            return Complain(host, error.Message);
        }
        catch (TraceFileException error)
        {
            return Complain(host, error.Message);
        }
        catch (OutOfMemoryException)
        {
            return Complain(host, "the host has not enough memory for this machine: give the machine less with -m, or the process more");
        }
        catch (IOException error) when (IsBrokenPipe(error))
        {
            return ExitStatus.Fine;
        }
#pragma warning disable CA1031 // The last resort: anything else is a bug of the engine and has a status of its own.
        catch (Exception error)
#pragma warning restore CA1031
        {
            host.Err.WriteLine($"vmfuzz: engine bug: {error.GetType().Name}: {OneLine(error.Message)}: please report it with the command line and the trace, if there is one ({DebugVariable}=1 shows details)");
            if (Environment.GetEnvironmentVariable(DebugVariable) is "1")
            {
                host.Err.WriteLine(error);
            }

            return ExitStatus.EngineBug;
        }
    }

    private static int Dispatch(string[] args, Host host)
    {
        RootCommand root = CommandTree.Build(host);
        ParseResult parsed = root.Parse(ArgumentForms.Normalize(args), CommandTree.Parsing);
        if (parsed.Action is ParseErrorAction)
        {
            if (args.Length == 0)
            {
                root.Parse(["--help"]).Invoke(new InvocationConfiguration { Output = host.Err, Error = host.Err });
                return ExitStatus.Usage;
            }

            string name = CommandTree.PathOf(parsed.CommandResult.Command);
            throw new UserError($"{OneLine(parsed.Errors[0].Message)} See '{name} --help'.");
        }

        return parsed.Invoke(new InvocationConfiguration
        {
            Output = host.Out,
            Error = host.Err,
            EnableDefaultExceptionHandler = false,
            ProcessTerminationTimeout = null,
        });
    }

    private static int Complain(Host host, string message)
    {
        host.Err.WriteLine($"vmfuzz: {OneLine(message)}");
        return ExitStatus.Usage;
    }

    private static bool IsBrokenPipe(IOException error) =>
        error.HResult is 32 or unchecked((int)0x8007_006D) || error.Message.Contains("Broken pipe", StringComparison.Ordinal);

    private static string OneLine(string text) => Quantities.Plain(text.ReplaceLineEndings(" ").Trim());
}
