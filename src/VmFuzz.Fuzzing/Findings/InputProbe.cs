namespace VmFuzz.Fuzzing;

/// <summary>What one look at an input on a fresh executor showed.</summary>
/// <param name="Violation">What broke, or null.</param>
/// <param name="Deep">Whether only an oracle of several runs saw it.</param>
/// <param name="Digest">Digest of the single run.</param>
/// <param name="Exits">VM exits of the single run.</param>
/// <param name="Instructions">Guest instructions of the single run.</param>
public sealed record InputProbe(Violation? Violation, bool Deep, ulong Digest, ulong Exits, ulong Instructions)
{
    /// <summary>Runs an input on a fresh executor: once, and when that does not show what is looked for, also deep.</summary>
    /// <param name="create">Makes the executor.</param>
    /// <param name="input">The input.</param>
    /// <param name="key">The key that is looked for; null looks for anything.</param>
    public static InputProbe Look(Func<IFuzzExecutor> create, FuzzInput input, string? key)
    {
        ArgumentNullException.ThrowIfNull(create);
        ArgumentNullException.ThrowIfNull(input);
        using IFuzzExecutor executor = create();
        Execution single = executor.Run(input);
        ulong digest = executor.Digest();
        if (single.Violation is { } found && (key is null || found.Key == key))
        {
            return new(found, Deep: false, digest, single.Exits, single.Instructions);
        }

        Violation? deep = executor.RunDeep(input);
        return deep is not null && (key is null || deep.Key == key || single.Violation is null)
            ? new(deep, Deep: true, digest, single.Exits, single.Instructions)
            : new(single.Violation, Deep: false, digest, single.Exits, single.Instructions);
    }
}
