using System.Buffers;
using System.Globalization;
using System.Text;

namespace VmFuzz.Replay.Gdb;

/// <summary>
/// gdb's remote serial protocol as a state machine: bytes in, bytes out, requests to a target. Knows no sockets and no
/// threads; any bytes are accepted, and what they may cost is bounded by <see cref="GdbPackets.MaxPayload"/>.
/// </summary>
/// <param name="target">What is debugged.</param>
public sealed partial class GdbServer(IGdbTarget target)
{
    private const string Malformed = "E01";
    private const string NoSuch = "E0e";
    private const string Refused = "E.a recorded or replayed run cannot be changed";

    // The signals that gdb is told: SIGINT and SIGTRAP.
    private const string Interrupted = "T02";
    private const string Trapped = "T05";

    private readonly GdbPackets _packets = new();
    private readonly ArrayBufferWriter<byte> _output = new();
    private byte[] _last = [];
    private bool _acknowledges = true;
    private bool _knowsBreakpoints;
    private bool _awaitsStop;
    private GdbStop _stop;

    /// <summary>What is to be sent, in order.</summary>
    public ReadOnlySpan<byte> Output => _output.WrittenSpan;

    /// <summary>It was sent.</summary>
    public void Sent() => _output.ResetWrittenCount();

    /// <summary>A new gdb: nothing of the one before is left.</summary>
    public void Reset()
    {
        Sent();
        _packets.Reset();
        _last = [];
        (_acknowledges, _knowsBreakpoints, _awaitsStop) = (true, false, false);
    }

    /// <summary>Takes bytes from gdb.</summary>
    public void Receive(ReadOnlySpan<byte> bytes)
    {
        foreach (byte value in bytes)
        {
            switch (_packets.Take(value))
            {
                case GdbItem.Packet:
                    Acknowledge('+');
                    Execute(_packets.Payload);
                    break;
                case GdbItem.Damaged:
                    Acknowledge('-');
                    break;
                case GdbItem.Again:
                    _output.Write(_last);
                    break;
                case GdbItem.Interrupt:
                    target.Interrupt();
                    break;
                default:
                    break;
            }
        }
    }

    /// <summary>The guest stopped. gdb is told when it waits for that, and when it asks.</summary>
    public void ReportStop(in GdbStop stop)
    {
        _stop = stop;
        if (_awaitsStop)
        {
            _awaitsStop = false;
            Reply(StopText());
        }
    }

    /// <summary>The run is over.</summary>
    /// <param name="status">Exit status, of which gdb sees the low byte.</param>
    public void ReportExit(int status)
    {
        if (_awaitsStop)
        {
            _awaitsStop = false;
            Reply(string.Create(CultureInfo.InvariantCulture, $"W{status & 0xFF:x2}"));
        }
    }

    private void Execute(ReadOnlySpan<byte> packet)
    {
        foreach (Command command in Commands)
        {
            if (packet.StartsWith(command.Prefix.AsSpan()))
            {
                if (command.Run(this, packet[command.Prefix.Length..]) is { } reply)
                {
                    Reply(reply);
                }

                return;
            }
        }

        // The protocol's way to say that something is not supported.
        Reply("");
    }

    private void Acknowledge(char sign)
    {
        if (_acknowledges)
        {
            _output.Write([(byte)sign]);
        }
    }

    private void Reply(string text) => Reply(Encoding.ASCII.GetBytes(text));

    private void Reply(ReadOnlySpan<byte> payload)
    {
        var framed = new ArrayBufferWriter<byte>(payload.Length + 4);
        framed.Write([GdbPackets.Start]);
        byte sum = 0;
        foreach (byte value in payload)
        {
            // An asterisk would begin a run.
            if (value is GdbPackets.Start or GdbPackets.End or GdbPackets.Escape or (byte)'*')
            {
                Add(GdbPackets.Escape);
                Add((byte)(value ^ GdbPackets.EscapeMask));
            }
            else
            {
                Add(value);
            }
        }

        framed.Write([GdbPackets.End]);
        framed.Write(Encoding.ASCII.GetBytes(sum.ToString("x2", CultureInfo.InvariantCulture)));
        _last = framed.WrittenSpan.ToArray();
        _output.Write(_last);

        void Add(byte value)
        {
            framed.Write([value]);
            sum += value;
        }
    }

    private string StopText()
    {
        string reason = _stop switch
        {
            { Kind: GdbStopKind.Breakpoint, Breakpoint: GdbBreakpointKind.Software } => _knowsBreakpoints ? "swbreak:;" : "",
            { Kind: GdbStopKind.Breakpoint, Breakpoint: GdbBreakpointKind.Hardware } => _knowsBreakpoints ? "hwbreak:;" : "",
            { Kind: GdbStopKind.Breakpoint, Breakpoint: GdbBreakpointKind.Write } => Data("watch"),
            { Kind: GdbStopKind.Breakpoint, Breakpoint: GdbBreakpointKind.Read } => Data("rwatch"),
            { Kind: GdbStopKind.Breakpoint } => Data("awatch"),
            _ => "",
        };
        return (_stop.Kind == GdbStopKind.Interrupted ? Interrupted : Trapped) + reason + "thread:01;";

        string Data(string name) => string.Create(CultureInfo.InvariantCulture, $"{name}:{_stop.Address:x};");
    }
}
