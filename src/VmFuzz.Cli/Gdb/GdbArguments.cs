using System.Collections.Immutable;
using System.CommandLine;
using System.Net;
using System.Net.Sockets;
using VmFuzz.Replay.Gdb;

namespace VmFuzz.Cli.Gdb;

/// <summary>Where gdb connects, whether the first instruction waits for it, and what it takes the processor for.</summary>
internal sealed record GdbArguments(IPEndPoint Address, bool StartStopped, GdbArchitecture Architecture);

/// <summary>The options of gdb, as QEMU has them.</summary>
internal sealed class GdbOptionSet
{
    /// <summary>The port of <c>-s</c>.</summary>
    public const int DefaultPort = 1234;

    private const string Kind = "tcp:";

    private static readonly ImmutableArray<(string Name, GdbArchitecture Architecture)> Architectures =
        [("i8086", GdbArchitecture.I8086), ("i386", GdbArchitecture.I386), ("x86-64", GdbArchitecture.X64)];

    private readonly Option<string> _gdb = new("--gdb") { HelpName = "tcp:HOST:PORT", Description = "Wait for gdb at an address: tcp::1234 is port 1234 of this machine alone, port 0 any free one." };
    private readonly Option<string> _architecture = new("--gdb-arch") { HelpName = string.Join('|', Architectures.Select(static a => a.Name)), Description = "What gdb takes the processor for. Default: x86-64 for a pc, the start's for a flat guest." };
    private readonly Option<bool> _short = new("-s") { Description = "The same as -gdb tcp::1234." };
    private readonly Option<bool> _stopped = new("-S") { Description = "Do not start before gdb says so." };

    public GdbOptionSet(Command command)
    {
        command.Options.Add(_gdb);
        command.Options.Add(_architecture);
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
            return stopped || parsed.GetValue(_architecture) is not null ? throw UserError.At("there is no gdb to wait for", stopped ? "-S" : "--gdb-arch", "add -s or -gdb tcp::PORT") : null;
        }

        return new GdbArguments(text is null ? new IPEndPoint(IPAddress.Loopback, DefaultPort) : AddressOf(text), stopped, ArchitectureOf(parsed.GetValue(_architecture)));
    }

    private static GdbArchitecture ArchitectureOf(string? name)
    {
        GdbArchitecture found = Architectures.FirstOrDefault(a => a.Name == name).Architecture;
        return name is null || found != GdbArchitecture.OfMachine
            ? found
            : throw UserError.At($"gdb does not know the architecture '{name}'", "--gdb-arch", $"use {string.Join(", ", Architectures.Select(static a => a.Name))}");
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
