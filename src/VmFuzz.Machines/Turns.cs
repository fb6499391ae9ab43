using System.Buffers.Binary;
using System.Collections.Immutable;
using VmFuzz.Arch;
using VmFuzz.Cpu;

namespace VmFuzz.Machines;

/// <summary>
/// Lets the VCPUs of a machine run in turn. A turn is a number of retired instructions drawn by SplitMix64 from a seed that
/// comes through the door; it ends earlier when its VCPU halts. The next turn is that of the next VCPU, by number, that has
/// something to do.
/// </summary>
/// <remarks>
/// The power of two below a turn's length is drawn first, so that short turns are as frequent as long ones: races
/// of a few instructions and of many come up alike.
/// </remarks>
internal sealed class Turns : IStateful
{
    /// <summary>The shortest turn. Unit: retired instructions.</summary>
    public const ulong Shortest = 1UL << FirstPower;

    /// <summary>The longest turn. Unit: retired instructions.</summary>
    public const ulong Longest = (Shortest << Powers) - 1;

    private const int FirstPower = 5;
    private const int Powers = 10;

    private static readonly ImmutableArray<StateField> FieldTable =
    [
        new(0, "vcpu", 8),
        new(1, "end", 8),
        new(2, "generator", 8),
        new(3, "seeded", 8),
        new(4, "init", 8),
    ];

    private readonly ImmutableArray<Processor> _processors;
    private readonly VirtualClock _clock;
    private readonly ulong[] _words = new ulong[5];

    /// <summary>Gives the first turn to no VCPU yet.</summary>
    /// <param name="processors">The VCPUs, two or more.</param>
    /// <param name="clock">The time that all of them move.</param>
    public Turns(ImmutableArray<Processor> processors, VirtualClock clock)
    {
        _processors = processors;
        _clock = clock;
    }

    /// <summary>The VCPU whose turn it is.</summary>
    public Processor Current => _processors[(int)Vcpu];

    /// <summary>The retired count of that VCPU at which its turn ends.</summary>
    public ulong End => _words[1];

    /// <summary>Whether the turn has been used up.</summary>
    public bool Over => Current.Retired >= End;

    /// <summary>Whether the seed was asked for.</summary>
    public bool Seeded => _words[3] != 0;

    /// <summary>The VCPUs that an INIT waits for, as bits: one that is running takes it at the end of its instruction.</summary>
    public ref ulong Inits => ref _words[4];

    /// <inheritdoc/>
    public ComponentId Component => ComponentId.Turns;

    /// <inheritdoc/>
    public ReadOnlySpan<StateField> Fields => FieldTable.AsSpan();

    private ref ulong Vcpu => ref _words[0];

    /// <summary>Begins the sequence of turns.</summary>
    public void Seed(ulong seed) => _words[2] = seed;

    /// <summary>Says that the seed was asked for, whether there was one or not.</summary>
    public void MarkSeeded() => _words[3] = 1;

    /// <summary>Gives the next turn to the next VCPU that has something to do; the present one comes last.</summary>
    /// <returns>False when none has.</returns>
    public bool TryNext()
    {
        int count = _processors.Length;
        for (int step = 1; step <= count; step++)
        {
            int next = ((int)Vcpu + step) % count;
            if (_processors[next].CanRun)
            {
                Vcpu = (ulong)next;
                _words[1] = Current.Retired + Draw();
                Follow();
                return true;
            }
        }

        return false;
    }

    /// <summary>Fields were set from outside.</summary>
    public void Restored()
    {
        Vcpu %= (ulong)_processors.Length;
        Follow();
    }

    /// <inheritdoc/>
    public void ReadField(int index, Span<byte> destination) => BinaryPrimitives.WriteUInt64LittleEndian(destination, _words[index]);

    /// <inheritdoc/>
    public void WriteField(int index, ReadOnlySpan<byte> source)
    {
        _words[index] = BinaryPrimitives.ReadUInt64LittleEndian(source);
        Restored();
    }

    private ulong Draw()
    {
        ref ulong generator = ref _words[2];
        ulong least = Shortest << (int)SplitMixGenerator.Below(ref generator, Powers);
        return least + SplitMixGenerator.Below(ref generator, least);
    }

    private void Follow()
    {
        Processor current = Current;
        ulong others = 0;
        foreach (Processor processor in _processors)
        {
            others += processor == current ? 0 : processor.Retired;
        }

        _clock.Follow(current, others);
    }
}
