using VmFuzz.Machines;
using VmFuzz.Replay.Snapshots;
using VmFuzz.Trace;

namespace VmFuzz.Replay;

/// <summary>How a replay ended.</summary>
public enum ReplayOutcome : byte
{
    /// <summary>Every event was the recorded one, to the end.</summary>
    Identical,
    /// <summary>Every event of a truncated trace was the recorded one, or every one before a pause.</summary>
    IdenticalPrefix,
    /// <summary>Something differed.</summary>
    Diverged,
}

/// <summary>The result of a replay.</summary>
/// <param name="Outcome">How it ended.</param>
/// <param name="Divergence">The first difference, if any.</param>
/// <param name="Events">Events compared and found equal.</param>
/// <param name="Counts">Counts of the replayed run.</param>
/// <param name="Retired">Instructions retired by all VCPUs.</param>
/// <param name="Stop">Why the run ended.</param>
/// <param name="Before">Instructions that the machine had retired before: those of the snapshot that the run went on from.</param>
public sealed record ReplayResult(
    ReplayOutcome Outcome,
    Divergence? Divergence,
    ulong Events,
    RunCounts Counts,
    ulong Retired,
    MachineStop Stop,
    ulong Before = 0);

/// <summary>
/// Runs a machine from a trace and compares every event. Takes nothing from the seed or generator that made the
/// trace; never guesses: the first mismatch stops it.
/// </summary>
public sealed class Replayer : IDisposable
{
    private readonly TraceReader _reader;
    private readonly ReplayInputSource _inputs;
    private readonly Verifier _verifier;

    /// <summary>Prepares a replay.</summary>
    /// <param name="reader">A trace whose checksums are verified.</param>
    /// <param name="options">Its machine, from <see cref="TraceHeaders.TryOptions"/>.</param>
    /// <param name="variants">Replaced rows, for comparing engines; null for the product's own.</param>
    public Replayer(TraceReader reader, MachineOptions options, MachineVariants? variants = null)
    {
        _reader = reader;
        _inputs = new ReplayInputSource(reader);
        Machine = Machine.Create(options, _inputs, Snapshot.Variants(options, variants));
        bool other = reader.Header is { } header && (header.SemanticsVersion != Engine.SemanticsVersion || header.RowsHash != Engine.RowsHash);
        _verifier = new Verifier(Machine, reader.Events(), other);
        Machine.Observe(_verifier);
    }

    /// <summary>The machine.</summary>
    public Machine Machine { get; }

    /// <summary>Events compared so far.</summary>
    public ulong Events => _verifier.Compared;

    /// <summary>Shows everything to another observer too, each thing after it was compared.</summary>
    public void Observe(IMachineObserver observer) => Machine.Observe(new ObserverPair(_verifier, observer));

    /// <summary>Replays to the end of the trace, to where the machine pauses, or to the first difference.</summary>
    public ReplayResult Run()
    {
        ulong before = Machine.Processor.Retired;
        MachineStop stop = Machine.Run();
        Divergence? divergence = _verifier.Divergence;
        bool paused = stop.Kind == MachineStopKind.Paused;
        if (divergence is null && !_verifier.ReachedEnd && !paused)
        {
            divergence = _verifier.Finish();
        }

        ReplayOutcome outcome = divergence is not null ? ReplayOutcome.Diverged
            : _reader.Status.IsWhole && !paused ? ReplayOutcome.Identical
            : ReplayOutcome.IdenticalPrefix;
        return new ReplayResult(outcome, divergence, _verifier.Compared, _verifier.Counts, Machine.Retired, stop, before);
    }

    /// <inheritdoc/>
    public void Dispose() => Machine.Dispose();

    private sealed class Verifier(Machine machine, TraceCursor cursor, bool otherEngine) : EventBuilder(machine)
    {
        private readonly TraceEvent _expected = new();
        private bool _exhausted;

        public ulong Compared { get; private set; }

        public Divergence? Divergence { get; private set; }

        /// <summary>The recorded end was compared, or the prefix of a truncated trace was used up.</summary>
        public bool ReachedEnd { get; private set; }

        /// <summary>The run is over; events that are left in the trace are a divergence.</summary>
        public Divergence? Finish()
        {
            if (!_exhausted && cursor.MoveNext(_expected))
            {
                Divergence = new Divergence(Compared, Copy(_expected), null, [], Causes.Of(_expected, null, [], otherEngine));
            }

            return Divergence;
        }

        protected override void Emit(TraceEvent made)
        {
            if (Divergence is not null || _exhausted)
            {
                return;
            }

            if (!cursor.MoveNext(_expected))
            {
                _exhausted = true;
                ReachedEnd = true;
                Machine.RequestStop(new MachineStop(MachineStopKind.Observer, "the trace ends here"));
                return;
            }

            if (_expected.SameAs(made))
            {
                Compared++;
                ReachedEnd = made.Kind == TraceEventKind.End;
                return;
            }

            IReadOnlyList<TraceDifference> differences = TraceEvent.Differences(_expected, made);
            Divergence = new Divergence(Compared, Copy(_expected), Copy(made), differences, Causes.Of(_expected, made, differences, otherEngine));
            Machine.RequestStop(new MachineStop(MachineStopKind.Observer, "the replay diverged"));
        }

        private static TraceEvent Copy(TraceEvent source)
        {
            var copy = new TraceEvent();
            copy.CopyFrom(source);
            return copy;
        }
    }
}
