using System.Collections.Immutable;
using VmFuzz.Arch;

namespace VmFuzz.Devices;

/// <summary>
/// A stand-in for a local APIC (SDM "Local APIC Registers"): registers in xAPIC mode as plain storage, so that firmware
/// which sets them up can go on. Nothing is delivered, the timer does not run, there is no x2APIC mode.
/// </summary>
public sealed class LocalApicStub : Device, IMmioDevice
{
    /// <summary>The default address of the registers.</summary>
    public const ulong DefaultAddress = 0xFEE0_0000;

    /// <summary>Bytes of the registers' page.</summary>
    public const ulong Length = 4096;

    private static readonly ImmutableArray<Row> s_rows =
    [
        new(0x020, "ID", 0, 0xFF00_0000),
        new(0x030, "version", 0x0005_0014, 0),
        new(0x080, "TPR", 0, 0xFF),
        new(0x0D0, "LDR", 0, 0xFF00_0000),
        new(0x0E0, "DFR", 0xFFFF_FFFF, 0xF000_0000),
        new(0x0F0, "SVR", 0xFF, 0x13FF),
        new(0x280, "ESR", 0, 0),
        new(0x300, "ICR low", 0, 0x000C_CFFF),
        new(0x310, "ICR high", 0, 0xFF00_0000),
        new(0x320, "LVT timer", 0x10000, 0x0007_00FF),
        new(0x330, "LVT thermal", 0x10000, 0x0001_07FF),
        new(0x340, "LVT performance", 0x10000, 0x0001_07FF),
        new(0x350, "LVT LINT0", 0x10000, 0x0001_A7FF),
        new(0x360, "LVT LINT1", 0x10000, 0x0001_A7FF),
        new(0x370, "LVT error", 0x10000, 0x0001_00FF),
        new(0x380, "initial count", 0, 0xFFFF_FFFF),
        new(0x3E0, "divide configuration", 0, 0xB),
    ];

    private static readonly StateMap<LocalApicStub> s_map = MakeMap();

    private readonly uint[] _registers = new uint[s_rows.Length];

    /// <summary>Makes a stub.</summary>
    public LocalApicStub()
        : base(ComponentId.LocalApic)
    {
        Reset();
    }

    /// <inheritdoc/>
    protected override StateMap Map => s_map;

    /// <inheritdoc/>
    public override void Reset()
    {
        for (int i = 0; i < s_rows.Length; i++)
        {
            _registers[i] = s_rows[i].Value;
        }

        Touch();
    }

    /// <summary>Puts the registers on a bus.</summary>
    public void Attach(IoBus bus)
    {
        ArgumentNullException.ThrowIfNull(bus);
        bus.AddMmio(new Gpa(DefaultAddress), Length, this);
    }

    /// <inheritdoc/>
    public ulong ReadMmio(ulong offset, int size)
    {
        int index = Find(offset & ~15UL);
        return index >= 0 && (offset & 15) < 4 ? _registers[index] >> (8 * (int)(offset & 3)) : 0;
    }

    /// <inheritdoc/>
    /// <remarks>Only accesses of four bytes write; others are undefined by the SDM and ignored.</remarks>
    public void WriteMmio(ulong offset, int size, ulong value)
    {
        int index = Find(offset);
        if (index >= 0 && size == 4)
        {
            uint mask = s_rows[index].Writable;
            _registers[index] = (_registers[index] & ~mask) | ((uint)value & mask);
        }
    }

    private static int Find(ulong offset)
    {
        for (int i = 0; i < s_rows.Length; i++)
        {
            if (s_rows[i].Offset == offset)
            {
                return i;
            }
        }

        return -1;
    }

    private static StateMap<LocalApicStub> MakeMap()
    {
        var map = new StateMapBuilder<LocalApicStub>();
        for (int i = 0; i < s_rows.Length; i++)
        {
            int n = i;
            map.Add((ushort)(s_rows[n].Offset >> 4), s_rows[n].Name, a => ref a._registers[n]);
        }

        return map.Build();
    }

    private readonly record struct Row(uint Offset, string Name, uint Value, uint Writable);
}
