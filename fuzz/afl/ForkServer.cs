namespace VmFuzz.Fuzz.Afl;

/// <summary>
/// The names and numbers of AFL++'s fork server: two pipes of four-byte words, two segments of shared memory.
/// </summary>
internal static class ForkServer
{
    /// <summary>Requests come here.</summary>
    public const int Control = 198;

    /// <summary>Answers go there: the hello, then process number and wait status for each request.</summary>
    public const int Status = 199;

    /// <summary>Variable with the number of the segment that is the coverage map.</summary>
    public const string MapVariable = "__AFL_SHM_ID";

    /// <summary>Variable with the number of the segment that holds test cases: length (32 bits), then the bytes.</summary>
    public const string CaseVariable = "__AFL_SHM_FUZZ_ID";

    /// <summary>The wait status of a process that ended by SIGABRT: what a finding looks like to AFL++.</summary>
    public const uint Aborted = 6;

    /// <summary>Largest map that the hello can name. Unit: bytes.</summary>
    public const int MaxMap = 1 << 23;

    private const uint Enabled = 0x8000_0001;
    private const uint HasMapSize = 0x4000_0000;
    private const uint NewComparisonLog = 0x0200_0000;
    private const uint SharedCases = 0x0100_0000;

    /// <summary>The hello.</summary>
    /// <param name="map">Size of the map in bytes, 1 to <see cref="MaxMap"/>.</param>
    /// <param name="sharedCases">Whether test cases come through shared memory.</param>
    public static uint Hello(int map, bool sharedCases) =>
        Enabled | HasMapSize | ((uint)(map - 1) << 1) | (sharedCases ? NewComparisonLog | SharedCases : 0);

    /// <summary>The wait status for the exit code of a process as .NET gives it: signals are above 128.</summary>
    /// <remarks>AFL++ takes only signals for crashes; here nothing else that ends a worker in the middle of a case is fine either.</remarks>
    public static uint StatusOf(int exitCode) => exitCode > 128 ? (uint)(exitCode - 128) & 0x7F : Aborted;
}

/// <summary>What AFL++ still waits for when a worker is gone; the supervisor pays it.</summary>
internal static class Debt
{
    /// <summary>Nothing: no request is open.</summary>
    public const int None = 0;

    /// <summary>A process number and a status.</summary>
    public const int Both = 1;

    /// <summary>A status.</summary>
    public const int Status = 2;
}
