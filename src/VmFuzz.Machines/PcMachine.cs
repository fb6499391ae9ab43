using VmFuzz.Arch;
using VmFuzz.Devices;

namespace VmFuzz.Machines;

/// <summary>A PC as firmware expects it: ROM at the top of 4 GiB and below 1 MiB, and the devices of a 440FX board.</summary>
public sealed class PcMachine : Machine
{
    private const ulong HighMemory = 1UL << 32;
    private const ulong LegacyRom = 128 << 10;

    private readonly PcBoard _board;

    internal PcMachine(MachineOptions options, IInputSource inputs, MachineVariants? variants)
        : base(options, inputs, variants)
    {
        MapMemory(options);
        _board = new PcBoard(this, withAcpi: true);
        AddComponents([Processor.Door, Clock, Processor.Fields, .. _board.Devices, Clock.Events]);
        Start();
    }

    /// <summary>Receives what firmware writes to its debug port 0x402; for people, not part of the run.</summary>
    public Action<byte>? FirmwareOutput { get; set; }

    /// <inheritdoc/>
    public override IInterruptController InterruptController => _board.Apic;

    /// <inheritdoc/>
    public override void ApplyDeviceInput(in Input input)
    {
        if (!_board.TryApply(input))
        {
            base.ApplyDeviceInput(input);
        }
    }

    /// <inheritdoc/>
    public override void DebugByte(ushort port, byte value)
    {
        if (port == DebugPorts.OutputPort)
        {
            Write(value);
        }
        else
        {
            FirmwareOutput?.Invoke(value);
        }
    }

    internal static string? ValidateImages(MachineOptions options)
    {
        if (options.Image("bios") is not { } bios)
        {
            return "-machine pc needs firmware: -bios FILE";
        }

        int length = bios.Bytes.Length;
        if (length is < 4096 or > (16 << 20) || (length & 0xFFF) != 0)
        {
            return $"{bios.Name}: {length} bytes is not a ROM image; a whole number of 4 KiB pages up to 16 MiB is needed";
        }

        return null;
    }

    private void MapMemory(MachineOptions options)
    {
        ReadOnlySpan<byte> rom = options.Image("bios")!.Bytes.Span;
        ulong size = (ulong)rom.Length;
        ulong low = Math.Min(options.Memory, PcBoard.LowMemoryLimit);
        ulong legacy = Math.Min(size, LegacyRom);
        Memory.AddSlot(new Gpa(HighMemory - size), size, readOnly: true);
        Memory.AddSlot(new Gpa(0), 0xA0000);

        // DEVIATION: the host bridge's memory attributes (82441FX "PAM") do not move: firmware below 1 MiB is a copy in
        // memory, as it is after they let reads and writes through.
        Memory.AddSlot(new Gpa(0xC0000), (1 << 20) - 0xC0000);
        if (low > 1 << 20)
        {
            Memory.AddSlot(new Gpa(1 << 20), low - (1 << 20));
        }

        if (options.Memory > low)
        {
            Memory.AddSlot(new Gpa(HighMemory), options.Memory - low);
        }

        Memory.TryLoad(new Gpa(HighMemory - size), rom);
        Memory.TryLoad(new Gpa((1 << 20) - legacy), rom[^(int)legacy..]);
    }
}
