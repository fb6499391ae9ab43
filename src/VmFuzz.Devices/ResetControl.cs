using VmFuzz.Arch;

namespace VmFuzz.Devices;

/// <summary>
/// Ports that reset the machine: system control port A (0x92: A20 gate, fast reset) and the reset control register
/// (0xcf9; Intel 82371SB "Reset Control Register").
/// </summary>
/// <remarks>DEVIATION: a hard and a soft reset by 0xcf9 are one request; its text tells which.</remarks>
public sealed class ResetControl : Device, IPortDevice
{
    /// <summary>System control port A.</summary>
    public const ushort ControlPortA = 0x92;

    /// <summary>Reset control register; with a PCI host its port is reached through <see cref="PciHost.Attach"/>.</summary>
    public const ushort ResetPort = 0xCF9;

    private const byte Trigger = 4;
    private const byte Hard = 2;

    private static readonly StateMap<ResetControl> s_map = new StateMapBuilder<ResetControl>()
        .Add(1, "port A", static r => ref r._portA)
        .Add(2, "reset control", static r => ref r._reset)
        .Build();

    private readonly IMachineControl _machine;
    private byte _portA;
    private byte _reset;

    /// <summary>Makes the ports.</summary>
    /// <param name="machine">Who is reset and whose A20 gate moves.</param>
    public ResetControl(IMachineControl machine)
        : base(ComponentId.ResetControl)
    {
        ArgumentNullException.ThrowIfNull(machine);
        _machine = machine;
    }

    /// <summary>Whether port A lets address line 20 through.</summary>
    public bool A20 => (_portA & 2) != 0;

    /// <inheritdoc/>
    protected override StateMap Map => s_map;

    /// <inheritdoc/>
    public override void Reset()
    {
        _portA = 0;
        _reset = 0;
        Touch();
        _machine.SetA20(A20Gate.Port92, false);
    }

    /// <summary>Puts port 0x92 on a bus, and 0xcf9 if no PCI host has it.</summary>
    /// <param name="bus">The bus.</param>
    /// <param name="withResetPort">Whether 0xcf9 is to be put there as well.</param>
    public void Attach(IoBus bus, bool withResetPort)
    {
        ArgumentNullException.ThrowIfNull(bus);
        bus.AddPorts(ControlPortA, 1, this);
        if (withResetPort)
        {
            bus.AddPorts(ResetPort, 1, this, 1);
        }
    }

    /// <inheritdoc/>
    public uint ReadPort(int offset, int size) => offset == 0 ? _portA : _reset;

    /// <inheritdoc/>
    public void WritePort(int offset, int size, uint value)
    {
        byte data = (byte)value;
        if (offset == 0)
        {
            bool pulse = (data & ~_portA & 1) != 0;
            _portA = (byte)(data & 3);
            _machine.SetA20(A20Gate.Port92, A20);
            if (pulse)
            {
                _machine.RequestReset("port 0x92");
            }

            return;
        }

        bool rise = (data & ~_reset & Trigger) != 0;
        _reset = (byte)(data & (Trigger | Hard));
        if (rise)
        {
            _machine.RequestReset((data & Hard) != 0 ? "port 0xcf9, hard" : "port 0xcf9, soft");
        }
    }

    /// <inheritdoc/>
    protected override void OnStateRestored() => _machine.SetA20(A20Gate.Port92, A20);
}
