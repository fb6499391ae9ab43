using System.Globalization;
using System.Text;

namespace VmFuzz.Benchmarks.Peers;

/// <summary>
/// Tier 0 beside other emulators: the same kernels, the same number of rounds, in turn, with the time of a run without
/// rounds subtracted. What a kernel came to must be the same everywhere.
/// </summary>
internal static class PeerRace
{
    /// <summary>Runs and prints the table.</summary>
    /// <param name="repeats">How often each is run; medians are shown.</param>
    /// <param name="millions">Million instructions of a kernel's run.</param>
    public static void Run(int repeats, int millions)
    {
        var peers = new List<Peer>();
        foreach (Peer peer in Peer.All)
        {
            if (peer.Missing() is { } reason)
            {
                Console.WriteLine($"{peer.Name}: not here: {reason}");
            }
            else
            {
                peers.Add(peer);
            }
        }

        Print("kernel", [.. peers.Select(static p => p.Name), .. peers.Skip(1).Select(static p => "x " + p.Name), "bytes"]);
        double[] sums = new double[(peers.Count * 2) - 1];
        for (int kernel = 0; kernel < PeerGuest.Kernels.Length; kernel++)
        {
            double[] row = RunKernel(kernel, peers, repeats, millions, out long allocated);
            for (int i = 0; i < row.Length; i++)
            {
                sums[i] += Math.Log(row[i]);
            }

            Print(PeerGuest.Kernels[kernel], [.. row.Select(Text), allocated.ToString(CultureInfo.InvariantCulture)]);
        }

        double[] means = [.. sums.Select(static sum => Math.Exp(sum / PeerGuest.Kernels.Length))];
        Print("geometric mean", [.. means.Select(Text), ""]);
        Print("target", [.. peers.Select(static _ => ""), .. peers.Skip(1).Select(static p => p.Target == 0 ? "" : Text(p.Target)), "0"]);
    }

    // MIPS of each, then the ratios of VmFuzz's to those of the others.
    private static double[] RunKernel(int kernel, List<Peer> peers, int repeats, int millions, out long allocated)
    {
        ulong expected = VmFuzzPeer.Run(kernel, 1, out ulong one, out _).Checksum;
        VmFuzzPeer.Run(kernel, 0, out ulong none, out _);
        ulong rounds = Math.Max(2, (ulong)millions * 1_000_000 / (one - none));
        expected = VmFuzzPeer.Run(kernel, rounds, out ulong all, out allocated).Checksum;
        var full = new double[peers.Count, repeats];
        var empty = new double[peers.Count, repeats];
        for (int repeat = 0; repeat < repeats; repeat++)
        {
            for (int i = 0; i < peers.Count; i++)
            {
                empty[i, repeat] = peers[i].Run(kernel, 0).Seconds;
                PeerRun run = peers[i].Run(kernel, rounds);
                full[i, repeat] = run.Seconds;
                if (run.Checksum != expected)
                {
                    throw new InvalidOperationException($"{PeerGuest.Kernels[kernel]}: {peers[i].Name} came to {run.Checksum:x}, VmFuzz to {expected:x}");
                }
            }
        }

        double[] row = new double[(peers.Count * 2) - 1];
        for (int i = 0; i < peers.Count; i++)
        {
            row[i] = (all - none) / (Median(full, i) - Median(empty, i)) / 1e6;
        }

        for (int i = 1; i < peers.Count; i++)
        {
            row[peers.Count + i - 1] = row[0] / row[i];
        }

        return row;
    }

    private static double Median(double[,] values, int row)
    {
        double[] sorted = [.. Enumerable.Range(0, values.GetLength(1)).Select(i => values[row, i]).Order()];
        return sorted[sorted.Length / 2];
    }

    private static string Text(double value) => value.ToString(value < 10 ? "0.00" : "0", CultureInfo.InvariantCulture);

    private static void Print(string name, IReadOnlyList<string> cells)
    {
        var line = new StringBuilder(name.PadRight(22));
        foreach (string cell in cells)
        {
            line.Append(cell.PadLeft(Math.Max(cell.Length + 1, 9)));
        }

        Console.WriteLine(line.ToString().TrimEnd());
    }
}
