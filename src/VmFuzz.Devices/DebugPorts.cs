using VmFuzz.Arch;

namespace VmFuzz.Devices;

/// <summary>Who takes what a guest says through its debug ports.</summary>
public interface IDebugSink
{
    /// <summary>A byte written to port 0xe9 or 0x402.</summary>
    /// <param name="port">The port.</param>
    /// <param name="value">The byte.</param>
    void DebugByte(ushort port, byte value);

    /// <summary>A value written to port 0xf4: the guest asks for the end of the run with status (value &lt;&lt; 1) | 1.</summary>
    /// <param name="value">The value, of the width it was written with.</param>
    void DebugExit(uint value);
}

/// <summary>
/// Ports by which guest software talks to the machine's user: 0xe9 (output, reads 0xe9), 0x402 (SeaBIOS's messages,
/// reads 0xe9) and 0xf4 (end of the run).
/// </summary>
public sealed class DebugPorts : Device, IPortDevice
{
    /// <summary>Output port of many emulators.</summary>
    public const ushort OutputPort = 0xE9;

    /// <summary>SeaBIOS's debug port.</summary>
    public const ushort FirmwarePort = 0x402;

    /// <summary>Port that ends the run.</summary>
    public const ushort ExitPort = 0xF4;

    private const int OutputOffset = 0;
    private const int FirmwareOffset = 1;
    private const int ExitOffset = 2;

    private static readonly StateMap<DebugPorts> s_map = new StateMapBuilder<DebugPorts>()
        .Add(1, "output hash", static d => ref d._hash)
        .Add(2, "exit value", static d => ref d._exitValue)
        .Add(3, "exited", static d => ref d._exited)
        .Build();

    private readonly IDebugSink _sink;
    private ulong _hash;
    private uint _exitValue;
    private bool _exited;

    /// <summary>Makes the ports.</summary>
    /// <param name="sink">Who takes bytes and the end.</param>
    public DebugPorts(IDebugSink sink)
        : base(ComponentId.DebugPorts)
    {
        ArgumentNullException.ThrowIfNull(sink);
        _sink = sink;
    }

    /// <inheritdoc/>
    protected override StateMap Map => s_map;

    /// <inheritdoc/>
    public override void Reset()
    {
        _hash = 0;
        _exitValue = 0;
        _exited = false;
        Touch();
    }

    /// <summary>Puts the ports on a bus. The exit port takes four bytes.</summary>
    /// <param name="bus">The bus.</param>
    /// <param name="withOutput">Whether 0xe9 is to be put there as well.</param>
    public void Attach(IoBus bus, bool withOutput = true)
    {
        ArgumentNullException.ThrowIfNull(bus);
        if (withOutput)
        {
            bus.AddPorts(OutputPort, 1, this, OutputOffset);
        }

        bus.AddPorts(FirmwarePort, 1, this, FirmwareOffset);
        bus.AddPorts(ExitPort, 4, this, ExitOffset, widest: 4);
    }

    /// <inheritdoc/>
    public uint ReadPort(int offset, int size) => offset < ExitOffset ? OutputPort : 0u;

    /// <inheritdoc/>
    public void WritePort(int offset, int size, uint value)
    {
        switch (offset)
        {
            case OutputOffset or FirmwareOffset:
                _hash = StateHash.Step(_hash, value);
                _sink.DebugByte(offset == OutputOffset ? OutputPort : FirmwarePort, (byte)value);
                break;
            case ExitOffset:
                _exitValue = value;
                _exited = true;
                _sink.DebugExit(value);
                break;
            default:
                break;
        }
    }
}
