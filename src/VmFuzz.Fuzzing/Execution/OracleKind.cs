namespace VmFuzz.Fuzzing;

/// <summary>What kind of promise an oracle watches. None of them knows any particular bug.</summary>
public enum OracleKind : byte
{
    /// <summary>The engine throws, overflows its stack, runs for ever, or allocates beyond its bound.</summary>
    Crash = 1,
    /// <summary>One input gives two digests.</summary>
    Determinism = 2,
    /// <summary>Two ways to run one guest differ in what it can observe.</summary>
    Equivalence = 3,
    /// <summary>A kick, a cancelled entry or a flush changes what the guest can observe.</summary>
    Perturbation = 4,
    /// <summary>Getting and setting all state in the middle changes the run.</summary>
    Migration = 5,
    /// <summary>What a guest does ends its VM, or keeps it from going on.</summary>
    GuestKill = 6,
    /// <summary>A pending event is neither injected nor waited for nor blocked; events are lost or doubled.</summary>
    Liveness = 7,
    /// <summary>A completed instruction does not advance RIP, end shadows, trap.</summary>
    Retire = 8,
    /// <summary>A handler changed what its row does not declare.</summary>
    Frame = 9,
    /// <summary>A check of privilege, mode, reserved bits or canonical form is missing.</summary>
    Privilege = 10,
    /// <summary>Rights of a translation exceed what the guest and its slots give.</summary>
    Translation = 11,
    /// <summary>Something of the host is not as it was, or reached the guest.</summary>
    Ledger = 14,
}
