using System.Collections.Immutable;
using System.Globalization;
using System.Text;

namespace VmFuzz.Replay.Gdb;

// The packets that are understood: gdb manual "Packets" and "General Query Packets". A row's prefix must stand before those
// of which it is the beginning.
public sealed partial class GdbServer
{
    private static readonly ImmutableArray<Command> Commands =
    [
        new("qSupported", static (s, a) => s.Supported(a)),
        new("qXfer:features:read:target.xml:", static (s, a) => s.ReadDescription(a)),
        new("qAttached", static (_, _) => "1"),
        new("qC", static (_, _) => "QC01"),
        new("qfThreadInfo", static (_, _) => "m01"),
        new("qsThreadInfo", static (_, _) => "l"),
        new("qRcmd,", static (s, a) => s.Monitor(a)),
        new("QStartNoAckMode", static (s, _) => s.StopAcknowledging()),
        new("vCont?", static (_, _) => "vCont;c;C;s;S"),
        new("vCont;", static (s, a) => s.ResumeThread(a)),
        new("vKill;", static (s, _) => s.Kill("OK")),
        new("?", static (s, _) => s.StopText()),
        new("H", static (_, _) => "OK"),
        new("T", static (_, _) => "OK"),
        new("g", static (s, _) => s.ReadRegisters()),
        new("G", static (s, a) => s.WriteRegisters(a)),
        new("p", static (s, a) => s.ReadRegister(a)),
        new("P", static (s, a) => s.WriteRegister(a)),
        new("m", static (s, a) => s.ReadMemory(a)),
        new("M", static (s, a) => s.WriteMemory(a, binary: false)),
        new("X", static (s, a) => s.WriteMemory(a, binary: true)),
        new("c", static (s, a) => s.Resume(a, step: false, withSignal: false)),
        new("C", static (s, a) => s.Resume(a, step: false, withSignal: true)),
        new("s", static (s, a) => s.Resume(a, step: true, withSignal: false)),
        new("S", static (s, a) => s.Resume(a, step: true, withSignal: true)),
        new("Z", static (s, a) => s.Breakpoint(a, insert: true)),
        new("z", static (s, a) => s.Breakpoint(a, insert: false)),
        new("D", static (s, _) => s.Detach()),
        new("k", static (s, _) => s.Kill(null)),
    ];

    // Carries out a packet and gives the reply; null for none.
    private delegate string? Handler(GdbServer server, ReadOnlySpan<byte> arguments);

    private readonly record struct Command(ImmutableArray<byte> Prefix, Handler Run)
    {
        public Command(string prefix, Handler run)
            : this([.. Encoding.ASCII.GetBytes(prefix)], run)
        {
        }
    }

    private string Supported(ReadOnlySpan<byte> arguments)
    {
        _knowsBreakpoints = arguments.IndexOf("swbreak+"u8) >= 0 && arguments.IndexOf("hwbreak+"u8) >= 0;
        return string.Create(
            CultureInfo.InvariantCulture,
            $"PacketSize={GdbPackets.MaxPayload:x};qXfer:features:read+;QStartNoAckMode+;vContSupported+;swbreak+;hwbreak+");
    }

    private string ReadDescription(ReadOnlySpan<byte> arguments)
    {
        if (!TryPair(ref arguments, out ulong offset, out ulong length))
        {
            return Malformed;
        }

        ReadOnlySpan<byte> text = target.Description;
        if (offset >= (ulong)text.Length)
        {
            return "l";
        }

        // Half a packet: any byte may have to be escaped.
        text = text[(int)offset..];
        int count = (int)Math.Min(Math.Min(length, GdbPackets.MaxPayload / 2), (ulong)text.Length);
        return (count == text.Length ? "l" : "m") + Encoding.ASCII.GetString(text[..count]);
    }

    private string StopAcknowledging()
    {
        _acknowledges = false;
        return "OK";
    }

    private string Monitor(ReadOnlySpan<byte> arguments)
    {
        byte[] command = new byte[arguments.Length / 2];
        if (!Hex.TryBytes(arguments, command))
        {
            return Malformed;
        }

        ReadOnlySpan<byte> answer = Encoding.ASCII.GetBytes(target.Monitor(Encoding.ASCII.GetString(command)));
        while (answer.Length != 0)
        {
            ReadOnlySpan<byte> piece = answer[..Math.Min(answer.Length, GdbPackets.MaxPayload / 4)];
            Reply("O" + Hex.Of(piece));
            answer = answer[piece.Length..];
        }

        return "OK";
    }

    private string ReadRegisters()
    {
        var text = new StringBuilder();
        for (int i = 0; i < target.RegisterCount; i++)
        {
            text.Append(TextOf(i));
        }

        return text.ToString();
    }

    private string WriteRegisters(ReadOnlySpan<byte> arguments)
    {
        // Registers that keep their value are left alone: some cannot be written.
        Span<byte> value = stackalloc byte[16];
        for (int i = 0; i < target.RegisterCount; i++)
        {
            int width = target.WidthOf(i);
            if (arguments.Length < width * 2 || !Hex.TryBytes(arguments[..(width * 2)], value[..width]))
            {
                return Malformed;
            }

            arguments = arguments[(width * 2)..];
            if (TextOf(i) != Hex.Of(value[..width]) && target.WriteRegister(i, value[..width]) is var result and not GdbResult.Done)
            {
                return TextOf(result);
            }
        }

        return "OK";
    }

    private string ReadRegister(ReadOnlySpan<byte> arguments) =>
        Hex.TryTakeNumber(ref arguments, out ulong number) && number < (ulong)target.RegisterCount && arguments.IsEmpty
            ? TextOf((int)number)
            : Malformed;

    private string WriteRegister(ReadOnlySpan<byte> arguments)
    {
        Span<byte> value = stackalloc byte[16];
        if (!Hex.TryTakeNumber(ref arguments, out ulong number) || number >= (ulong)target.RegisterCount
            || !Hex.TryTake(ref arguments, (byte)'=') || !Hex.TryBytes(arguments, value[..target.WidthOf((int)number)]))
        {
            return Malformed;
        }

        return TextOf(target.WriteRegister((int)number, value[..target.WidthOf((int)number)]));
    }

    private string ReadMemory(ReadOnlySpan<byte> arguments)
    {
        if (!TryPair(ref arguments, out ulong address, out ulong length) || !arguments.IsEmpty)
        {
            return Malformed;
        }

        Span<byte> bytes = stackalloc byte[GdbPackets.MaxPayload / 2];
        bytes = bytes[..(int)Math.Min(length, (ulong)bytes.Length)];
        int read = target.ReadMemory(address, bytes);
        return read == 0 && length != 0 ? NoSuch : Hex.Of(bytes[..read]);
    }

    private string WriteMemory(ReadOnlySpan<byte> arguments, bool binary)
    {
        if (!TryPair(ref arguments, out ulong address, out ulong length) || !Hex.TryTake(ref arguments, (byte)':'))
        {
            return Malformed;
        }

        Span<byte> bytes = stackalloc byte[GdbPackets.MaxPayload];
        if (binary)
        {
            bytes = bytes[..arguments.Length];
            arguments.CopyTo(bytes);
        }
        else
        {
            bytes = bytes[..(arguments.Length / 2)];
            if (!Hex.TryBytes(arguments, bytes))
            {
                return Malformed;
            }
        }

        return (ulong)bytes.Length == length ? TextOf(target.WriteMemory(address, bytes)) : Malformed;
    }

    private string Breakpoint(ReadOnlySpan<byte> arguments, bool insert)
    {
        if (!Hex.TryTakeNumber(ref arguments, out ulong kind) || !Hex.TryTake(ref arguments, (byte)',')
            || !TryPair(ref arguments, out ulong address, out ulong length))
        {
            return Malformed;
        }

        if (kind > (ulong)GdbBreakpointKind.Access)
        {
            return "";
        }

        if (insert)
        {
            return TextOf(target.Insert((GdbBreakpointKind)kind, address, length));
        }

        target.Remove((GdbBreakpointKind)kind, address, length);
        return "OK";
    }

    // vCont: the first action; there is one thread, and it is the one that gdb means.
    private string? ResumeThread(ReadOnlySpan<byte> actions) => actions.IsEmpty ? Malformed : actions[0] switch
    {
        (byte)'c' or (byte)'C' => Resume([], step: false, withSignal: false),
        (byte)'s' or (byte)'S' => Resume([], step: true, withSignal: false),
        _ => Malformed,
    };

    private string? Resume(ReadOnlySpan<byte> arguments, bool step, bool withSignal)
    {
        if (withSignal)
        {
            // Signals mean nothing to a machine.
            if (!Hex.TryTakeNumber(ref arguments, out _) || (!arguments.IsEmpty && !Hex.TryTake(ref arguments, (byte)';')))
            {
                return Malformed;
            }
        }

        if (!arguments.IsEmpty)
        {
            if (!Hex.TryTakeNumber(ref arguments, out ulong address))
            {
                return Malformed;
            }

            byte[] bytes = BitConverter.GetBytes(address);
            GdbResult result = target.WriteRegister(target.ProgramCounter, bytes.AsSpan(0, target.WidthOf(target.ProgramCounter)));
            if (result != GdbResult.Done)
            {
                return TextOf(result);
            }
        }

        _awaitsStop = true;
        target.Resume(step);
        return null;
    }

    private string Detach()
    {
        target.Detach();
        return "OK";
    }

    private string? Kill(string? reply)
    {
        target.Kill();
        return reply;
    }

    private string TextOf(int register)
    {
        Span<byte> value = stackalloc byte[16];
        value = value[..target.WidthOf(register)];
        target.ReadRegister(register, value);
        return Hex.Of(value);
    }

    private static string TextOf(GdbResult result) => result switch
    {
        GdbResult.Done => "OK",
        GdbResult.Failed => NoSuch,
        _ => Refused,
    };

    private static bool TryPair(ref ReadOnlySpan<byte> text, out ulong first, out ulong second)
    {
        second = 0;
        return Hex.TryTakeNumber(ref text, out first) && Hex.TryTake(ref text, (byte)',') && Hex.TryTakeNumber(ref text, out second);
    }
}
