namespace VmFuzz.Replay.Gdb;

/// <summary>What the bytes from gdb amount to.</summary>
public enum GdbItem : byte
{
    /// <summary>Nothing whole yet.</summary>
    None,
    /// <summary>A packet whose checksum is right.</summary>
    Packet,
    /// <summary>A packet that is too long, or whose checksum is wrong.</summary>
    Damaged,
    /// <summary>An acknowledgement.</summary>
    Acknowledged,
    /// <summary>A packet of ours arrived damaged: gdb wants it again.</summary>
    Again,
    /// <summary>The byte of Ctrl-C, which stands outside packets.</summary>
    Interrupt,
}

/// <summary>
/// Cuts a stream of bytes into packets of gdb's remote serial protocol (gdb manual "Overview" of the appendix on it). Total:
/// any bytes are accepted; what is between packets and means nothing is passed over.
/// </summary>
public sealed class GdbPackets
{
    /// <summary>Longest payload, escapes undone. Unit: bytes.</summary>
    public const int MaxPayload = 0x1000;

    /// <summary>The byte that interrupts a running guest.</summary>
    public const byte InterruptByte = 3;

    internal const byte Start = (byte)'$';
    internal const byte End = (byte)'#';
    internal const byte Escape = (byte)'}';
    internal const byte EscapeMask = 0x20;

    private readonly byte[] _payload = new byte[MaxPayload];
    private int _count;
    private byte _sum;
    private int _checksum;
    private bool _escaped;
    private bool _tooLong;
    private Place _place;

    private enum Place : byte
    {
        Between,
        Payload,
        FirstDigit,
        SecondDigit,
    }

    /// <summary>The payload of the last packet; valid until the next byte.</summary>
    public ReadOnlySpan<byte> Payload => _payload.AsSpan(0, _count);

    /// <summary>Takes the next byte.</summary>
    public GdbItem Take(byte value)
    {
        switch (_place)
        {
            case Place.Between:
                return Outside(value);
            case Place.Payload:
                Inside(value);
                return GdbItem.None;
            case Place.FirstDigit:
                _checksum = Hex.Digit(value) << 4;
                _place = Place.SecondDigit;
                return GdbItem.None;
            default:
                _place = Place.Between;
                _checksum |= Hex.Digit(value);
                return _checksum == _sum && !_tooLong && !_escaped ? GdbItem.Packet : GdbItem.Damaged;
        }
    }

    /// <summary>Forgets what is not whole.</summary>
    public void Reset() => _place = Place.Between;

    private GdbItem Outside(byte value)
    {
        switch (value)
        {
            case Start:
                Begin();
                return GdbItem.None;
            case (byte)'+':
                return GdbItem.Acknowledged;
            case (byte)'-':
                return GdbItem.Again;
            case InterruptByte:
                return GdbItem.Interrupt;
            default:
                return GdbItem.None;
        }
    }

    private void Begin()
    {
        (_count, _sum, _escaped, _tooLong) = (0, 0, false, false);
        _place = Place.Payload;
    }

    private void Inside(byte value)
    {
        switch (value)
        {
            case Start:
                // The end of the packet before got lost.
                Begin();
                return;
            case End:
                _place = Place.FirstDigit;
                return;
            default:
                break;
        }

        _sum += value;
        if (value == Escape && !_escaped)
        {
            _escaped = true;
            return;
        }

        if (_count == MaxPayload)
        {
            _tooLong = true;
            return;
        }

        _payload[_count++] = _escaped ? (byte)(value ^ EscapeMask) : value;
        _escaped = false;
    }
}
