using System.Collections.Immutable;
using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using VmFuzz.Cli.Lockstep;
using VmFuzz.Cpu;
using VmFuzz.Machines;

namespace VmFuzz.Benchmarks.Peers;

/// <summary>One run of a kernel.</summary>
/// <param name="Seconds">Wall time, start and end included.</param>
/// <param name="Checksum">What the kernel came to.</param>
internal readonly record struct PeerRun(double Seconds, ulong Checksum);

/// <summary>An emulator that runs the kernels.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Missing">Why it cannot be run here; null when it can.</param>
/// <param name="Run">Runs rounds of a kernel.</param>
/// <param name="Scale">Times as many rounds as the slowest take: its time is to be much longer than its start.</param>
/// <param name="Target">The least ratio of VmFuzz's speed to its; 0 for none.</param>
internal sealed record Peer(string Name, Func<string?> Missing, Func<int, ulong, PeerRun> Run, int Scale, double Target = 0)
{
    /// <summary>All of them; the first is VmFuzz.</summary>
    public static ImmutableArray<Peer> All { get; } =
    [
        new("VmFuzz", static () => null, static (kernel, rounds) => VmFuzzPeer.Run(kernel, rounds, VmFuzzPeer.Regions, out _, out _), 8),
        new("tier 0", static () => null, static (kernel, rounds) => VmFuzzPeer.Run(kernel, rounds, 0, out _, out _), 4),
        new("QEMU TCG", static () => Program(Qemu), static (kernel, rounds) => RunQemu(kernel, rounds), 8),
        new("QEMU icount", static () => Program(Qemu), static (kernel, rounds) => RunQemu(kernel, rounds, "-icount", "shift=0"), 8, 0.9),
        new("Unicorn", UnicornPeer.Missing, static (kernel, rounds) => UnicornPeer.Run(kernel, rounds, counting: false), 1, 1.5),
        new("Unicorn, counting", UnicornPeer.Missing, static (kernel, rounds) => UnicornPeer.Run(kernel, rounds, counting: true), 1),
        new("Bochs", static () => Program(Bochs), RunBochs, 1, 4),
    ];

    private const string Qemu = "qemu-system-x86_64";
    private const string Bochs = "bochs";

    private static string? Program(string name) =>
        (Environment.GetEnvironmentVariable("PATH") ?? "").Split(Path.PathSeparator).Any(folder => File.Exists(Path.Combine(folder, name)))
            ? null
            : $"{name} is not on the path";

    private static PeerRun RunQemu(int kernel, ulong rounds, params string[] more)
    {
        using var folder = new WorkFolder();
        string rom = folder.Write("rom.bin", PeerGuest.Rom(kernel, rounds));
        return RunProcess(Qemu, "",
        [
            "-accel", "tcg,thread=single", "-cpu", "max", "-m", "64", "-bios", rom, "-display", "none", "-nodefaults", "-debugcon", "stdio",
            "-device", "isa-debug-exit,iobase=0xf4,iosize=4", .. more,
        ]);
    }

    private static PeerRun RunBochs(int kernel, ulong rounds)
    {
        // A ROM of a video card that does nothing, whose bytes add up to 0: Bochs does not start without one.
        byte[] video = [0x55, 0xAA, 1, .. new byte[509]];
        using var folder = new WorkFolder();
        string settings = folder.Write("bochsrc", Encoding.ASCII.GetBytes($"""
            config_interface: textconfig
            display_library: rfb, options="timeout=0"
            romimage: file={folder.Write("rom.bin", PeerGuest.Rom(kernel, rounds))}
            vgaromimage: file={folder.Write("video.bin", video)}
            megs: 64
            cpu: model=corei7_sandy_bridge_2600k, ips=100000000
            port_e9_hack: enabled=1
            log: {Path.Combine(folder.Path, "log")}
            panic: action=fatal
            clock: sync=none

            """));

        // Builds with the debugger wait for a command.
        return RunProcess(Bochs, "c\n", ["-q", "-f", settings]);
    }

    private static PeerRun RunProcess(string program, string input, string[] arguments)
    {
        long start = Stopwatch.GetTimestamp();
        using Process process = Process.Start(new ProcessStartInfo(program, arguments)
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            UseShellExecute = false,
        })!;
        process.ErrorDataReceived += static (_, _) => { };
        process.BeginErrorReadLine();
        process.StandardInput.Write(input);
        process.StandardInput.Close();
        string output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        return new PeerRun(Stopwatch.GetElapsedTime(start).TotalSeconds, ChecksumIn(output, program));
    }

    private static ulong ChecksumIn(string output, string program)
    {
        foreach (string line in output.Split('\n'))
        {
            if (line.Length == 16 && ulong.TryParse(line, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out ulong checksum))
            {
                return checksum;
            }
        }

        throw new InvalidOperationException($"{program} printed no checksum: {output}");
    }

    private sealed class WorkFolder : IDisposable
    {
        public string Path { get; } = Directory.CreateTempSubdirectory("vmfuzz-peers-").FullName;

        public string Write(string name, byte[] bytes)
        {
            string file = System.IO.Path.Combine(Path, name);
            File.WriteAllBytes(file, bytes);
            return file;
        }

        public void Dispose() => Directory.Delete(Path, recursive: true);
    }
}

/// <summary>VmFuzz: the flat machine on <c>bare</c>.</summary>
internal static class VmFuzzPeer
{
    /// <summary>Entries before a loop is compiled.</summary>
    public const int Regions = Processor.UsualRegionThreshold;

    /// <summary>The options of a run.</summary>
    public static MachineOptions Options(int kernel, ulong rounds) => Guests.Options(PeerGuest.Code(kernel, rounds), Accelerator.Bare);

    /// <summary>Runs rounds of a kernel.</summary>
    /// <param name="kernel">The kernel.</param>
    /// <param name="rounds">Rounds.</param>
    /// <param name="regions">Entries before a loop is compiled; 0 for tier 0 alone.</param>
    /// <param name="retired">Instructions retired.</param>
    /// <param name="allocated">Managed bytes allocated while it ran.</param>
    public static PeerRun Run(int kernel, ulong rounds, int regions, out ulong retired, out long allocated)
    {
        using Machine machine = Machine.Create(Options(kernel, rounds), NoInputs.Instance);
        machine.Processor.RegionThreshold = regions;
        ulong checksum = 0;
        machine.ConsoleOutput = value => checksum = value == '\n' ? checksum : (checksum << 4) | (uint)Convert.ToInt32(((char)value).ToString(), 16);
        long before = GC.GetAllocatedBytesForCurrentThread();
        long start = Stopwatch.GetTimestamp();
        machine.Run();
        double seconds = Stopwatch.GetElapsedTime(start).TotalSeconds;
        allocated = GC.GetAllocatedBytesForCurrentThread() - before;
        retired = machine.Processor.Retired;
        return new PeerRun(seconds, checksum);
    }
}

/// <summary>Unicorn: the same code and page tables, with and without a count of instructions.</summary>
internal static unsafe class UnicornPeer
{
    private const int MemoryBytes = 4 << 20;
    private const ulong Load = 0x10000;
    private const int Rbx = 37;

    public static string? Missing()
    {
        UnicornLibrary.Find(out string missing);
        return missing.Length == 0 ? null : missing;
    }

    public static PeerRun Run(int kernel, ulong rounds, bool counting)
    {
        byte* memory = (byte*)NativeMemory.AlignedAlloc(MemoryBytes, 4096);
        try
        {
            using Machine machine = Machine.Create(VmFuzzPeer.Options(kernel, rounds), NoInputs.Instance);
            machine.Memory.TryRead(new Arch.Gpa(0), new Span<byte>(memory, MemoryBytes));
            using var engine = new UnicornEngine(UnicornLibrary.Find(out _)!, FlatMode.Long64);
            engine.Map(0, memory, MemoryBytes);
            engine.SetSystem(FlatMode.Long64, machine.Processor.State);
            long start = Stopwatch.GetTimestamp();
            int error = engine.Run(Load, PeerGuest.Finish, counting ? ulong.MaxValue >> 1 : 0);
            double seconds = Stopwatch.GetElapsedTime(start).TotalSeconds;
            return error == UnicornEngine.Ok
                ? new PeerRun(seconds, engine.Read(Rbx))
                : throw new InvalidOperationException($"libunicorn ended with error {error}");
        }
        finally
        {
            NativeMemory.AlignedFree(memory);
        }
    }
}
