using VmFuzz.Arch;
using VmFuzz.Devices;

namespace VmFuzz.Machines;

/// <summary>
/// The interrupt controller of the flat machine: a vector latched from outside, and device lines that give vector
/// 0x20 + line. The latch holds each vector once; the lowest vector goes first.
/// </summary>
public sealed class InterruptLatch : Device, IInterruptController, IInterruptSink
{
    /// <summary>Vector of line 0.</summary>
    public const byte FirstVector = 0x20;

    private static readonly StateMap<InterruptLatch> s_map = new StateMapBuilder<InterruptLatch>()
        .Add(0, "pending0", static l => ref l._pending0)
        .Add(1, "pending1", static l => ref l._pending1)
        .Add(2, "pending2", static l => ref l._pending2)
        .Add(3, "pending3", static l => ref l._pending3)
        .Add(4, "lines", static l => ref l._lines)
        .Add(5, "priority", static l => ref l._priority)
        .Build();

    private ulong _pending0;
    private ulong _pending1;
    private ulong _pending2;
    private ulong _pending3;
    private uint _lines;
    private byte _priority;

    /// <summary>Makes an empty latch.</summary>
    public InterruptLatch()
        : base(ComponentId.Pic)
    {
    }

    /// <summary>Called when the INTR line may have changed.</summary>
    public Action? Changed { get; set; }

    /// <inheritdoc/>
    public bool InterruptPending => (_pending0 | _pending1 | _pending2 | _pending3) != 0;

    /// <inheritdoc/>
    public byte TaskPriority
    {
        get => _priority;
        set
        {
            if (_priority != value)
            {
                _priority = value;
                Touch();
            }
        }
    }

    /// <inheritdoc/>
    protected override StateMap Map => s_map;

    /// <summary>Latches a vector.</summary>
    public void Raise(byte vector)
    {
        Word(vector >> 6) |= 1UL << (vector & 63);
        Touch();
        Changed?.Invoke();
    }

    /// <inheritdoc/>
    public byte Acknowledge()
    {
        Touch();
        for (int i = 0; i < 4; i++)
        {
            ref ulong word = ref Word(i);
            if (word != 0)
            {
                int bit = System.Numerics.BitOperations.TrailingZeroCount(word);
                word &= word - 1;
                return (byte)((i * 64) + bit);
            }
        }

        return FirstVector + 7;
    }

    /// <inheritdoc/>
    public void SetLine(int line, bool level)
    {
        uint bit = 1U << line;
        bool rising = level && (_lines & bit) == 0;
        _lines = level ? _lines | bit : _lines & ~bit;
        Touch();
        if (rising)
        {
            Raise((byte)(FirstVector + line));
        }
    }

    /// <inheritdoc/>
    public bool TryReadApicMsr(uint msr, out ulong value)
    {
        value = 0;
        return false;
    }

    /// <inheritdoc/>
    public bool TryWriteApicMsr(uint msr, ulong value) => false;

    /// <inheritdoc/>
    public override void Reset()
    {
        _pending0 = _pending1 = _pending2 = _pending3 = 0;
        _lines = 0;
        _priority = 0;
        Touch();
    }

    private ref ulong Word(int index)
    {
        switch (index)
        {
            case 0:
                return ref _pending0;
            case 1:
                return ref _pending1;
            case 2:
                return ref _pending2;
            default:
                return ref _pending3;
        }
    }
}
