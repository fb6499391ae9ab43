using VmFuzz.Fuzzing;
using VmFuzz.Replay;

namespace VmFuzz.Bugs.Runner;

/// <summary>Makes the inputs of a hunt. The corpus begins with one empty input.</summary>
internal sealed class HuntInputs
{
    private const int MostRandomBytes = 512;
    private const int MostCorpus = 4096;

    private readonly HuntMode _mode;
    private readonly FuzzTarget _target;
    private readonly SplitMix _random;
    private readonly MutatorScheduler _scheduler;
    private readonly List<FuzzInput> _corpus = [];
    private readonly FuzzInput _next = new();
    private readonly byte[] _bytes = new byte[FuzzLimits.InputBytes];

    public HuntInputs(HuntMode mode, FuzzTarget target, ulong seed)
    {
        _mode = mode;
        _target = target;
        _random = new SplitMix(seed);
        _scheduler = new MutatorScheduler(MutatorTable.Default, target, seed);
        _corpus.Add(new FuzzInput { Target = target });
    }

    /// <summary>The next input; used again by the one after.</summary>
    public FuzzInput Next(ulong execution)
    {
        switch (_mode)
        {
            case HuntMode.Random:
                FromBytes(RandomBytes());
                break;
            case HuntMode.Coverage:
                FromBytes(Havoc());
                break;
            default:
                FuzzInput parent = Any();
                _scheduler.Mutate(execution, parent, Any(), _next);
                break;
        }

        return _next;
    }

    /// <summary>Whether the last input showed something new.</summary>
    public void Report(bool kept)
    {
        if (_mode is HuntMode.Full or HuntMode.Structure)
        {
            _scheduler.Report(kept);
        }

        if (!kept)
        {
            return;
        }

        if (_corpus.Count == MostCorpus)
        {
            _corpus[(int)_random.Below(MostCorpus)] = _next.Clone();
        }
        else
        {
            _corpus.Add(_next.Clone());
        }
    }

    private FuzzInput Any() => _corpus[(int)_random.Below((ulong)_corpus.Count)];

    private void FromBytes(ReadOnlySpan<byte> bytes)
    {
        FuzzCodec.Decode(bytes, _next);
        _next.Target = _target;
        _next.Normalise();
    }

    private Span<byte> RandomBytes()
    {
        Span<byte> bytes = _bytes.AsSpan(0, 1 + (int)_random.Below(MostRandomBytes));
        Fill(bytes);
        return bytes;
    }

    // Flips, overwrites, insertions of a few random bytes, cuts: what a fuzzer without a grammar does.
    private Span<byte> Havoc()
    {
        int length = FuzzCodec.Encode(Any(), _bytes);
        int changes = 1 << (int)_random.Below(6);
        for (int i = 0; i < changes; i++)
        {
            int at = (int)_random.Below((ulong)length + 1);
            int count = 1 + (int)_random.Below(16);
            switch (_random.Below(4))
            {
                case 0 when at < length:
                    _bytes[at] ^= (byte)(1 << (int)_random.Below(8));
                    break;
                case 1 when at < length:
                    _bytes[at] = (byte)_random.Next();
                    break;
                case 2 when length + count <= _bytes.Length:
                    Array.Copy(_bytes, at, _bytes, at + count, length - at);
                    Fill(_bytes.AsSpan(at, count));
                    length += count;
                    break;
                default:
                    count = Math.Min(count, length - at);
                    Array.Copy(_bytes, at + count, _bytes, at, length - at - count);
                    length -= count;
                    break;
            }
        }

        return _bytes.AsSpan(0, length);
    }

    private void Fill(Span<byte> bytes)
    {
        for (int i = 0; i < bytes.Length; i++)
        {
            bytes[i] = (byte)_random.Next();
        }
    }
}
