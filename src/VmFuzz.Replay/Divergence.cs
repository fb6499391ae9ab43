using VmFuzz.Trace;

namespace VmFuzz.Replay;

/// <summary>The first place at which a run did something else than its trace says.</summary>
/// <param name="Sequence">Number of the event in the trace.</param>
/// <param name="Expected">What the trace says; null when it holds no further event.</param>
/// <param name="Actual">What happened; null when the run ended early.</param>
/// <param name="Differences">Every field that differs.</param>
/// <param name="Cause">The likely cause, by kind.</param>
public sealed record Divergence(
    ulong Sequence,
    TraceEvent? Expected,
    TraceEvent? Actual,
    IReadOnlyList<TraceDifference> Differences,
    string Cause)
{
    /// <summary>The retired count at which it was seen.</summary>
    public ulong Retired => Actual?.Retired ?? Expected?.Retired ?? 0;
}

/// <summary>Likely causes of a divergence, by what differs first.</summary>
internal static class Causes
{
    public static string Of(TraceEvent? expected, TraceEvent? actual, IReadOnlyList<TraceDifference> differences, bool otherEngine)
    {
        if (otherEngine)
        {
            return "engine version: the trace was recorded by another engine";
        }

        if (expected is null)
        {
            return "the run goes on where the trace has ended";
        }

        if (actual is null)
        {
            return expected.Kind == TraceEventKind.Input
                ? "a recorded input was not asked for"
                : "the run ended before the trace did";
        }

        if (expected.Kind != actual.Kind)
        {
            return expected.Kind == TraceEventKind.Input || actual.Kind == TraceEventKind.Input
                ? "an input is missing, or was asked for at another place"
                : "the guest took another path before this event";
        }

        if (expected.Retired != actual.Retired)
        {
            return "time: the event happened at another instruction";
        }

        bool onlyDigest = differences.Count == 1 && differences[0].Field == "digest";
        return expected.Kind switch
        {
            TraceEventKind.Input => expected.InputKind switch
            {
                VmFuzz.Arch.InputKind.Random => "random: a recorded random value, or the state that asked for it, differs",
                VmFuzz.Arch.InputKind.Answer => "userspace answer: a recorded answer, or the state that asked for it, differs",
                _ => "an earlier input differs, or the state in which it arrived",
            },
            TraceEventKind.Derived => "device: a derived event differs",
            TraceEventKind.Console => "the guest printed something else",
            _ => onlyDigest
                ? "state outside the registers shown differs: a device, time, or an input consumed before"
                : "registers or exit information differ: the guest computed something else",
        };
    }
}
