namespace VmFuzz.Cli;

/// <summary>Exit status of the command.</summary>
internal static class ExitStatus
{
    /// <summary>Fine.</summary>
    public const int Fine = 0;

    /// <summary>A finding, a divergence, or an awaited text that did not come.</summary>
    public const int Finding = 1;

    /// <summary>Wrong usage or unreadable input.</summary>
    public const int Usage = 2;

    /// <summary>An engine bug.</summary>
    public const int EngineBug = 3;
}
