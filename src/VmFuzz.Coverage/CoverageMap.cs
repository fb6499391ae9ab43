using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace VmFuzz.Coverage;

/// <summary>
/// The map of hit counts, one for the process: native, zeroed, at a fixed address once it is in use, one byte a probe.
/// Counts wrap at 256. The engine never reads it. Not safe for several threads, as the engine is single-threaded.
/// </summary>
/// <remarks>
/// Until first use (<see cref="Counts"/>, <see cref="Clear"/>, an instrumented method) it has no storage, may grow, and
/// may be redirected; after that address and capacity never change.
/// </remarks>
public static unsafe class CoverageMap
{
    /// <summary>Least capacity: 64 KiB.</summary>
    public const int MinCapacity = 1 << 16;

    /// <summary>Capacity that is reserved unless told otherwise: 1 MiB, of which only touched pages take memory.</summary>
    public const int DefaultCapacity = 1 << 20;

    /// <summary>Largest capacity: 256 MiB.</summary>
    public const int MaxCapacity = 1 << 28;

    private const int NearCapacity = 16 << 20;

    // SAFETY: one zeroed allocation for the life of the process, never freed, so the pointer is valid whenever it can be
    // read. What is mutable lives behind it; this field itself is written once by the type's initialiser.
    private static readonly State* Shared = Create();

    /// <summary>Bytes that the map has or will have.</summary>
    public static int Capacity => Shared->Capacity;

    /// <summary>Bytes given out by <see cref="TryAllocate"/>; what the scans look at.</summary>
    public static int Used => Shared->Used;

    /// <summary>Whether address and capacity are settled.</summary>
    public static bool IsInUse => Shared->Frozen != 0;

    /// <summary>Whether the bytes belong to an outside fuzzer.</summary>
    public static bool IsExternal => Shared->External != null;

    /// <summary>The counts that were given out. Settles the map.</summary>
    // SAFETY: Used <= Capacity always (TryAllocate, UseExternal), and Map covers Capacity bytes for the process's life.
    public static Span<byte> Counts => new(CoverageProbe.Map, Shared->Used);

    /// <summary>Address of the first count, for fuzzers that read the map themselves. Settles the map.</summary>
    public static byte* Address => CoverageProbe.Map;

    /// <summary>Grows what is reserved.</summary>
    /// <param name="capacity">Bytes, up to <see cref="MaxCapacity"/>.</param>
    /// <returns>False when the map is in use or external and smaller than that, or the number is too large.</returns>
    public static bool TryReserve(int capacity)
    {
        if (capacity <= Shared->Capacity)
        {
            return true;
        }

        if (IsInUse || IsExternal || capacity > MaxCapacity)
        {
            return false;
        }

        Shared->Capacity = capacity;
        return true;
    }

    /// <summary>Puts the map into memory that somebody else made, for instance a fuzzer's shared memory.</summary>
    /// <param name="cells">First byte; the caller keeps the region mapped, readable and writable until the process ends.</param>
    /// <param name="length">Bytes in the region, at least <see cref="Used"/>.</param>
    /// <returns>False, and nothing has changed, when the map is in use, or the region is null or too small.</returns>
    // SAFETY: the caller's promise about the region is the whole condition; the length is checked against what is used.
    public static bool UseExternal(byte* cells, int length)
    {
        if (IsInUse || cells == null || length <= 0 || length < Shared->Used)
        {
            return false;
        }

        Shared->External = cells;
        Shared->Capacity = length;
        return true;
    }

    /// <summary>Gives out a range of probes; the map grows while it can.</summary>
    /// <param name="count">How many, 0 or more.</param>
    /// <param name="first">The first one.</param>
    /// <returns>False when there is no room; nothing has changed then.</returns>
    public static bool TryAllocate(int count, out int first)
    {
        first = Shared->Used;
        if (count < 0 || count > MaxCapacity - first || !TryReserve(first + count))
        {
            return false;
        }

        Shared->Used = first + count;
        return true;
    }

    /// <summary>Sets all counts to 0, and the place before the first probe to none. Settles the map.</summary>
    public static void Clear()
    {
        Counts.Clear();
        Shared->Previous = 0;
    }

    /// <summary>The counts as buckets (see <see cref="CoverageCounts.Bucket"/>).</summary>
    /// <param name="buckets">At least <see cref="Used"/> bytes; the rest is left alone.</param>
    public static void Snapshot(Span<byte> buckets) => CoverageCounts.Classify(Counts, buckets);

    /// <summary>How many probes were hit.</summary>
    public static int CountSet() => CoverageCounts.CountSet(Counts);

    /// <summary>A hash of the buckets; 0 for an empty map.</summary>
    public static ulong Hash() => CoverageCounts.Hash(Counts);

    // Settles the map: its address is what every probe has as a constant from now on.
    internal static byte* Settle()
    {
        if (Shared->Frozen == 0)
        {
            Shared->Cells = Shared->External != null ? Shared->External : Allocate(Shared->Capacity);
            Shared->Frozen = 1;
        }

        return Shared->Cells;
    }

    internal static int* PreviousLocation => &Shared->Previous;

    // Memory of a type lies near compiled code, which reaches it by a short address: a probe has half the bytes. There is
    // little of that room, so a large map has to do without.
    // SAFETY: zeroed, and never freed: this type is not unloaded, and compiled probes hold the address.
    private static byte* Allocate(int size) => size <= NearCapacity
        ? (byte*)RuntimeHelpers.AllocateTypeAssociatedMemory(typeof(CoverageMap), size)
        : (byte*)NativeMemory.AllocZeroed((nuint)size);

    private static State* Create()
    {
        State* state = (State*)Allocate(sizeof(State));
        state->Capacity = DefaultCapacity;
        return state;
    }

    private struct State
    {
        public byte* Cells;
        public byte* External;
        public int Capacity;
        public int Used;
        public int Previous;
        public int Frozen;
    }
}
