using System.Globalization;

namespace VmFuzz.Trace;

/// <summary>What a look at all bytes of a file found.</summary>
public enum TraceStatusKind : byte
{
    /// <summary>A complete trace; every checksum is right.</summary>
    Whole = 0,
    /// <summary>The file ends before its end or index; the chunks before that are right.</summary>
    Truncated = 1,
    /// <summary>Something in the file is wrong; the chunks before that are right.</summary>
    Damaged = 2,
    /// <summary>Not a trace of this format.</summary>
    Foreign = 3,
    /// <summary>A trace of a newer version of the format.</summary>
    Future = 4,
}

/// <summary>The state of a trace file.</summary>
/// <param name="Kind">What was found.</param>
/// <param name="Offset">Where in the file, in bytes: the end of the last whole chunk, or the start of the damaged one.</param>
/// <param name="Chunk">Number of the last whole chunk when truncated (-1: none), of the damaged chunk when damaged.</param>
/// <param name="Why">One sentence for people; empty for a whole trace.</param>
/// <param name="Version">The version in the header, when <see cref="Kind"/> is <see cref="TraceStatusKind.Future"/>.</param>
public readonly record struct TraceStatus(TraceStatusKind Kind, long Offset, long Chunk, string Why, ulong Version = 0)
{
    /// <summary>Whether the trace is complete.</summary>
    public bool IsWhole => Kind == TraceStatusKind.Whole;

    /// <inheritdoc/>
    public override string ToString() => Kind switch
    {
        TraceStatusKind.Whole => "whole",
        TraceStatusKind.Truncated when Chunk < 0 => $"truncated before the first chunk is complete ({Why})",
        TraceStatusKind.Truncated => string.Create(CultureInfo.InvariantCulture, $"truncated after chunk {Chunk}, offset {Offset} ({Why})"),
        TraceStatusKind.Damaged => string.Create(CultureInfo.InvariantCulture, $"damaged in chunk {Chunk}, offset {Offset}: {Why}"),
        TraceStatusKind.Foreign => $"not a trace: {Why}",
        _ => string.Create(CultureInfo.InvariantCulture, $"format version {Version} is newer than {TraceSchema.Version}, the newest that is read"),
    };
}
