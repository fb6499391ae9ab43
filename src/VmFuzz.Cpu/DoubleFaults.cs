using VmFuzz.Arch;

namespace VmFuzz.Cpu;

/// <summary>What becomes of a fault during the delivery of an event.</summary>
internal enum FaultCombination : byte
{
    /// <summary>The second is delivered instead.</summary>
    Serial,

    /// <summary>#DF.</summary>
    DoubleFault,

    /// <summary>Shutdown.</summary>
    TripleFault,
}

/// <summary>The table of double-fault conditions (SDM "Interrupt 8 - Double Fault Exception").</summary>
internal static class DoubleFaults
{
    private enum Class : byte
    {
        Benign,
        Contributory,
        PageFault,
        DoubleFault,
    }

    /// <summary>Combines an event with a fault of its delivery.</summary>
    public static FaultCombination Combine(in GuestEvent first, in GuestEvent second)
    {
        Class second2 = ClassOf(second);
        return ClassOf(first) switch
        {
            Class.Contributory when second2 == Class.Contributory => FaultCombination.DoubleFault,
            Class.PageFault when second2 is Class.Contributory or Class.PageFault => FaultCombination.DoubleFault,
            Class.DoubleFault when second2 is Class.Contributory or Class.PageFault => FaultCombination.TripleFault,
            _ => FaultCombination.Serial,
        };
    }

    private static Class ClassOf(in GuestEvent raised) => raised.Type != EventType.HardwareException
        ? Class.Benign
        : raised.Vector switch
        {
            Vector.De or Vector.Ts or Vector.Np or Vector.Ss or Vector.Gp or Vector.Cp => Class.Contributory,
            Vector.Pf or Vector.Ve => Class.PageFault,
            Vector.Df => Class.DoubleFault,
            _ => Class.Benign,
        };
}
