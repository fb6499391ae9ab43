namespace VmFuzz.Cpu.Regions;

/// <summary>What a compiler of regions knows of the lazy flags at a place: their kind, and more than the kind says.</summary>
internal enum KnownFlags
{
    /// <summary>Not reached yet, while places are worked out.</summary>
    Unreached,

    /// <summary>Any kind.</summary>
    Unknown,

    /// <summary><see cref="LazyKind.Sub"/> without a borrow: comparing the operands decides.</summary>
    Compare,

    /// <summary><see cref="LazyKind.Sub"/> with a borrow.</summary>
    Borrow,

    /// <summary><see cref="LazyKind.Add"/> of a logic operation: CF and OF are 0.</summary>
    Logic,

    /// <summary><see cref="LazyKind.Add"/>.</summary>
    Add,

    /// <summary><see cref="LazyKind.Inc"/>.</summary>
    Inc,

    /// <summary><see cref="LazyKind.Dec"/>.</summary>
    Dec,

    /// <summary><see cref="LazyKind.Given"/>.</summary>
    Given,
}

/// <summary>Arithmetic of <see cref="KnownFlags"/>.</summary>
internal static class KnownFlagsRules
{
    /// <summary>The kind that the state holds.</summary>
    public static LazyKind Lazy(this KnownFlags known) => known switch
    {
        KnownFlags.Compare or KnownFlags.Borrow => LazyKind.Sub,
        KnownFlags.Logic or KnownFlags.Add => LazyKind.Add,
        KnownFlags.Inc => LazyKind.Inc,
        KnownFlags.Dec => LazyKind.Dec,
        KnownFlags.Given => LazyKind.Given,
        _ => throw new ArgumentOutOfRangeException(nameof(known)),
    };

    /// <summary>What is known where two ways meet.</summary>
    public static KnownFlags Meet(this KnownFlags known, KnownFlags other) =>
        known == KnownFlags.Unreached ? other
        : other == KnownFlags.Unreached || known == other ? known
        : KnownFlags.Unknown;
}
