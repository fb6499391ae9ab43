using VmFuzz.Cli.Gdb;
using VmFuzz.Machines;
using VmFuzz.Replay;

namespace VmFuzz.Cli;

/// <summary>Where the guest's serial port leads.</summary>
internal enum SerialTarget : byte
{
    Stdio,
    File,
    None,
}

/// <summary>What <c>--log</c> shows.</summary>
[Flags]
internal enum LogKinds : byte
{
    None = 0,
    Exits = 1,
    Int = 2,
    Instructions = 4,
    Inputs = 8,
    FirstAccess = 16,
}

/// <summary>A snapshot to make: where, and into which file.</summary>
/// <param name="At">Retired instructions; <see cref="ulong.MaxValue"/> for none.</param>
/// <param name="Text">Text on the console; null for none.</param>
/// <param name="Path">The file.</param>
/// <param name="Force">Whether an existing file is replaced.</param>
internal sealed record SnapshotRequest(ulong At, string? Text, string Path, bool Force)
{
    /// <summary>Tells a machine where to pause.</summary>
    public void Pause(Machine machine)
    {
        machine.PauseAt = At;
        machine.PauseAfter = Text is null ? null : new ConsoleMatch(Text);
    }
}

/// <summary>Everything that <c>run</c> and <c>record</c> were asked for, checked.</summary>
internal sealed record RunArguments
{
    public required MachineOptions Options { get; init; }

    /// <summary>Files read, so that no output may name one of them.</summary>
    public required IReadOnlyList<string> InputPaths { get; init; }

    public SerialTarget Serial { get; init; }

    public string SerialPath { get; init; } = "";

    /// <summary>What to wait for on the console and what to type then; null for nothing.</summary>
    public ConsoleScript? Script { get; init; }

    /// <summary>Whether <c>-serial stdio</c> was written out, which connects standard input too.</summary>
    public bool SerialExplicit { get; init; }

    public LogKinds Log { get; init; }

    public string LogPath { get; init; } = "";

    public bool DumpState { get; init; }

    public bool Check { get; init; }

    public bool ExitWithGuest { get; init; }

    /// <summary>Seed, <c>entropy</c>, or empty.</summary>
    public string Chaos { get; init; } = "";

    /// <summary>Seed of the turns that several VCPUs take.</summary>
    public ulong ScheduleSeed { get; init; }

    public ChaosOptions ChaosOptions { get; init; } = new();

    /// <summary>Where gdb connects; null for no gdb.</summary>
    public GdbArguments? Gdb { get; init; }

    /// <summary>A snapshot that the run is for; null for none.</summary>
    public SnapshotRequest? Snapshot { get; init; }

    public bool Json { get; init; }
}
