using VmFuzz.Arch;
using VmFuzz.Devices;

namespace VmFuzz.Fuzz.SampleHandlers;

/// <summary>
/// A device of one's own: 64 bytes of memory that a guest reaches through two ports, one for the index and one for the
/// byte there, as with the memory of a PC's clock.
/// </summary>
internal sealed class BatteryMemory : Device, IPortDevice
{
    /// <summary>Takes the index; the byte is at the port behind it.</summary>
    public const ushort IndexPort = 0x70;

    private const int Size = 64;
    private const int IndexOffset = 0;

    // All state that outlives a call is listed here, and nowhere else. From this list come reset, save and restore, the
    // digests in traces, and the comparison of two runs. State that is not listed leaks from one execution into the next:
    // an oracle sees that one input gives two digests.
    private static readonly StateMap<BatteryMemory> State = new StateMapBuilder<BatteryMemory>()
        .Add(1, "index", static d => ref d._index)
        .Add(2, "bytes", Size, static d => ref d._bytes)
        .Build();

    private byte[] _bytes = new byte[Size];
    private byte _index;

    // Components have numbers; those from User on are for devices like this one.
    public BatteryMemory()
        : base(ComponentId.User)
    {
    }

    /// <inheritdoc/>
    protected override StateMap Map => State;

    /// <inheritdoc/>
    public override void Reset()
    {
        Array.Clear(_bytes);
        _index = 0;
        Touch();
    }

    /// <inheritdoc/>
    public uint ReadPort(int offset, int size) => offset == IndexOffset ? _index : Selected;

    /// <inheritdoc/>
    public void WritePort(int offset, int size, uint value)
    {
        if (offset == IndexOffset)
        {
            _index = (byte)value;
        }
        else
        {
            Selected = (byte)value;
        }
    }

    // Guests write any index.
    private ref byte Selected => ref _bytes[_index % Size];
}
