using System.Collections.Immutable;
using VmFuzz.Machines;

namespace VmFuzz.Testing;

/// <summary>What running an atom of a program involves; a generator is told which are wanted.</summary>
[Flags]
public enum AtomTraits
{
    /// <summary>Registers, flags and the data area only.</summary>
    None = 0,
    /// <summary>Writes to the console.</summary>
    Console = 1,
    /// <summary>Reads or writes ports of devices.</summary>
    Ports = 2,
    /// <summary>Reads the time-stamp counter.</summary>
    Time = 4,
    /// <summary>Asks for random values.</summary>
    Random = 8,
    /// <summary>Halts until an interrupt comes.</summary>
    Halts = 16,
    /// <summary>Raises an exception, which ends the run.</summary>
    Faults = 32,
    /// <summary>Control registers, INVLPG, WBINVD and other privileged instructions.</summary>
    Privileged = 64,
    /// <summary>Executes CPUID.</summary>
    Identity = 128,
    /// <summary>Changes code that is executed.</summary>
    ModifiesCode = 256,
    /// <summary>Changes IF.</summary>
    InterruptFlag = 512,
    /// <summary>Software interrupts.</summary>
    Interrupts = 1024,
    /// <summary>Reads unmapped physical addresses.</summary>
    Mmio = 2048,
    /// <summary>Everything.</summary>
    All = 4095,
}

/// <summary>A piece of a random program that can stand anywhere and be left out: position-independent, one entry, one exit.</summary>
/// <param name="Code">The bytes.</param>
/// <param name="Traits">What it involves.</param>
public sealed record GuestAtom(ImmutableArray<byte> Code, AtomTraits Traits)
{
    /// <summary>Makes an atom for code of a mode, whose data lie at <see cref="GuestLayout.Of"/>.</summary>
    /// <param name="mode">The mode.</param>
    /// <param name="seed">Same seed, same atom.</param>
    /// <param name="allowed">What it may involve.</param>
    public static GuestAtom Make(FlatMode mode, ulong seed, AtomTraits allowed) => AtomMaker.Of(mode).Make(seed, allowed);
}
