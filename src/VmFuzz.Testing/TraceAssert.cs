using System.Globalization;
using System.Text;
using VmFuzz.Machines;
using VmFuzz.Replay;
using VmFuzz.Trace;

namespace VmFuzz.Testing;

/// <summary>A trace did not do what a test claims; the message holds the report.</summary>
public sealed class TraceAssertException : Exception
{
    /// <summary>Makes an exception without a message.</summary>
    public TraceAssertException()
    {
    }

    /// <summary>Makes an exception.</summary>
    public TraceAssertException(string message)
        : base(message)
    {
    }

    /// <summary>Makes an exception with its cause.</summary>
    public TraceAssertException(string message, Exception innerException)
        : base(message, innerException)
    {
    }
}

/// <summary>What a test wants to say about traces.</summary>
public static class TraceAssert
{
    /// <summary>The trace in a file is whole and its replay is identical.</summary>
    /// <param name="path">The file.</param>
    /// <param name="variants">Replaced rows; null for the product's own.</param>
    /// <exception cref="TraceAssertException">It is not.</exception>
    public static ReplayResult Replays(string path, MachineVariants? variants = null)
    {
        using TraceReader reader = TraceReader.Open(path);
        return Replays(reader, path, variants);
    }

    /// <summary>A trace in memory is whole and its replay is identical.</summary>
    /// <exception cref="TraceAssertException">It is not.</exception>
    public static ReplayResult Replays(ReadOnlyMemory<byte> trace, MachineVariants? variants = null)
    {
        using TraceReader reader = TraceReader.Open(trace);
        return Replays(reader, "the trace", variants);
    }

    /// <summary>Two files hold the same machine and the same events.</summary>
    /// <exception cref="TraceAssertException">They do not.</exception>
    public static void Identical(string first, string second)
    {
        using TraceReader a = TraceReader.Open(first);
        using TraceReader b = TraceReader.Open(second);
        Identical(a, b);
    }

    /// <summary>Two traces in memory hold the same machine and the same events.</summary>
    /// <exception cref="TraceAssertException">They do not.</exception>
    public static void Identical(ReadOnlyMemory<byte> first, ReadOnlyMemory<byte> second)
    {
        using TraceReader a = TraceReader.Open(first);
        using TraceReader b = TraceReader.Open(second);
        Identical(a, b);
    }

    /// <summary>A report of a divergence, for people.</summary>
    public static string Report(Divergence divergence)
    {
        ArgumentNullException.ThrowIfNull(divergence);
        var text = new StringBuilder();
        text.Append(CultureInfo.InvariantCulture, $"diverged at event {divergence.Sequence}, {divergence.Retired} instructions retired: {divergence.Cause}");
        text.Append(CultureInfo.InvariantCulture, $"\n  expected: {divergence.Expected?.ToString() ?? "nothing more"}");
        text.Append(CultureInfo.InvariantCulture, $"\n  actual:   {divergence.Actual?.ToString() ?? "the run ended"}");
        foreach (TraceDifference difference in divergence.Differences)
        {
            text.Append("\n  ").Append(difference);
        }

        return text.ToString();
    }

    private static ReplayResult Replays(TraceReader reader, string name, MachineVariants? variants)
    {
        if (!reader.Status.IsWhole)
        {
            throw new TraceAssertException($"{name}: {reader.Status}");
        }

        if (TraceHeaders.TryOptions(reader, compareOnly: false, out MachineOptions options) is { } wrong)
        {
            throw new TraceAssertException($"{name}: {wrong}");
        }

        using var replayer = new Replayer(reader, options, variants);
        ReplayResult result = replayer.Run();
        return result.Outcome == ReplayOutcome.Identical
            ? result
            : throw new TraceAssertException($"{name}: {(result.Divergence is { } d ? Report(d) : result.Outcome.ToString())}");
    }

    private static void Identical(TraceReader first, TraceReader second)
    {
        if (!first.Readable || !second.Readable)
        {
            throw new TraceAssertException($"unreadable: first {first.Status}, second {second.Status}");
        }

        if (!first.Header.Machine.SequenceEqual(second.Header.Machine))
        {
            throw new TraceAssertException("the traces are of different machines");
        }

        if (!first.Blobs.Select(static b => b.Hash).SequenceEqual(second.Blobs.Select(static b => b.Hash), StringComparer.Ordinal))
        {
            throw new TraceAssertException("the traces start from different images");
        }

        TraceCursor a = first.Events();
        TraceCursor b = second.Events();
        var left = new TraceEvent();
        var right = new TraceEvent();
        for (; ; )
        {
            bool more = a.MoveNext(left);
            if (more != b.MoveNext(right))
            {
                throw new TraceAssertException($"the {(more ? "second" : "first")} trace ends before event {a.Next - (more ? 1UL : 0)}; the other goes on with {(more ? left : right)}");
            }

            if (!more)
            {
                return;
            }

            if (!left.SameAs(right))
            {
                throw new TraceAssertException(Report(new Divergence(left.Sequence, left, right, TraceEvent.Differences(left, right), "the traces differ")));
            }
        }
    }
}
