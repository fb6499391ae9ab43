using System.Buffers.Binary;
using System.Collections.Immutable;
using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Devices;

namespace VmFuzz.Machines;

/// <summary>Virtual time: one nanosecond an instruction, and what exits and idle periods add.</summary>
public sealed class VirtualClock : IClock, IStateful
{
    private static readonly ImmutableArray<StateField> FieldTable = [new(0, "added", 8)];

    private Processor? _processor;
    private ulong _added;

    /// <summary>Events of devices in this time.</summary>
    public EventQueue Events { get; } = new();

    /// <inheritdoc/>
    public ulong Now => (_processor?.Retired ?? 0) + _added;

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

    internal void Attach(Processor processor)
    {
        _processor = processor;
        Events.FirstMoved = processor.RecomputeLimit;
    }
}
