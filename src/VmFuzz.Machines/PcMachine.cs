using VmFuzz.Arch;

namespace VmFuzz.Machines;

/// <summary>
/// A PC with the devices of a 440FX board. It starts firmware, which lies at the top of 4 GiB and below 1 MiB, or a kernel
/// without any.
/// </summary>
public sealed class PcMachine : BoardMachine
{
    private const int LegacyRom = 128 << 10;

    internal PcMachine(MachineOptions options, IInputSource inputs, MachineVariants? variants)
        : base(options, inputs, variants, PcParts.Firmware)
    {
        if (options.Image(MachineImage.BiosRole) is { } bios)
        {
            MapFirmware(bios.Bytes.Span);
        }
        else
        {
            Board.StartKernel(this);
        }

        Start();
    }

    internal static string? ValidateImages(MachineOptions options)
    {
        if (options.Image(MachineImage.BiosRole) is not { } bios)
        {
            return options.Image(MachineImage.KernelRole) is null
                ? "-machine pc needs firmware or a kernel: -bios FILE or -kernel FILE"
                : BootLoader.TryPlan(options, LowMemory(options), out _);
        }

        int length = bios.Bytes.Length;
        if (length is < 4096 or > (16 << 20) || (length & 0xFFF) != 0)
        {
            return $"{bios.Name}: {length} bytes is not a ROM image; a whole number of 4 KiB pages up to 16 MiB is needed";
        }

        return null;
    }

    // DEVIATION: below 1 MiB lies a copy of the ROM that can be written to from the start. A 440FX board drops writes until
    // firmware sets its programmable attribute registers, which all firmware does before it writes.
    private void MapFirmware(ReadOnlySpan<byte> rom)
    {
        ulong size = (ulong)rom.Length;
        int legacy = Math.Min(rom.Length, LegacyRom);
        Memory.AddSlot(new Gpa(HighMemory - size), size, readOnly: true);
        Memory.TryLoad(new Gpa(HighMemory - size), rom);
        Memory.TryLoad(new Gpa((1 << 20) - (ulong)legacy), rom[^legacy..]);
    }
}
