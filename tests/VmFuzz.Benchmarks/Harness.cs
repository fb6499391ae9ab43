using System.Diagnostics;
using System.Globalization;

namespace VmFuzz.Benchmarks;

/// <summary>One thing to time: a name, what one unit of work is, and a run that does a number of units.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Unit">What one unit of work is.</param>
/// <param name="Run">Does a number of units and says how many.</param>
/// <param name="TargetNanoseconds">What a unit should take; 0 for nothing in particular.</param>
/// <param name="Base">Name of the case that does the same without something: its time is 1 in the column of ratios.</param>
internal sealed record Case(string Name, string Unit, Func<long> Run, double TargetNanoseconds = 0, string? Base = null);

/// <summary>Times cases in turn, so that drift of the machine hits all alike, and prints medians and ratios.</summary>
internal static class Harness
{
    public static void Run(IReadOnlyList<Case> cases, int rounds)
    {
        Case calibration = new("calibration", "xorshift step", Calibrate);
        var all = new List<Case> { calibration };
        all.AddRange(cases);
        var times = new double[all.Count][];
        var bytes = new double[all.Count];
        for (int i = 0; i < all.Count; i++)
        {
            times[i] = new double[rounds];
            all[i].Run();
            all[i].Run();
        }

        for (int round = 0; round < rounds; round++)
        {
            for (int i = 0; i < all.Count; i++)
            {
                long allocated = GC.GetAllocatedBytesForCurrentThread();
                long start = Stopwatch.GetTimestamp();
                long units = all[i].Run();
                double ns = Stopwatch.GetElapsedTime(start).TotalNanoseconds;
                bytes[i] = (GC.GetAllocatedBytesForCurrentThread() - allocated) / (double)units;
                times[i][round] = ns / units;
            }
        }

        double unit = Median(times[0]);
        Console.WriteLine($"{"benchmark",-34} {"unit",-22} {"ns/unit",10} {"x calibration",14} {"x base",7} {"bytes/unit",11} {"target",9}");
        for (int i = 0; i < all.Count; i++)
        {
            double median = Median(times[i]);
            string target = all[i].TargetNanoseconds == 0 ? "" : all[i].TargetNanoseconds.ToString("0", CultureInfo.InvariantCulture) + " ns";
            int below = all.FindIndex(c => c.Name == all[i].Base);
            string ratio = below < 0 ? "" : (median / Median(times[below])).ToString("0.00", CultureInfo.InvariantCulture);
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
                $"{all[i].Name,-34} {all[i].Unit,-22} {median,10:0.000} {median / unit,14:0.00} {ratio,7} {bytes[i],11:0.00} {target,9}"));
        }
    }

    private static double Median(double[] values)
    {
        double[] sorted = [.. values.Order()];
        return sorted[sorted.Length / 2];
    }

    // A chain of dependent integer operations: what the machine can do with nothing in its way.
    private static long Calibrate()
    {
        const int Steps = 20_000_000;
        ulong x = 88172645463325252UL;
        for (int i = 0; i < Steps; i++)
        {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
        }

        // The state is never 0, which the compiler cannot know: all steps are needed for the result.
        return x == 0 ? 0 : Steps;
    }
}
