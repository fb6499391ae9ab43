namespace VmFuzz.Machines;

/// <summary>Why a run ended.</summary>
public enum MachineStopKind : byte
{
    /// <summary>It goes on.</summary>
    None,
    /// <summary>The awaited text appeared on the console.</summary>
    SerialMatch,
    /// <summary>The instruction limit was reached.</summary>
    MaxInstructions,
    /// <summary>The guest wrote to the debug-exit port.</summary>
    DebugExit,
    /// <summary>The guest halted and nothing can wake it.</summary>
    Halted,
    /// <summary>Triple fault.</summary>
    Shutdown,
    /// <summary>The guest pulled the reset line.</summary>
    Reset,
    /// <summary>The user asked to stop.</summary>
    UserStop,
    /// <summary>An observer asked to stop: a replay diverged, or its trace ended.</summary>
    Observer,
    /// <summary>The guest needs something that the processor model does not have yet.</summary>
    Unimplemented,
    /// <summary>The hypervisor left the guest with an error (failed entry, internal error).</summary>
    HypervisorError,
    /// <summary>The guest takes events for ever and retires nothing.</summary>
    EventStorm,
    /// <summary>The guest powered the machine off.</summary>
    PowerOff,
    /// <summary>The run was paused where <see cref="Machine.PauseAt"/> or <see cref="Machine.PauseAfter"/> say.</summary>
    Paused,
    /// <summary>The guest reached for what an imported machine does not hold.</summary>
    NotHeld,
}

/// <summary>Why a run ended, with a line for people.</summary>
/// <param name="Kind">The kind.</param>
/// <param name="Text">One line: what happened and, where there is something to do, what to do.</param>
/// <param name="GuestStatus">Exit status the guest asked for, 0 to 255, or 0.</param>
public readonly record struct MachineStop(MachineStopKind Kind, string Text, int GuestStatus = 0);
