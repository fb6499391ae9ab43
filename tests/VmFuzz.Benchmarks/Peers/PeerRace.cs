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
    /// <param name="repeats">How often each is run; the shortest time counts, since all that disturbs makes it longer.</param>
    /// <param name="millions">Million instructions of the slowest emulators' runs.</param>
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
        VmFuzzPeer.Run(kernel, 1, 0, out ulong one, out _);
        VmFuzzPeer.Run(kernel, 0, 0, out ulong none, out _);
        ulong rounds = Math.Max(2, (ulong)millions * 1_000_000 / (one - none));
        ulong[] expected = [.. peers.Select(peer => VmFuzzPeer.Run(kernel, rounds * (ulong)peer.Scale, 0, out _, out _).Checksum)];
        VmFuzzPeer.Run(kernel, rounds, VmFuzzPeer.Regions, out _, out long once);
        VmFuzzPeer.Run(kernel, rounds * 2, VmFuzzPeer.Regions, out _, out long twice);
        allocated = twice - once;
        double[] full = [.. peers.Select(static _ => double.MaxValue)];
        double[] empty = [.. full];
        for (int repeat = 0; repeat < repeats; repeat++)
        {
            for (int i = 0; i < peers.Count; i++)
            {
                empty[i] = Math.Min(empty[i], peers[i].Run(kernel, 0).Seconds);
                PeerRun run = peers[i].Run(kernel, rounds * (ulong)peers[i].Scale);
                full[i] = Math.Min(full[i], run.Seconds);
                if (run.Checksum != expected[i])
                {
                    throw new InvalidOperationException($"{PeerGuest.Kernels[kernel]}: {peers[i].Name} came to {run.Checksum:x}, VmFuzz to {expected[i]:x}");
                }
            }
        }

        double[] row = new double[(peers.Count * 2) - 1];
        for (int i = 0; i < peers.Count; i++)
        {
            row[i] = (one - none) * rounds * (ulong)peers[i].Scale / (full[i] - empty[i]) / 1e6;
        }

        for (int i = 1; i < peers.Count; i++)
        {
            row[peers.Count + i - 1] = row[0] / row[i];
        }

        return row;
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
