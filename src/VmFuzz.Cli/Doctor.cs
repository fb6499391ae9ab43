using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using VmFuzz.Cli.Lockstep;
using VmFuzz.Machines;
using VmFuzz.Replay;
using VmFuzz.Trace;

namespace VmFuzz.Cli;

/// <summary><c>vmfuzz doctor</c>: what is here, what it is for, and whether the engine works.</summary>
internal static class Doctor
{
    /// <summary>A guest of ten instructions, 64-bit: arithmetic, RDRAND, CPUID, a byte to port 0xe9, HLT.</summary>
    internal static ReadOnlyMemory<byte> Guest { get; } = new byte[]
    {
        0xB8, 0x01, 0x00, 0x00, 0x00, // mov eax, 1
        0x83, 0xC0, 0x02, //             add eax, 2
        0x89, 0xC1, //                   mov ecx, eax
        0xC1, 0xE1, 0x04, //             shl ecx, 4
        0x48, 0x0F, 0xC7, 0xF3, //       rdrand rbx
        0x0F, 0xA2, //                   cpuid
        0xBA, 0xE9, 0x00, 0x00, 0x00, // mov edx, 0xe9
        0xB0, 0x21, //                   mov al, '!'
        0xEE, //                         out dx, al
        0xF4, //                         hlt
    };

    /// <summary>Looks at everything and runs the self-test.</summary>
    public static int Execute(Host host, bool json)
    {
        var checks = new List<Check>
        {
            new(".NET", RuntimeInformation.FrameworkDescription, "found", "runs the command"),
            new("system", $"{RuntimeInformation.OSDescription}, {RuntimeInformation.ProcessArchitecture}", "found", "digests are the same on every system"),
            new("vectors", Vectors(), "found", "speed only"),
            new("dispatch", TailThreaded() ? "tail-threaded" : "loop (a Debug build)", "found", "speed only: a Release build is tail-threaded"),
        };
        checks.AddRange(Files());
        checks.Add(Python());
        checks.Add(Unicorn());
        bool healthy = true;
        foreach (Accelerator accelerator in (Accelerator[])[Accelerator.Bare, Accelerator.Kvm])
        {
            Check test = SelfTest(accelerator);
            healthy &= test.State == "passed";
            checks.Add(test);
        }

        int status = healthy ? ExitStatus.Fine : ExitStatus.EngineBug;
        if (json)
        {
            JsonReport.Write(host.Out, writer =>
            {
                writer.WriteString("command", "doctor");
                writer.WriteNumber("status", status);
                writer.WriteString("version", Engine.Version);
                writer.WriteNumber("semantics", Engine.SemanticsVersion);
                writer.WriteStartArray("checks");
                foreach (Check check in checks)
                {
                    writer.WriteStartObject();
                    writer.WriteString("name", check.Name);
                    writer.WriteString("state", check.State);
                    writer.WriteString("value", check.Value);
                    writer.WriteString("purpose", check.Purpose);
                    writer.WriteEndObject();
                }

                writer.WriteEndArray();
            });
            return status;
        }

        host.Out.WriteLine(string.Create(CultureInfo.InvariantCulture, $"vmfuzz {Engine.Version}, semantics {Engine.SemanticsVersion}, rows {Quantities.Digest(Engine.RowsHash)}"));
        Tables.Write(host, ["what", "state", "value", "for"], checks.Select(static c => new[] { c.Name, c.State, c.Value, c.Purpose }));
        if (!healthy)
        {
            host.Err.WriteLine("vmfuzz: engine bug: the self-test failed: please report the output of vmfuzz doctor --json");
        }

        return status;
    }

    private static IEnumerable<Check> Files()
    {
        (string Name, string[] Places, string Purpose)[] wanted =
        [
            ("/dev/kvm", ["/dev/kvm"], "not needed: the hypervisor here runs on its own processor model"),
            ("U-Boot, 32-bit", ["/usr/lib/u-boot/qemu-x86/u-boot.rom"], "real firmware to boot (Debian: u-boot-qemu)"),
            ("U-Boot, 64-bit", ["/usr/lib/u-boot/qemu-x86_64/u-boot.rom"], "real firmware to boot (Debian: u-boot-qemu)"),
            ("SeaBIOS", ["/usr/share/seabios/bios-256k.bin", "/usr/share/qemu/bios-256k.bin"], "firmware for tests to come (Debian: seabios)"),
            ("QEMU", OnPath("qemu-system-x86_64"), "comparisons in tests to come (Debian: qemu-system-x86)"),
            ("nasm", OnPath("nasm"), "assembles the guests in corpus/guests again (Debian: nasm)"),
        ];
        foreach ((string name, string[] places, string purpose) in wanted)
        {
            string? found = Array.Find(places, File.Exists);
            yield return new Check(name, found ?? "-", found is null ? "missing" : "found", purpose);
        }
    }

    private static string[] OnPath(string program) =>
        [.. (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':').Where(static p => p.Length != 0).Select(p => Path.Combine(p, program))];

    // Another python may come first on the path than the one that Debian's packages are for.
    private static Check Python() => PythonOf("python3") is { State: "found" } first ? first : PythonOf("/usr/bin/python3");

    private static Check PythonOf(string python)
    {
        const string purpose = "reads traces without this project (Debian: python3-msgpack)";
        try
        {
            using var process = Process.Start(new ProcessStartInfo(python)
            {
                ArgumentList = { "-c", "import msgpack; print(*msgpack.version, sep='.')" },
                UseShellExecute = false,
                RedirectStandardOutput = true,
                RedirectStandardError = true,
            })!;
            string version = process.StandardOutput.ReadToEnd().Trim();
            process.WaitForExit();
            return process.ExitCode == 0
                ? new Check("python3-msgpack", $"{version} of {python}", "found", purpose)
                : new Check("python3-msgpack", "-", "missing", purpose);
        }
        catch (System.ComponentModel.Win32Exception)
        {
            return new Check("python3-msgpack", "-", "missing", purpose);
        }
    }

    private static Check Unicorn() => new(
        "libunicorn",
        UnicornLibrary.Find(out _)?.Version ?? "-",
        UnicornLibrary.Find(out _) is null ? "missing" : "found",
        "vmfuzz lockstep (Debian: libunicorn2)");

    private static string Vectors() =>
        Vector512.IsHardwareAccelerated ? "512-bit" : Vector256.IsHardwareAccelerated ? "256-bit" : Vector128.IsHardwareAccelerated ? "128-bit" : "none";

    private static bool TailThreaded()
    {
        using Machine machine = Machine.Create(Options(Accelerator.Bare), new LiveSource(null));
        return !machine.Processor.LoopThreading;
    }

    private static MachineOptions Options(Accelerator accelerator) => new()
    {
        Kind = MachineKind.Flat,
        Accelerator = accelerator,
        Memory = 1 << 20,
        MaxInstructions = 1000,
        Images = [new MachineImage("code", "self-test", Guest)],
    };

    private static Check SelfTest(Accelerator accelerator)
    {
        string name = $"self-test, {accelerator.ToString().ToLowerInvariant()}";
        const string purpose = "ten instructions are recorded and replayed";
        MachineOptions options = Options(accelerator);
        using var file = new MemoryStream();
        MachineStop stop;
        using (Machine machine = Machine.Create(options, new LiveSource(null)))
        {
            using var recorder = new Recorder(machine, new TraceWriter(file, TraceHeaders.Of(options, "self-test"), leaveOpen: true));
            stop = machine.Run();
        }

        using TraceReader reader = TraceReader.Open(file.ToArray());
        if (stop.Kind != MachineStopKind.Halted || TraceHeaders.TryOptions(reader, false, out MachineOptions replayed) is not null)
        {
            return new Check(name, stop.Text, "FAILED", purpose);
        }

        using var replayer = new Replayer(reader, replayed);
        ReplayResult result = replayer.Run();
        string value = string.Create(CultureInfo.InvariantCulture, $"{result.Retired} instructions, {result.Events} events, {result.Outcome.ToString().ToLowerInvariant()}");
        return new Check(name, value, result.Outcome == ReplayOutcome.Identical && result.Retired == 10 ? "passed" : "FAILED", purpose);
    }

    private sealed record Check(string Name, string Value, string State, string Purpose);
}
