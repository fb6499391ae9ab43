using VmFuzz.Cpu;

namespace VmFuzz.Machines.Vectors;

/// <summary>Why a vector ended.</summary>
public enum VectorStop : byte
{
    /// <summary>As many instructions as it allows retired, or as many events were delivered.</summary>
    Max,

    /// <summary>HLT.</summary>
    Hlt,

    /// <summary>An event that would go through the IDT, of which there is none.</summary>
    Fault,

    /// <summary>A triple fault.</summary>
    Shutdown,

    /// <summary>A write to port 0xf4.</summary>
    Exit,

    /// <summary>An instruction that the processor does not model.</summary>
    Unimplemented,
}

/// <summary>How a vector ended.</summary>
/// <param name="Stop">Why.</param>
/// <param name="Retired">Instructions retired.</param>
/// <param name="Event">The event, for <see cref="VectorStop.Fault"/>.</param>
/// <param name="Unimplemented">Which instruction, for <see cref="VectorStop.Unimplemented"/>.</param>
public readonly record struct VectorOutcome(VectorStop Stop, ulong Retired, GuestEvent Event, string Unimplemented);
