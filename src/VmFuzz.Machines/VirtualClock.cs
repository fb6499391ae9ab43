using System.Buffers.Binary;
using System.Collections.Immutable;
using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Devices;

namespace VmFuzz.Machines;

/// <summary>
/// Virtual time: one nanosecond an instruction, whichever VCPU retires it, and what exits and idle periods add. All VCPUs of a
/// machine have the same time; one of them runs at a time.
/// </summary>
public sealed class VirtualClock : IClock, IStateful
{
    private static readonly ImmutableArray<StateField> FieldTable = [new(0, "added", 8)];

    private Processor? _processor;
    private ulong _others;
    private ulong _added;

    /// <summary>Events of devices in this time.</summary>
    public EventQueue Events { get; } = new();

    /// <inheritdoc/>
    public ulong Now => Retired + _added;

    /// <summary>Instructions retired by all VCPUs.</summary>
    public ulong Retired => (_processor?.Retired ?? 0) + _others;

    /// <summary>Instructions retired by the VCPUs that do not run now.</summary>
    public ulong RetiredByOthers => _others;

    /// <inheritdoc/>
    public ComponentId Component => ComponentId.Clock;

    /// <inheritdoc/>
    public ReadOnlySpan<StateField> Fields => FieldTable.AsSpan();

    /// <summary>Nanoseconds added so far by exits and idle periods.</summary>
    public ulong Added => _added;

    /// <summary>Adds time that no instruction accounts for.</summary>
    public void Add(ulong nanoseconds) => _added += nanoseconds;

    /// <summary>Moves time forward to a moment, if it lies ahead.</summary>
    public void AdvanceTo(ulong now)
    {
        ulong present = Now;
        if (now > present)
        {
            _added += now - present;
        }
    }

    /// <inheritdoc/>
    public void ReadField(int index, Span<byte> destination) => BinaryPrimitives.WriteUInt64LittleEndian(destination, _added);

    /// <inheritdoc/>
    public void WriteField(int index, ReadOnlySpan<byte> source) => _added = BinaryPrimitives.ReadUInt64LittleEndian(source);

    /// <summary>Another VCPU runs from now on.</summary>
    /// <param name="processor">Its processor.</param>
    /// <param name="others">Instructions that the others have retired.</param>
    internal void Follow(Processor processor, ulong others)
    {
        _processor = processor;
        _others = others;
        Events.FirstMoved = processor.RecomputeLimit;
    }
}
