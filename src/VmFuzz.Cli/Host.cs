using System.Text;

namespace VmFuzz.Cli;

/// <summary>What surrounds the command: streams, and whether a person watches.</summary>
internal sealed class Host
{
    /// <summary>Reports and JSON.</summary>
    public required TextWriter Out { get; init; }

    /// <summary>Messages, summaries, progress.</summary>
    public required TextWriter Err { get; init; }

    /// <summary>Where console bytes of the guest go unchanged; null to write them to <see cref="Out"/> as Latin-1.</summary>
    public Stream? RawOut { get; init; }

    /// <summary>Opens standard input; null when there is none.</summary>
    public Func<Stream>? OpenInput { get; init; }

    /// <summary>Whether standard input is a terminal.</summary>
    public bool InputIsTerminal { get; init; }

    /// <summary>Whether standard output is a terminal.</summary>
    public bool OutputIsTerminal { get; init; }

    /// <summary>Whether standard error is a terminal.</summary>
    public bool ErrorIsTerminal { get; init; }

    /// <summary>Whether signals of the process may be taken over.</summary>
    public bool OwnsProcess { get; init; }

    /// <summary>The process's own surroundings.</summary>
    public static Host OfProcess()
    {
        var encoding = new UTF8Encoding(encoderShouldEmitUTF8Identifier: false);
        Stream output = Console.OpenStandardOutput();
        return new Host
        {
            Out = new StreamWriter(output, encoding) { AutoFlush = true },
            Err = new StreamWriter(Console.OpenStandardError(), encoding) { AutoFlush = true },
            RawOut = output,
            OpenInput = Console.OpenStandardInput,
            InputIsTerminal = !Console.IsInputRedirected,
            OutputIsTerminal = !Console.IsOutputRedirected,
            ErrorIsTerminal = !Console.IsErrorRedirected,
            OwnsProcess = true,
        };
    }
}
