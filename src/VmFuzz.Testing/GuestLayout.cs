using VmFuzz.Machines;

namespace VmFuzz.Testing;

/// <summary>Where a <see cref="GuestProgram"/> keeps things in guest-physical memory.</summary>
/// <param name="Data">Data area that atoms read and write.</param>
/// <param name="Counters">256 counters of 8 bytes: deliveries of each vector.</param>
/// <param name="Registers">Final registers, 8 bytes each, flags last.</param>
/// <param name="Rounds">Rounds left, 4 bytes.</param>
public readonly record struct GuestLayout(uint Data, uint Counters, uint Registers, uint Rounds)
{
    /// <summary>Bytes of the data area.</summary>
    public const int DataSize = 0x1000;

    /// <summary>The layout of a mode.</summary>
    public static GuestLayout Of(FlatMode mode) => mode == FlatMode.Real16
        ? new GuestLayout(0x1000, 0x4000, 0x5000, 0x5100)
        : new GuestLayout(0x20_0000, 0x30_0000, 0x30_1000, 0x30_1100);
}
