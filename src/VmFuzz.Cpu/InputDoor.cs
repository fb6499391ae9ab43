using System.Collections.Immutable;
using VmFuzz.Arch;

namespace VmFuzz.Cpu;

/// <summary>Watches what comes through the door.</summary>
public interface IInputObserver
{
    /// <summary>An input was taken; it has had no effect yet.</summary>
    void OnInput(InputPoint point, in Position at, in Input input);
}

/// <summary>
/// The door of one VCPU: knows the position, counts consultations, keeps the running hash of what came in.
/// </summary>
public sealed class InputDoor : IStateful, ICopiedState
{
    private static readonly ImmutableArray<StateField> FieldTable =
    [
        new(0, "inputs", 8),
        new(1, "hash", 8),
        new(2, "retired", 8),
        new(3, "ordinal", 8),
    ];

    private readonly Processor _processor;
    private IInputSource _source;
    private ulong _countedAt;
    private ulong _ordinal;

    // The source's promise (IInputSource.QuietUntil); 0 when it must be asked.
    private ulong _quietUntil;

    internal InputDoor(IInputSource source, Processor processor)
    {
        _source = source;
        _processor = processor;
    }

    /// <summary>Where inputs come from.</summary>
    public IInputSource Source
    {
        get => _source;
        set
        {
            _source = value;
            SourceMoved();
        }
    }

    /// <summary>Is told about every input taken, after it was counted.</summary>
    public IInputObserver? Observer { get; set; }

    /// <summary>Inputs taken so far.</summary>
    public ulong Count { get; private set; }

    /// <summary>Running hash over all inputs taken, with their points and positions; part of every digest.</summary>
    public ulong Hash { get; private set; }

    /// <summary>The retired count at which <see cref="InputPoint.Boundary"/> must be consulted next.</summary>
    public ulong NextDue => Source.NextDue(_processor.Index, _processor.Retired);

    /// <summary>The position the next consultation will have.</summary>
    public Position Position
    {
        get
        {
            ulong retired = _processor.Retired;
            return new Position(_processor.Index, retired, retired == _countedAt ? (uint)_ordinal : 0);
        }
    }

    /// <inheritdoc/>
    public ComponentId Component => ComponentIds.Of(_processor.Index, ComponentId.Door, ComponentId.VcpuDoor);

    /// <inheritdoc/>
    public ReadOnlySpan<StateField> Fields => FieldTable.AsSpan();

    /// <summary>Consults the source at a named point.</summary>
    /// <param name="point">The point.</param>
    /// <param name="input">The input, if there is one.</param>
    /// <returns>Whether there was an input.</returns>
    public bool TryTake(InputPoint point, out Input input)
    {
        ulong retired = _processor.Retired;
        ulong ordinal = retired == _countedAt ? _ordinal : 0;
        _countedAt = retired;
        _ordinal = ordinal + 1;
        if (retired < _quietUntil && IsOfRunPath(point))
        {
            input = default;
            return false;
        }

        return TryTake(point, new Position(_processor.Index, retired, (uint)ordinal), out input);
    }

    /// <summary>The source was rewound, or holds other inputs than before: what it promised is forgotten.</summary>
    public void SourceMoved() => _quietUntil = 0;

    private static bool IsOfRunPath(InputPoint point) => point is >= InputPoint.Signal and <= InputPoint.BeforeEntry;

    private bool TryTake(InputPoint point, in Position at, out Input input)
    {
        if (!_source.TryTake(point, at, out input))
        {
            _quietUntil = IsOfRunPath(point) ? _source.QuietUntil(at.Vcpu, at.Retired) : _quietUntil;
            return false;
        }

        Count++;
        ulong hash = StateHash.Step(Hash, ((ulong)point << 8) | (ulong)input.Kind);
        hash = StateHash.Step(hash, at.Retired);
        hash = StateHash.Step(hash, at.Ordinal);
        hash = StateHash.Step(hash, input.Value);
        Hash = StateHash.Step(hash, input.Auxiliary);
        Observer?.OnInput(point, at, input);
        return true;
    }

    /// <inheritdoc/>
    public void ReadField(int index, Span<byte> destination) =>
        System.Buffers.Binary.BinaryPrimitives.WriteUInt64LittleEndian(destination, index switch
        {
            0 => Count,
            1 => Hash,
            2 => _countedAt,
            _ => _ordinal,
        });

    /// <inheritdoc/>
    public void WriteField(int index, ReadOnlySpan<byte> source)
    {
        SourceMoved();
        ulong value = System.Buffers.Binary.BinaryPrimitives.ReadUInt64LittleEndian(source);
        switch (index)
        {
            case 0:
                Count = value;
                break;
            case 1:
                Hash = value;
                break;
            case 2:
                _countedAt = value;
                break;
            default:
                _ordinal = value;
                break;
        }
    }

    /// <inheritdoc/>
    public IStateCopy CopyState() => new Copied(this);

    private sealed class Copied(InputDoor door) : IStateCopy
    {
        private readonly ulong _count = door.Count;
        private readonly ulong _hash = door.Hash;
        private readonly ulong _countedAt = door._countedAt;
        private readonly ulong _ordinal = door._ordinal;

        public void Restore()
        {
            door.SourceMoved();
            door.Count = _count;
            door.Hash = _hash;
            door._countedAt = _countedAt;
            door._ordinal = _ordinal;
        }
    }
}
