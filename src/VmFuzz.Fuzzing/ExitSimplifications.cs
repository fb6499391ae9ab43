using System.Collections.Immutable;

namespace VmFuzz.Fuzzing;

/// <summary>Steps by which an exit becomes simpler, each tried alone.</summary>
public static class ExitSimplifications
{
    /// <summary>The steps. One that has nothing to do gives an equal exit.</summary>
    public static ImmutableArray<Func<MadeExit, MadeExit>> All { get; } =
    [
        static e => e with { Registers = [] },
        static e => e with { GuestState = [] },
        static e => e with { Exit = e.Exit with { IdtVectoringInfo = default, IdtVectoringError = 0 } },
        static e => e with { Exit = e.Exit with { InterruptionInfo = default, InterruptionError = 0 } },
        static e => e with { Exit = e.Exit with { InterruptionError = 0 } },
        static e => e with { Exit = e.Exit with { GuestLinear = 0 } },
        static e => e with { Exit = e.Exit with { GuestPhysical = 0 } },
        static e => e with { Exit = e.Exit with { InstructionInfo = 0 } },
        static e => e with { Exit = e.Exit with { Qualification = 0 } },
        static e => e with { Exit = e.Exit with { Qualification = e.Exit.Qualification & 0xFFFF_FFFF } },
    ];
}
