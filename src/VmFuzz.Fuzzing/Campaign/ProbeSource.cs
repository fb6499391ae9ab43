using VmFuzz.Coverage;

namespace VmFuzz.Fuzzing;

/// <summary>Where the counts of code probes are.</summary>
public abstract class ProbeSource
{
    /// <summary>Nothing is instrumented.</summary>
    public static ProbeSource None() => new Part(0, 0);

    /// <summary>A part of the process's coverage map.</summary>
    /// <param name="first">First probe.</param>
    /// <param name="count">Number of probes; 0 never touches the map.</param>
    public static ProbeSource Map(int first, int count)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(first);
        ArgumentOutOfRangeException.ThrowIfNegative(count);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(count, count == 0 ? 0 : CoverageMap.Used - first);
        return new Part(first, count);
    }

    /// <summary>The counts since they were last cleared; always as many.</summary>
    public abstract Span<byte> Counts { get; }

    /// <summary>Sets all counts to 0.</summary>
    public abstract void Clear();

    private sealed class Part(int first, int count) : ProbeSource
    {
        public override Span<byte> Counts => count == 0 ? [] : CoverageMap.Counts.Slice(first, count);

        public override void Clear()
        {
            if (count != 0 && count == CoverageMap.Used)
            {
                CoverageMap.Clear();
            }
            else
            {
                Counts.Clear();
            }
        }
    }
}
