namespace VmFuzz.Replay.Gdb;

/// <summary>What a breakpoint waits for; the values are the protocol's.</summary>
public enum GdbBreakpointKind : byte
{
    /// <summary>An instruction; gdb calls it a software breakpoint. Guest memory is never changed for it.</summary>
    Software = 0,
    /// <summary>An instruction.</summary>
    Hardware = 1,
    /// <summary>A write of data.</summary>
    Write = 2,
    /// <summary>A read of data.</summary>
    Read = 3,
    /// <summary>A read or a write.</summary>
    Access = 4,
}

/// <summary>Why the guest stopped.</summary>
public enum GdbStopKind : byte
{
    /// <summary>gdb connected, or a person pressed Ctrl-C.</summary>
    Interrupted,
    /// <summary>A step is done.</summary>
    Stepped,
    /// <summary>A breakpoint.</summary>
    Breakpoint,
}

/// <summary>A stop.</summary>
/// <param name="Kind">Why.</param>
/// <param name="Breakpoint">What the breakpoint waited for.</param>
/// <param name="Address">For data, the linear address of the access.</param>
public readonly record struct GdbStop(GdbStopKind Kind, GdbBreakpointKind Breakpoint = default, ulong Address = 0);

/// <summary>What became of a request that changes something.</summary>
public enum GdbResult : byte
{
    /// <summary>Done.</summary>
    Done,
    /// <summary>There is no such register, no memory, or no more room.</summary>
    Failed,
    /// <summary>The run must not be changed: a trace could not hold it.</summary>
    Refused,
}

/// <summary>What <see cref="GdbServer"/> debugs. Addresses are linear.</summary>
public interface IGdbTarget
{
    /// <summary>The target description.</summary>
    ReadOnlySpan<byte> Description { get; }

    /// <summary>Number of registers.</summary>
    int RegisterCount { get; }

    /// <summary>Number of the program counter.</summary>
    int ProgramCounter { get; }

    /// <summary>Width of a register. Unit: bytes, at most 16.</summary>
    int WidthOf(int register);

    /// <summary>Reads a register, little-endian.</summary>
    void ReadRegister(int register, Span<byte> destination);

    /// <summary>Writes a register.</summary>
    GdbResult WriteRegister(int register, ReadOnlySpan<byte> source);

    /// <summary>Reads memory.</summary>
    /// <returns>How many bytes could be read.</returns>
    int ReadMemory(ulong address, Span<byte> destination);

    /// <summary>Writes memory.</summary>
    GdbResult WriteMemory(ulong address, ReadOnlySpan<byte> source);

    /// <summary>Sets a breakpoint.</summary>
    GdbResult Insert(GdbBreakpointKind kind, ulong address, ulong length);

    /// <summary>Takes a breakpoint away; one that is not there is no error.</summary>
    void Remove(GdbBreakpointKind kind, ulong address, ulong length);

    /// <summary>Lets the guest run, or execute one instruction.</summary>
    void Resume(bool step);

    /// <summary>Stops a running guest at its next instruction.</summary>
    void Interrupt();

    /// <summary>The run goes on without gdb.</summary>
    void Detach();

    /// <summary>The run ends.</summary>
    void Kill();

    /// <summary>Carries out a monitor command.</summary>
    /// <returns>Lines for the person.</returns>
    string Monitor(string command);
}
