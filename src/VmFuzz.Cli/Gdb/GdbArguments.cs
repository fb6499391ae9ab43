using System.CommandLine;
using System.Net;
using System.Net.Sockets;

namespace VmFuzz.Cli.Gdb;

/// <summary>Where gdb connects, and whether the first instruction waits for it.</summary>
internal sealed record GdbArguments(IPEndPoint Address, bool StartStopped);

/// <summary>The options of gdb, as QEMU has them.</summary>
internal sealed class GdbOptionSet
{
    /// <summary>The port of <c>-s</c>.</summary>
    public const int DefaultPort = 1234;

    private const string Kind = "tcp:";

    private readonly Option<string> _gdb = new("--gdb") { HelpName = "tcp:HOST:PORT", Description = "Wait for gdb at an address: tcp::1234 is port 1234 of this machine alone, port 0 any free one." };
    private readonly Option<bool> _short = new("-s") { Description = "The same as -gdb tcp::1234." };
    private readonly Option<bool> _stopped = new("-S") { Description = "Do not start before gdb says so." };

    public GdbOptionSet(Command command)
    {
        command.Options.Add(_gdb);
        command.Options.Add(_short);
        command.Options.Add(_stopped);
    }

    /// <summary>What was asked for; null for no gdb.</summary>
    public GdbArguments? Read(ParseResult parsed)
    {
        string? text = parsed.GetValue(_gdb);
        bool stopped = parsed.GetValue(_stopped);
        if (text is not null && parsed.GetValue(_short))
        {
            throw UserError.At("gdb's address is given twice", "-s", "leave out -s or -gdb");
        }

        if (text is null && !parsed.GetValue(_short))
        {
            return stopped ? throw UserError.At("nobody could start the guest", "-S", "add -s or -gdb tcp::PORT") : null;
        }

        return new GdbArguments(text is null ? new IPEndPoint(IPAddress.Loopback, DefaultPort) : AddressOf(text), stopped);
    }

    private static IPEndPoint AddressOf(string text)
    {
        int colon = text.LastIndexOf(':');
        if (!text.StartsWith(Kind, StringComparison.Ordinal) || colon < Kind.Length
            || !Quantities.TryNumber(text[(colon + 1)..], out ulong port) || port > ushort.MaxValue)
        {
            throw UserError.At($"'{text}' is not an address for gdb", "-gdb", "write tcp::1234 or tcp:127.0.0.1:1234");
        }

        string host = text[Kind.Length..colon].Trim('[', ']');
        if (host is "" or "localhost")
        {
            return new IPEndPoint(IPAddress.Loopback, (int)port);
        }

        return IPAddress.TryParse(host, out IPAddress? address) && address.AddressFamily is AddressFamily.InterNetwork or AddressFamily.InterNetworkV6
            ? new IPEndPoint(address!, (int)port)
            : throw UserError.At($"'{host}' is not an address of this machine", "-gdb", "write a number, such as 127.0.0.1, or leave it out");
    }
}
