namespace VmFuzz.Coverage;

/// <summary>What went wrong.</summary>
public enum CoverageErrorKind : byte
{
    /// <summary>The bytes are not a PE image, or a truncated or contradictory one.</summary>
    Malformed,
    /// <summary>A PE image without managed metadata.</summary>
    NotManaged,
    /// <summary>The image holds native code beside IL (mixed mode or ahead-of-time compiled).</summary>
    NotILOnly,
    /// <summary>A module without an assembly manifest.</summary>
    NotAssembly,
    /// <summary>The assembly has probes already.</summary>
    AlreadyInstrumented,
    /// <summary>The assembly must stay as it is, or must stay in the default context.</summary>
    NotAllowed,
    /// <summary>The assembly, type or method does not exist, or has another shape than is asked for.</summary>
    NotFound,
    /// <summary>The map has no room left, and can no longer grow.</summary>
    MapFull,
}

/// <summary>A failure as a value.</summary>
/// <param name="Kind">What went wrong.</param>
/// <param name="Message">One line for people.</param>
public sealed record CoverageError(CoverageErrorKind Kind, string Message)
{
    /// <inheritdoc/>
    public override string ToString() => $"{Kind}: {Message}";
}
