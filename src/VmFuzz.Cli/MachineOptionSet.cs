using System.Collections.Immutable;
using System.CommandLine;
using System.Globalization;
using VmFuzz.Cli.Gdb;
using VmFuzz.Cpu;
using VmFuzz.Machines;
using VmFuzz.Replay;

namespace VmFuzz.Cli;

/// <summary>The options of <c>run</c> and <c>record</c>, and how they become <see cref="RunArguments"/>.</summary>
internal sealed class MachineOptionSet
{
    private static readonly ImmutableArray<(string Name, LogKinds Kind)> LogNames =
    [
        ("exits", LogKinds.Exits),
        ("int", LogKinds.Int),
        ("in_asm", LogKinds.Instructions),
        ("inputs", LogKinds.Inputs),
        ("first-access", LogKinds.FirstAccess),
    ];

    private readonly Option<string> _machine = Text("--machine", "flat|pc|microvm|unit-test", "Memory, devices and loader: 'flat' (code at an address, port 0xe9, serial port), 'pc' (what firmware expects), 'microvm' (a kernel without firmware) or 'unit-test' (a pc for bare-metal tests of hypervisors). Default: pc with -bios, microvm when -kernel is a kernel, otherwise flat.");
    private readonly Option<string> _accel = Text("--accel", "bare|kvm", "Who is in charge: 'bare' (the guest has the processor to itself, default) or 'kvm' (the guest runs in a VM of the hypervisor).");
    private readonly Option<string> _cpu = CpuOption();
    private readonly Option<string> _smp = Text("--smp", "N", $"Processors of a pc, 1 (default) to {MachineOptions.MaxProcessors}; they take turns on one thread.");
    private readonly Option<string> _scheduleSeed = Text("--schedule-seed", "SEED|entropy", "What the turns of several processors are drawn from: a number, or the operating system's randomness. Another seed is another interleaving; the trace has it. Default: 0.");
    private readonly Option<string> _memory = Text("--m", "SIZE", "Memory in MiB, or with suffix K, M, G. Default: 16M (flat), otherwise 128M.");
    private readonly Option<string> _bios = Text("--bios", "FILE", "Firmware of a pc: whole 4 KiB pages, at most 16 MiB.");
    private readonly Option<string> _kernel = Text("--kernel", "FILE", "Raw code of a flat guest; otherwise a kernel: a bzImage, an ELF image with a PVH entry, or one with a multiboot 1 header.");
    private readonly Option<string> _initrd = Text("--initrd", "FILE", "Initial RAM disk of a kernel, or its multiboot module.");
    private readonly Option<string> _append = Text("--append", "TEXT", "Command line of a kernel.");
    private readonly Option<string> _boot = Text("--boot", "auto|pvh|multiboot|linux64|linux32", "How a kernel is loaded and entered. Default: by what its image is; the compressed kernel of a bzImage is taken out and entered by PVH when it can be.");
    private readonly Option<string> _flatMode = Text("--flat-mode", "real16|protected32|long64", "Mode in which a flat guest starts. Default: long64.");
    private readonly Option<string> _loadAddress = Text("--load-address", "ADDRESS", "Where a flat guest is loaded and starts. Default: 0x10000.");
    private readonly Option<string> _rtc = Text("--rtc", "base=TIME", "Time at which the real-time clock starts: base=2000-01-01T00:00:00 (default), base=utc or base=localtime.");
    private readonly Option<string> _serial = Text("--serial", "stdio|file:PATH|none", "Where the first serial port leads. 'stdio' written out also connects piped standard input. A file is replaced, as QEMU does.");
    private readonly Option<string> _script = Text("--expect-script", "FILE", "Type on the console what the file says when the guest has printed what it says, a step a line: expect \"TEXT\", send \"TEXT\\r\", stop. Status 1 when it does not come to its end.");
    private readonly Option<string> _from = Text("--from", "FILE", "Go on from a snapshot (vmfuzz snapshot). The machine and its images are the snapshot's.");
    private readonly Option<string> _untilSerial = Text("--until-serial", "TEXT", "Stop when the guest has printed this; status 1 when it never does.");
    private readonly Option<string> _maxInstructions = Text("--max-instructions", "N", "Stop after so many retired instructions.");
    private readonly Option<string> _exitCost = Text("--exit-cost", "NS", "Virtual nanoseconds that a VM exit costs. Default: 1000.");
    private readonly Option<string> _log = Text("--log", "KINDS", $"Show events as they happen, separated by commas: {string.Join(", ", LogNames.Select(static n => n.Name))}.");
    private readonly Option<string> _logFile = Text("--log-file", "FILE", "Write the log to a file (replaced) and not to standard error.");
    private readonly Option<bool> _dumpState = new("--dump-state") { Description = "Show the processor's state at the end." };
    private readonly Option<bool> _check = CommandTree.CheckOption();
    private readonly Option<bool> _exitWithGuest = new("--exit-with-guest") { Description = "End with the status that the guest wrote to the debug-exit port." };
    private readonly Option<string> _chaos = Text("--chaos", "SEED|entropy", "Throw NMIs, spurious interrupts, kicks and typed bytes at random positions, and random values at RDRAND: from a seed, or from the operating system.");
    private readonly Option<string> _chaosNmis = Text("--chaos-nmis", "N", "Number of NMIs. Default: 100.");
    private readonly Option<string> _chaosInterrupts = Text("--chaos-interrupts", "N", "Number of spurious interrupts. Default: 100.");
    private readonly Option<string> _chaosKicks = Text("--chaos-kicks", "N", "Number of kicks. Default: 100.");
    private readonly Option<string> _chaosBytes = Text("--chaos-bytes", "N", "Number of typed bytes. Default: 100.");
    private readonly Option<string> _chaosFrom = Text("--chaos-from", "N", "Begin at this instruction, where the guest has handlers for NMIs. Default: 0.");
    private readonly Option<string> _chaosSpan = Text("--chaos-span", "N", "Spread them over so many instructions. Default: 2000000.");
    private readonly Option<bool> _json = CommandTree.JsonOption("The summary as one JSON object on standard output; the guest's console then goes to standard error.");

    private readonly GdbOptionSet _gdb;

    private readonly ImmutableArray<Option> _all;

    public MachineOptionSet(Command command)
    {
        _all =
        [
            _machine, _accel, _cpu, _smp, _scheduleSeed, _memory, _bios, _kernel, _initrd, _append, _boot, _flatMode, _loadAddress, _rtc, _serial,
            _script, _from, _untilSerial, _maxInstructions, _exitCost, _log, _logFile, _dumpState, _check, _exitWithGuest,
            _chaos, _chaosNmis, _chaosInterrupts, _chaosKicks, _chaosBytes, _chaosFrom, _chaosSpan, _json,
        ];
        foreach (Option option in _all)
        {
            command.Options.Add(option);
        }

        _gdb = new GdbOptionSet(command);
    }

    /// <summary>Name of the first of these options that was given; null for none.</summary>
    public string? FirstGiven(ParseResult parsed, bool butCpu = false) =>
        _all.FirstOrDefault(option => parsed.GetResult(option) is { Implicit: false } && !(butCpu && option == _cpu))?.Name;

    /// <summary>The processor's model.</summary>
    public string CpuOf(ParseResult parsed) => CpuOf(parsed.GetValue(_cpu));

    /// <summary>Checks everything and reads the images.</summary>
    public RunArguments Read(ParseResult parsed)
    {
        string? from = parsed.GetValue(_from);
        MachineOptions options = from is null ? New(parsed) : Resumed(parsed, from);
        options = options with
        {
            UntilSerial = parsed.GetValue(_untilSerial) ?? "",
            MaxInstructions = Number(parsed, _maxInstructions, 0, ulong.MaxValue >> 2),
        };
        if (parsed.GetValue(_maxInstructions) is not null && options.MaxInstructions == 0)
        {
            throw UserError.At("a run of no instructions", "--max-instructions 0", "give at least 1, or leave the option out for no limit");
        }

        if (parsed.GetValue(_untilSerial) is "")
        {
            throw UserError.At("there is no text to wait for", "--until-serial", "give a text, or leave the option out");
        }

        (SerialTarget serial, string serialPath) = SerialOf(parsed.GetValue(_serial));
        string? script = parsed.GetValue(_script);
        var arguments = new RunArguments
        {
            Options = options,
            InputPaths = [.. ((Option<string>[])[_bios, _kernel, _initrd, _script, _from]).Select(parsed.GetValue).OfType<string>()],
            Serial = serial,
            SerialPath = serialPath,
            Script = script is null ? null : InputFiles.Script(script),
            SerialExplicit = parsed.GetValue(_serial) is not null,
            Log = LogOf(parsed.GetValue(_log)),
            LogPath = parsed.GetValue(_logFile) ?? "",
            DumpState = parsed.GetValue(_dumpState),
            Check = parsed.GetValue(_check),
            ExitWithGuest = parsed.GetValue(_exitWithGuest),
            ScheduleSeed = ScheduleSeedOf(parsed.GetValue(_scheduleSeed)),
            Chaos = ChaosOf(parsed.GetValue(_chaos)),
            ChaosOptions = new ChaosOptions
            {
                Nmis = (int)Number(parsed, _chaosNmis, 100, 1_000_000),
                Interrupts = (int)Number(parsed, _chaosInterrupts, 100, 1_000_000),
                Kicks = (int)Number(parsed, _chaosKicks, 100, 1_000_000),
                TypedBytes = (int)Number(parsed, _chaosBytes, 100, 1_000_000),
                From = Number(parsed, _chaosFrom, 0, ulong.MaxValue >> 2),
                Span = Math.Max(1, Number(parsed, _chaosSpan, 2_000_000, ulong.MaxValue >> 2)),
            },
            Gdb = _gdb.Read(parsed),
            Json = parsed.GetValue(_json),
        };
        CheckCombinations(parsed, arguments);
        return options.Validate() is { } wrong ? throw new UserError(wrong) : arguments;
    }

    // A machine from its options.
    private MachineOptions New(ParseResult parsed)
    {
        string? bios = parsed.GetValue(_bios);
        string? kernel = parsed.GetValue(_kernel);
        MachineImage? kernelImage = kernel is null ? null : InputFiles.Kernel(kernel);
        (MachineKind kind, string? accelOfMachine) = MachineOf(parsed.GetValue(_machine), bios, kernelImage);
        var options = new MachineOptions
        {
            Kind = kind,
            Accelerator = AcceleratorOf(parsed.GetValue(_accel) ?? accelOfMachine),
            Cpu = CpuOf(parsed.GetValue(_cpu)),
            Processors = ProcessorsOf(parsed.GetValue(_smp)),
            Memory = MemoryOf(parsed.GetValue(_memory), kind),
            RtcBase = RtcOf(parsed.GetValue(_rtc)),
            FlatMode = FlatModeOf(parsed.GetValue(_flatMode)),
            LoadAddress = Number(parsed, _loadAddress, 0x10000, ulong.MaxValue >> 1),
            Boot = BootOf(parsed.GetValue(_boot)),
            CommandLine = parsed.GetValue(_append) ?? "",
            ExitCost = Number(parsed, _exitCost, 1000, 1_000_000_000),
        };
        CheckMachine(parsed, kind, bios, kernel);
        return WithImages(options, bios, kernelImage, parsed.GetValue(_initrd));
    }

    // The machine of a snapshot, which has all of that already.
    private MachineOptions Resumed(ParseResult parsed, string from)
    {
        Option<string>[] ofMachine = [_machine, _accel, _cpu, _smp, _scheduleSeed, _memory, _bios, _kernel, _initrd, _append, _boot, _flatMode, _loadAddress, _rtc, _exitCost];
        return ofMachine.FirstOrDefault(o => parsed.GetValue(o) is not null) is { } option
            ? throw UserError.At($"{option.Name} is for a new machine", $"--from {from}", "leave it out: the machine is the snapshot's")
            : InputFiles.Snapshot(from);
    }

    private static Option<string> Text(string name, string value, string description) =>
        new(name) { HelpName = value, Description = description };

    private void CheckMachine(ParseResult parsed, MachineKind kind, string? bios, string? kernel)
    {
        bool flat = kind == MachineKind.Flat;
        if (flat && bios is not null)
        {
            throw UserError.At("a flat machine has no firmware", $"-bios {bios}", "use -machine pc, or -kernel with raw code");
        }

        if (bios is not null && kernel is not null)
        {
            throw UserError.At("a machine starts firmware or a kernel, not both", $"-kernel {kernel}", "leave out -bios or -kernel");
        }

        if (kind is MachineKind.Microvm or MachineKind.UnitTest && bios is not null)
        {
            throw UserError.At($"a {NameOf(kind)} machine has no firmware", $"-bios {bios}", "use -machine pc, or -kernel FILE");
        }

        if ((flat || kernel is null) && ((Option<string>[])[_initrd, _append, _boot]).FirstOrDefault(o => parsed.GetValue(o) is not null) is { } ofKernel)
        {
            throw UserError.At($"{ofKernel.Name} goes with a kernel", $"-machine {NameOf(kind)}", "use -machine microvm or pc and -kernel with a kernel, or leave it out");
        }

        if (flat && kernel is null)
        {
            throw UserError.At("there is nothing to run", "-machine flat", "give raw code with -kernel FILE");
        }

        if (!flat && bios is null && kernel is null)
        {
            throw kind == MachineKind.Pc
                ? UserError.At("there is nothing to run", "-machine pc", "give firmware with -bios FILE, or a kernel with -kernel FILE")
                : UserError.At("there is nothing to run", $"-machine {NameOf(kind)}", "give a kernel with -kernel FILE");
        }

        if (!flat && (parsed.GetValue(_flatMode) ?? parsed.GetValue(_loadAddress)) is not null)
        {
            throw UserError.At("--flat-mode and --load-address are for flat machines", $"-machine {NameOf(kind)}", "leave them out");
        }
    }

    private void CheckCombinations(ParseResult parsed, RunArguments arguments)
    {
        if (arguments.Options.Processors == 1 && parsed.GetValue(_scheduleSeed) is { } seed)
        {
            throw UserError.At("one processor has no turns to draw", $"--schedule-seed {seed}", "add -smp 2, or leave it out");
        }

        if (arguments.LogPath.Length != 0 && arguments.Log == LogKinds.None)
        {
            throw UserError.At("there is nothing to log", "--log-file", "say what with --log");
        }

        if (arguments.Chaos.Length == 0 && ((Option<string>[])[_chaosNmis, _chaosInterrupts, _chaosKicks, _chaosBytes, _chaosFrom, _chaosSpan])
            .FirstOrDefault(o => parsed.GetValue(o) is not null) is { } option)
        {
            throw UserError.At("there is no chaos", option.Name, "add --chaos SEED or --chaos entropy");
        }

        var used = new List<string>(arguments.InputPaths);
        if (arguments.Serial == SerialTarget.File)
        {
            InputFiles.MustBeWritable(arguments.SerialPath, "-serial", used, overwrite: true);
            used.Add(arguments.SerialPath);
        }

        if (arguments.LogPath.Length != 0)
        {
            InputFiles.MustBeWritable(arguments.LogPath, "--log-file", used, overwrite: true);
        }
    }

    private static MachineOptions WithImages(MachineOptions options, string? bios, MachineImage? kernel, string? initrd)
    {
        var images = ImmutableArray.CreateBuilder<MachineImage>();
        if (bios is not null)
        {
            images.Add(InputFiles.Rom(bios));
        }

        if (kernel is not null)
        {
            images.Add(options.Kind == MachineKind.Flat ? kernel with { Role = MachineImage.CodeRole } : kernel);
        }

        if (initrd is not null)
        {
            images.Add(InputFiles.Initrd(initrd));
        }

        return options with { Images = images.ToImmutable() };
    }

    private static (MachineKind Kind, string? Accel) MachineOf(string? text, string? bios, MachineImage? kernel)
    {
        if (text is null)
        {
            return (bios is not null ? MachineKind.Pc : kernel is not null && kernel.IsKernel ? MachineKind.Microvm : MachineKind.Flat, null);
        }

        string[] parts = text.Split(',');
        string? accel = null;
        foreach (string part in parts.AsSpan(1))
        {
            accel = part.StartsWith("accel=", StringComparison.Ordinal)
                ? part[6..]
                : throw UserError.At($"a machine has no property '{part}'", $"-machine {text}", "only accel= can follow the name");
        }

        return parts[0] switch
        {
            "flat" => (MachineKind.Flat, accel),
            "pc" => (MachineKind.Pc, accel),
            "microvm" => (MachineKind.Microvm, accel),
            "unit-test" => (MachineKind.UnitTest, accel),
            _ => throw UserError.At($"there is no machine '{parts[0]}'", "-machine", "use flat, pc, microvm or unit-test"),
        };
    }

    private static string NameOf(MachineKind kind) => kind == MachineKind.UnitTest ? "unit-test" : kind.ToString().ToLowerInvariant();

    private static Accelerator AcceleratorOf(string? text) => text switch
    {
        null or "bare" => Accelerator.Bare,
        "kvm" => Accelerator.Kvm,
        _ => throw UserError.At($"there is no accelerator '{text}'", "-accel", "use bare or kvm"),
    };

    /// <summary>The <c>-cpu</c> option of a command.</summary>
    public static Option<string> CpuOption() => Text("--cpu", "MODEL[,+FEATURE][,-FEATURE]", $"Processor model: {string.Join(", ", CpuModels.Names)}, with features switched on or off (vmfuzz isa --features). Default: {MachineOptions.DefaultCpu}.");

    /// <summary>What <c>-cpu</c> says, after checking it.</summary>
    public static string CpuOf(string? text) =>
        text is null || CpuModels.TryParse(text, out _) is not { } wrong
            ? text ?? MachineOptions.DefaultCpu
            : throw new UserError($"-cpu: {wrong}");

    private static int ProcessorsOf(string? text)
    {
        string count = text is not null && text.StartsWith("cpus=", StringComparison.Ordinal) ? text[5..] : text ?? "1";
        return Quantities.TryNumber(count, out ulong processors) && processors is >= 1 and <= MachineOptions.MaxProcessors
            ? (int)processors
            : throw UserError.At($"'{text}' is not a number of processors", "-smp", $"give 1 to {MachineOptions.MaxProcessors}");
    }

    private static ulong ScheduleSeedOf(string? text)
    {
        if (text == "entropy")
        {
            Span<byte> bytes = stackalloc byte[8];
            System.Security.Cryptography.RandomNumberGenerator.Fill(bytes);
            return BitConverter.ToUInt64(bytes);
        }

        ulong seed = 0;
        return text is null || Quantities.TryNumber(text, out seed)
            ? seed
            : throw UserError.At($"'{text}' is not a seed", "--schedule-seed", "give a number, or 'entropy' for randomness of the operating system");
    }

    private static ulong MemoryOf(string? text, MachineKind kind)
    {
        if (text is null)
        {
            return kind == MachineKind.Flat ? 16UL << 20 : 128UL << 20;
        }

        string size = text.StartsWith("size=", StringComparison.Ordinal) ? text[5..] : text;
        if (!Quantities.TryMemory(size, out ulong bytes))
        {
            throw UserError.At($"'{text}' is not a size of memory", "-m", "write for instance 128M or 1G");
        }

        return bytes is 0 or > MachineOptions.MaxMemory || (bytes & 0xFFFFF) != 0
            ? throw UserError.At($"{bytes} bytes of memory cannot be had", $"-m {text}", $"give whole MiB, from 1M to {MachineOptions.MaxMemory >> 30}G")
            : bytes;
    }

    private static long RtcOf(string? text)
    {
        if (text is null)
        {
            return new MachineOptions().RtcBase;
        }

        if (text is "base=utc" or "base=localtime")
        {
            // The moment becomes an option of the machine, and so part of the trace.
            DateTimeOffset now = DateTimeOffset.Now;
            return now.ToUnixTimeSeconds() + (text == "base=localtime" ? (long)now.Offset.TotalSeconds : 0);
        }

        const DateTimeStyles styles = DateTimeStyles.AssumeUniversal | DateTimeStyles.AdjustToUniversal;
        string[] forms = ["yyyy-MM-dd", "yyyy-MM-dd'T'HH:mm:ss", "yyyy-MM-dd' 'HH:mm:ss"];
        if (!text.StartsWith("base=", StringComparison.Ordinal)
            || !DateTimeOffset.TryParseExact(text.AsSpan(5), forms, CultureInfo.InvariantCulture, styles, out DateTimeOffset time))
        {
            throw UserError.At($"'{text}' is not a start of the clock", "-rtc", "write base=2000-01-31, base=2000-01-31T23:59:59, base=utc or base=localtime");
        }

        return time.Year is < 1970 or > 2099
            ? throw UserError.At($"the clock cannot show the year {time.Year}", "-rtc", "give a year from 1970 to 2099")
            : time.ToUnixTimeSeconds();
    }

    private static FlatMode FlatModeOf(string? text) => text switch
    {
        null or "long64" => FlatMode.Long64,
        "protected32" => FlatMode.Protected32,
        "real16" => FlatMode.Real16,
        _ => throw UserError.At($"there is no mode '{text}'", "--flat-mode", "use real16, protected32 or long64"),
    };

    private static BootProtocol BootOf(string? text) => text switch
    {
        null or "auto" => BootProtocol.Auto,
        "pvh" => BootProtocol.Pvh,
        "multiboot" => BootProtocol.Multiboot,
        "linux64" => BootProtocol.Linux64,
        "linux32" => BootProtocol.Linux32,
        _ => throw UserError.At($"there is no boot protocol '{text}'", "--boot", "use auto, pvh, multiboot, linux64 or linux32"),
    };

    private static (SerialTarget Target, string Path) SerialOf(string? text) => text switch
    {
        null or "stdio" or "mon:stdio" => (SerialTarget.Stdio, ""),
        "none" => (SerialTarget.None, ""),
        _ when text.StartsWith("file:", StringComparison.Ordinal) => (SerialTarget.File, text[5..]),
        _ => throw UserError.At($"a serial port cannot lead to '{text}'", "-serial", "use stdio, file:PATH or none"),
    };

    private static LogKinds LogOf(string? text)
    {
        LogKinds kinds = LogKinds.None;
        foreach (string name in text?.Split(',') ?? [])
        {
            LogKinds kind = LogNames.FirstOrDefault(n => n.Name == name).Kind;
            kinds |= kind != LogKinds.None
                ? kind
                : throw UserError.At($"there is no log '{name}'", "--log", $"use {string.Join(", ", LogNames.Select(static n => n.Name))}");
        }

        return kinds;
    }

    private static string ChaosOf(string? text) =>
        text is null || text == "entropy" || Quantities.TryNumber(text, out _)
            ? text ?? ""
            : throw UserError.At($"'{text}' is not a seed", "--chaos", "give a number, or 'entropy' for randomness of the operating system");

    private static ulong Number(ParseResult parsed, Option<string> option, ulong otherwise, ulong most)
    {
        string? text = parsed.GetValue(option);
        if (text is null)
        {
            return otherwise;
        }

        if (!Quantities.TryNumber(text, out ulong value))
        {
            throw UserError.At($"'{text}' is not a number", option.Name, "write decimal digits, or 0x and hexadecimal ones");
        }

        return value <= most
            ? value
            : throw UserError.At($"{text} is too large", option.Name, $"give at most {most}");
    }
}
