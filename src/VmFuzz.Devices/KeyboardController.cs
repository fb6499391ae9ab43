using VmFuzz.Arch;

namespace VmFuzz.Devices;

/// <summary>
/// Keyboard controller (Intel 8042 with the PC/AT firmware) at 0x60 and 0x64, and a keyboard that answers the commands
/// of start-up. Interrupt line 1.
/// </summary>
/// <remarks>
/// A small model: the auxiliary port is absent (what is sent to it is answered by 0xfe), scan codes are not translated,
/// and answers are there at once.
/// </remarks>
public sealed class KeyboardController : Device, IPortDevice
{
    /// <summary>Data port.</summary>
    public const ushort DataPort = 0x60;

    /// <summary>Command and status port.</summary>
    public const ushort CommandPort = 0x64;

    private const int CommandOffset = 1;
    private const int QueueSize = 16;
    private const int MemorySize = 32;
    private const byte OutputFull = 1;
    private const byte SystemFlag = 4;
    private const byte LastWasCommand = 8;
    private const byte NotLocked = 0x10;
    private const byte FromAuxiliary = 0x20;
    private const byte CommandByteInterrupt = 1;
    private const byte PortA20 = 2;

    private static readonly StateMap<KeyboardController> s_map = new StateMapBuilder<KeyboardController>()
        .Add(1, "status", static k => ref k._status)
        .Add(2, "memory", MemorySize, static k => ref k._memory)
        .Add(3, "output port", static k => ref k._outputPort)
        .Add(4, "command waiting for data", static k => ref k._command)
        .Add(5, "keyboard command waiting for data", static k => ref k._keyboardCommand)
        .Add(6, "output queue", QueueSize, static k => ref k._queue)
        .Add(7, "output queue count", static k => ref k._count)
        .Add(8, "last byte", static k => ref k._lastByte)
        .Build();

    private readonly IMachineControl _machine;
    private readonly InterruptLine _line;
    private byte _status;
    private byte[] _memory = new byte[MemorySize];
    private byte _outputPort;
    private byte _command;
    private byte _keyboardCommand;
    private byte[] _queue = new byte[QueueSize];
    private byte _count;
    private byte _lastByte;

    /// <summary>Makes a controller. Its A20 gate is open after power-on.</summary>
    /// <param name="machine">Who is reset and whose A20 gate moves.</param>
    /// <param name="line">Interrupt line, 1 on a PC.</param>
    public KeyboardController(IMachineControl machine, InterruptLine line)
        : base(ComponentId.KeyboardController)
    {
        ArgumentNullException.ThrowIfNull(machine);
        _machine = machine;
        _line = line;
        SetPowerOnValues();
    }

    /// <summary>Whether the output port lets address line 20 through.</summary>
    public bool A20 => (_outputPort & PortA20) != 0;

    /// <inheritdoc/>
    protected override StateMap Map => s_map;

    /// <inheritdoc/>
    public override void Reset()
    {
        SetPowerOnValues();
        Touch();
        _line.Set(false);
        _machine.SetA20(A20Gate.KeyboardController, A20);
    }

    /// <summary>Puts the controller on a bus.</summary>
    public void Attach(IoBus bus)
    {
        ArgumentNullException.ThrowIfNull(bus);
        bus.AddPorts(DataPort, 1, this);
        bus.AddPorts(CommandPort, 1, this, CommandOffset);
    }

    /// <summary>A scan code arrives from the keyboard. Lost when the queue is full.</summary>
    public void Receive(byte scanCode)
    {
        Touch();
        Answer(scanCode);
        DriveLine();
    }

    /// <inheritdoc/>
    public uint ReadPort(int offset, int size)
    {
        if (offset == CommandOffset)
        {
            return (uint)(_status | (_count != 0 ? OutputFull : 0));
        }

        if (_count != 0)
        {
            _lastByte = _queue[0];
            _count--;
            _queue.AsSpan(1, _count).CopyTo(_queue);
            _queue.AsSpan(_count).Clear();
            _status &= unchecked((byte)~FromAuxiliary);

            // The next byte is a new interrupt: the line falls between them.
            _line.Set(false);
            DriveLine();
        }

        return _lastByte;
    }

    /// <inheritdoc/>
    public void WritePort(int offset, int size, uint value)
    {
        byte data = (byte)value;
        if (offset == CommandOffset)
        {
            _status |= LastWasCommand;
            Command(data);
        }
        else
        {
            _status &= unchecked((byte)~LastWasCommand);
            byte command = _command;
            _command = 0;
            Data(command, data);
        }

        DriveLine();
    }

    /// <inheritdoc/>
    protected override void OnStateRestored()
    {
        _count = (byte)Math.Min((int)_count, QueueSize);
        _machine.SetA20(A20Gate.KeyboardController, A20);
    }

    private void SetPowerOnValues()
    {
        _status = NotLocked | LastWasCommand;
        _memory.AsSpan().Clear();
        _memory[0] = 0x03;
        _outputPort = 0xCF;
        _command = 0;
        _keyboardCommand = 0;
        _queue.AsSpan().Clear();
        _count = 0;
        _lastByte = 0;
    }

    private void Command(byte command)
    {
        _command = 0;
        switch (command)
        {
            case >= 0x20 and <= 0x3F:
                Answer(_memory[command & 0x1F]);
                break;
            case >= 0x60 and <= 0x7F or 0xD1 or 0xD2 or 0xD3 or 0xD4:
                _command = command;
                break;
            case 0xA7:
                _memory[0] |= 0x20;
                break;
            case 0xA8:
                _memory[0] &= 0xDF;
                break;
            case 0xA9:
                Answer(0x01); // Test of the auxiliary port: its clock line is stuck low.
                break;
            case 0xAA:
                _count = 0;
                _queue.AsSpan().Clear();
                _status = (byte)((_status & ~FromAuxiliary) | SystemFlag);
                Answer(0x55);
                break;
            case 0xAB:
                Answer(0x00);
                break;
            case 0xAD:
                _memory[0] |= 0x10;
                break;
            case 0xAE:
                _memory[0] &= 0xEF;
                break;
            case 0xC0:
                Answer(0x80);
                break;
            case 0xD0:
                Answer((byte)(_outputPort | (_count != 0 ? 0x10 : 0)));
                break;
            case 0xDD:
                SetOutputPort((byte)(_outputPort & ~PortA20));
                break;
            case 0xDF:
                SetOutputPort((byte)(_outputPort | PortA20));
                break;
            case >= 0xF0 when (command & 1) == 0:
                _machine.RequestReset("keyboard controller, pulse");
                break;
            default:
                break;
        }
    }

    private void Data(byte command, byte data)
    {
        switch (command)
        {
            case 0:
                ToKeyboard(data);
                break;
            case >= 0x60 and <= 0x7F:
                _memory[command & 0x1F] = data;
                break;
            case 0xD1:
                SetOutputPort(data);
                break;
            case 0xD2:
                Answer(data);
                break;
            case 0xD3:
                AnswerFromAuxiliary(data);
                break;
            default:
                AnswerFromAuxiliary(0xFE);
                break;
        }
    }

    /// <summary>The keyboard: every command is acknowledged; some have data, some an answer.</summary>
    private void ToKeyboard(byte data)
    {
        byte waiting = _keyboardCommand;
        _keyboardCommand = 0;

        // A byte from the host makes the keyboard forget what it has not delivered.
        _count = 0;
        _queue.AsSpan().Clear();
        _status &= unchecked((byte)~FromAuxiliary);
        _line.Set(false);
        Answer(0xFA);
        if (waiting != 0)
        {
            if (waiting == 0xF0 && data == 0)
            {
                Answer(0x02); // Which scan code set.
            }

            return;
        }

        switch (data)
        {
            case 0xED or 0xF0 or 0xF3:
                _keyboardCommand = data;
                break;
            case 0xF2:
                Answer(0xAB);
                Answer(0x83);
                break;
            case 0xFF:
                Answer(0xAA);
                break;
            default:
                break;
        }
    }

    private void SetOutputPort(byte value)
    {
        _outputPort = value;
        _machine.SetA20(A20Gate.KeyboardController, A20);
        if ((value & 1) == 0)
        {
            _machine.RequestReset("keyboard controller, output port");
        }
    }

    private void Answer(byte value)
    {
        if (_count < QueueSize)
        {
            _queue[_count++] = value;
        }
    }

    private void AnswerFromAuxiliary(byte value)
    {
        Answer(value);
        _status |= FromAuxiliary;
    }

    private void DriveLine() => _line.Set(_count != 0 && (_memory[0] & CommandByteInterrupt) != 0 && (_status & FromAuxiliary) == 0);
}
