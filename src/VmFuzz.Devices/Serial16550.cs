using VmFuzz.Arch;

namespace VmFuzz.Devices;

/// <summary>
/// Serial port with FIFOs (National Semiconductor PC16550D, "Registers"). Eight ports; the line speed is not modelled.
/// </summary>
/// <remarks>
/// What is written leaves at once, so the transmitter is always empty. DEVIATION: the time-out indication comes as soon
/// as the receiver FIFO holds less than its trigger level, not four character times later. There is no interrupt
/// without OUT2 (MCR bit 3), as on a PC.
/// </remarks>
public sealed class Serial16550 : Device, IPortDevice
{
    /// <summary>Ports that the device occupies.</summary>
    public const int PortCount = 8;

    /// <summary>First port of the first serial port of a PC; its interrupt line is 4.</summary>
    public const ushort FirstPort = 0x3F8;

    private const int FifoSize = 16;
    private const byte IerReceived = 1;
    private const byte IerTransmitter = 2;
    private const byte IerLineStatus = 4;
    private const byte IerModem = 8;
    private const byte LcrDivisor = 0x80;
    private const byte McrOut2 = 8;
    private const byte McrLoop = 0x10;
    private const byte LsrReady = 1;
    private const byte LsrOverrun = 2;
    private const byte LsrErrors = 0x1E;
    private const byte LsrTransmitterEmpty = 0x60;
    private const byte ModemConnected = 0xB0;

    private static readonly StateMap<Serial16550> s_map = new StateMapBuilder<Serial16550>()
        .Add(1, "IER", static s => ref s._ier)
        .Add(2, "LCR", static s => ref s._lcr)
        .Add(3, "MCR", static s => ref s._mcr)
        .Add(4, "LSR", static s => ref s._lsr)
        .Add(5, "MSR", static s => ref s._msr)
        .Add(6, "SCR", static s => ref s._scratch)
        .Add(7, "DLL", static s => ref s._divisorLow)
        .Add(8, "DLM", static s => ref s._divisorHigh)
        .Add(9, "FCR", static s => ref s._fcr)
        .Add(10, "transmitter interrupt pending", static s => ref s._transmitterPending)
        .Add(11, "receiver FIFO", FifoSize, static s => ref s._fifo)
        .Add(12, "receiver FIFO count", static s => ref s._count)
        .Add(13, "RBR", static s => ref s._lastByte)
        .Build();

    private readonly IConsoleSink _sink;
    private readonly InterruptLine _line;
    private byte _ier;
    private byte _lcr;
    private byte _mcr;
    private byte _lsr;
    private byte _msr;
    private byte _scratch;
    private byte _divisorLow;
    private byte _divisorHigh;
    private byte _fcr;
    private bool _transmitterPending;
    private byte[] _fifo = new byte[FifoSize];
    private byte _count;
    private byte _lastByte;

    /// <summary>Makes a serial port.</summary>
    /// <param name="sink">Where its output goes.</param>
    /// <param name="line">Its interrupt line.</param>
    /// <param name="component">Its number, for machines with more than one.</param>
    public Serial16550(IConsoleSink sink, InterruptLine line, ComponentId component = ComponentId.Serial0)
        : base(component)
    {
        ArgumentNullException.ThrowIfNull(sink);
        _sink = sink;
        _line = line;
        Reset();
    }

    /// <summary>Whether <see cref="Receive"/> keeps a byte: the FIFO, or without FIFOs the buffer, has room, and the loop is open.</summary>
    public bool CanReceive => _count < Depth && (_mcr & McrLoop) == 0;

    /// <inheritdoc/>
    protected override StateMap Map => s_map;

    private bool FifoEnabled => (_fcr & 1) != 0;

    private int Depth => FifoEnabled ? FifoSize : 1;

    private int TriggerLevel => !FifoEnabled ? 1 : (_fcr >> 6) switch { 0 => 1, 1 => 4, 2 => 8, _ => 14 };

    /// <inheritdoc/>
    public override void Reset()
    {
        _ier = 0;
        _lcr = 0;
        _mcr = 0;
        _lsr = LsrTransmitterEmpty;
        _msr = ModemConnected;
        _scratch = 0;
        _divisorLow = 0;
        _divisorHigh = 0;
        _fcr = 0;
        _transmitterPending = false;
        _fifo.AsSpan().Clear();
        _count = 0;
        _lastByte = 0;
        Touch();
        DriveLine();
    }

    /// <summary>
    /// A byte arrives on the wire. Without room it is lost and the overrun bit set; in loop-back mode the wire is cut.
    /// </summary>
    public void Receive(byte value)
    {
        Touch();
        if ((_mcr & McrLoop) == 0)
        {
            Accept(value);
            DriveLine();
        }
    }

    /// <inheritdoc/>
    public uint ReadPort(int offset, int size)
    {
        bool divisor = (_lcr & LcrDivisor) != 0;
        switch (offset)
        {
            case 0 when divisor:
                return _divisorLow;
            case 0:
                return TakeByte();
            case 1:
                return divisor ? _divisorHigh : _ier;
            case 2:
                return ReadIdentification();
            case 3:
                return _lcr;
            case 4:
                return _mcr;
            case 5:
                byte status = (byte)(_lsr | (_count != 0 ? LsrReady : 0));
                _lsr &= unchecked((byte)~LsrErrors);
                DriveLine();
                return status;
            case 6:
                byte modem = _msr;
                _msr &= 0xF0;
                DriveLine();
                return modem;
            default:
                return _scratch;
        }
    }

    /// <inheritdoc/>
    public void WritePort(int offset, int size, uint value)
    {
        byte data = (byte)value;
        bool divisor = (_lcr & LcrDivisor) != 0;
        switch (offset)
        {
            case 0 when divisor:
                _divisorLow = data;
                break;
            case 0:
                Transmit(data);
                break;
            case 1 when divisor:
                _divisorHigh = data;
                break;
            case 1:
                WriteInterruptEnable(data);
                break;
            case 2:
                WriteFifoControl(data);
                break;
            case 3:
                _lcr = data;
                break;
            case 4:
                WriteModemControl(data);
                break;
            case 5 or 6:
                break; // Factory test only.
            default:
                _scratch = data;
                break;
        }

        DriveLine();
    }

    /// <inheritdoc/>
    protected override void OnStateRestored() => _count = (byte)Math.Min((int)_count, FifoSize);

    // Writing takes the transmitter's interrupt away; it comes again, as an edge, when the byte has left, which is at once.
    private void Transmit(byte value)
    {
        _transmitterPending = false;
        DriveLine();
        _transmitterPending = true;
        if ((_mcr & McrLoop) != 0)
        {
            Accept(value);
        }
        else
        {
            _sink.Write(value);
        }
    }

    private void Accept(byte value)
    {
        if (_count >= Depth)
        {
            _lsr |= LsrOverrun;
            if (!FifoEnabled)
            {
                _fifo[0] = value; // Without FIFOs the newer byte replaces the one that was not read.
            }

            return;
        }

        _fifo[_count++] = value;
    }

    private byte TakeByte()
    {
        if (_count != 0)
        {
            _lastByte = _fifo[0];
            _count--;
            _fifo.AsSpan(1, _count).CopyTo(_fifo);
            _fifo.AsSpan(_count).Clear();
            DriveLine();
        }

        return _lastByte;
    }

    private void WriteInterruptEnable(byte value)
    {
        // Enabling the transmitter interrupt while the transmitter is empty, which it always is, raises it.
        if ((value & IerTransmitter) != 0 && (_ier & IerTransmitter) == 0)
        {
            _transmitterPending = true;
        }

        _ier = (byte)(value & 0x0F);
    }

    private void WriteFifoControl(byte value)
    {
        if (((value ^ _fcr) & 1) != 0 || (value & 2) != 0)
        {
            _count = 0;
            _fifo.AsSpan().Clear();
        }

        // Bits 1 and 2 clear themselves; the other bits are written only together with bit 0.
        _fcr = (value & 1) != 0 ? (byte)(value & 0xC9) : (byte)0;
    }

    private void WriteModemControl(byte value)
    {
        _mcr = (byte)(value & 0x1F);
        byte lines = ModemConnected;
        if ((_mcr & McrLoop) != 0)
        {
            // Loop-back: DTR drives DSR, RTS drives CTS, OUT1 drives RI, OUT2 drives DCD.
            lines = (byte)(((_mcr & 1) << 5) | ((_mcr & 2) << 3) | ((_mcr & 4) << 4) | ((_mcr & 8) << 4));
        }

        int changed = (_msr ^ lines) & 0xF0;
        int delta = (changed >> 4) & 0x0B;
        if ((_msr & ~lines & 0x40) != 0)
        {
            delta |= 4; // Trailing edge of the ring indicator.
        }

        _msr = (byte)(lines | (_msr & 0x0F) | delta);
    }

    /// <summary>The cause of highest priority, as IIR bits 0 to 3 ("Interrupt Control Functions").</summary>
    private byte Cause()
    {
        if ((_ier & IerLineStatus) != 0 && (_lsr & LsrErrors) != 0)
        {
            return 6;
        }

        if ((_ier & IerReceived) != 0 && _count != 0)
        {
            return _count >= TriggerLevel ? (byte)4 : (byte)12;
        }

        if ((_ier & IerTransmitter) != 0 && _transmitterPending)
        {
            return 2;
        }

        return (_ier & IerModem) != 0 && (_msr & 0x0F) != 0 ? (byte)0 : (byte)1;
    }

    private byte ReadIdentification()
    {
        byte cause = Cause();
        if (cause == 2)
        {
            _transmitterPending = false;
            DriveLine();
        }

        return (byte)(cause | (FifoEnabled ? 0xC0 : 0));
    }

    private void DriveLine() => _line.Set((_mcr & (McrOut2 | McrLoop)) == McrOut2 && Cause() != 1);
}
