using System.Diagnostics;
using System.Globalization;
using VmFuzz.Machines;

namespace VmFuzz.Benchmarks;

/// <summary>Debian's cloud kernel by PVH to the end of a small init, in processes of their own, in turn: on bare and kvm, recorded, and in QEMU recording.</summary>
internal static class Boots
{
    private const string CommandLine = "earlyprintk=ttyS0,115200,keep acpi=off pci=off nosmp noapic nolapic mitigations=off nokaslr tsc=reliable "
        + "tsc_early_khz=1000000 no_timer_check lpj=4000000 panic=-1 reboot=t random.trust_cpu=on cryptomgr.notests i8042.nopnp";

    /// <summary>One way to boot.</summary>
    /// <param name="Name">Its name.</param>
    /// <param name="Program">The program.</param>
    /// <param name="Arguments">Its arguments.</param>
    private sealed record Way(string Name, string Program, string[] Arguments);

    /// <summary>Times all ways in turn and prints medians and ratios of each round.</summary>
    /// <param name="rounds">Rounds.</param>
    public static void Run(int rounds)
    {
        string? kernel = Directory.EnumerateFiles("/boot", "vmlinuz-*-cloud-amd64").Order(StringComparer.Ordinal).LastOrDefault();
        if (kernel is null)
        {
            Console.WriteLine("no cloud kernel is installed (package linux-image-cloud-amd64)");
            return;
        }

        string folder = Directory.CreateTempSubdirectory("vmfuzz-").FullName;
        try
        {
            Way[] ways = [.. Ways(kernel, folder)];
            double[][] times = [.. ways.Select(_ => new double[rounds])];
            foreach (Way way in ways)
            {
                Time(way);
            }

            for (int round = 0; round < rounds; round++)
            {
                for (int i = 0; i < ways.Length; i++)
                {
                    times[i][round] = Time(ways[i]);
                }
            }

            Console.WriteLine($"{"Linux to its init, wall time",-30} {"seconds",8} {"speed to bare, recorded: median, lowest, highest of the rounds",-40}");
            int recorded = Array.FindIndex(ways, static w => w.Name == "bare, recorded");
            for (int i = 0; i < ways.Length; i++)
            {
                double[] ratios = [.. Enumerable.Range(0, rounds).Select(round => times[recorded][round] / times[i][round]).Order()];
                Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
                    $"{ways[i].Name,-30} {times[i].Order().ElementAt(rounds / 2),8:0.00} {ratios[rounds / 2],8:0.00} {ratios[0],8:0.00} {ratios[^1],8:0.00}"));
            }
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static IEnumerable<Way> Ways(string kernel, string folder)
    {
        string command = Path.Combine(AppContext.BaseDirectory, "vmfuzz.dll");
        string init = Path.Combine(Peers.PeerGuest.Folder(), "linux-init.bin");
        string[] Machine(string verb, string accel) =>
        [
            command, verb, "-machine", "microvm", "-accel", accel, "-m", "72M", "-kernel", kernel, "-initrd", init, "-append", CommandLine,
            "-serial", "none", "--json",
        ];
        yield return new Way("bare", "dotnet", Machine("run", "bare"));
        yield return new Way("bare, recorded", "dotnet", [.. Machine("record", "bare"), "--force", "-o", Path.Combine(folder, "boot.vmtrace")]);
        yield return new Way("kvm", "dotnet", Machine("run", "kvm"));
        yield return new Way("kvm, recorded", "dotnet", [.. Machine("record", "kvm"), "--force", "-o", Path.Combine(folder, "kvm.vmtrace")]);
        const string Qemu = "/usr/bin/qemu-system-x86_64";
        if (!File.Exists(Qemu))
        {
            Console.WriteLine("QEMU: not here (package qemu-system-x86)");
            yield break;
        }

        string image = Path.Combine(folder, "vmlinux");
        if (KernelPayload.TryExtract(new MachineImage(MachineImage.KernelRole, kernel, File.ReadAllBytes(kernel)), out ReadOnlyMemory<byte> unpacked) is { } wrong)
        {
            throw new InvalidOperationException(wrong);
        }

        File.WriteAllBytes(image, unpacked.Span);
        string[] qemu =
        [
            "-machine", "pc", "-accel", "tcg", "-cpu", "max", "-m", "72M", "-kernel", image, "-initrd", init, "-append", CommandLine, "-nodefaults",
            "-display", "none", "-serial", "null", "-no-reboot", "-icount",
        ];
        yield return new Way("QEMU, icount", Qemu, [.. qemu, "shift=0"]);
        yield return new Way("QEMU, icount, recorded", Qemu, [.. qemu, $"shift=0,rr=record,rrfile={Path.Combine(folder, "rr")}"]);
    }

    private static double Time(Way way)
    {
        long start = Stopwatch.GetTimestamp();
        using Process process = Process.Start(new ProcessStartInfo(way.Program, way.Arguments)
        {
            UseShellExecute = false,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            RedirectStandardInput = true,
        })!;
        process.StandardInput.Close();
        Task<string> error = process.StandardError.ReadToEndAsync();
        process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        double seconds = Stopwatch.GetElapsedTime(start).TotalSeconds;
        return process.ExitCode == 0 ? seconds : throw new InvalidOperationException($"{way.Name} ended with {process.ExitCode}: {error.Result}");
    }
}
