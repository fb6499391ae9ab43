namespace VmFuzz.Fuzzing;

/// <summary>What running a finding or an input again showed.</summary>
/// <param name="Probe">What the run did.</param>
/// <param name="Still">Whether it shows what was recorded; without a record, whether anything broke.</param>
/// <param name="SameKey">Whether the recorded key broke; null without a record.</param>
/// <param name="SameDigest">Whether the recorded digest was left; null when none was recorded.</param>
/// <param name="SameEngine">Whether this engine is the recorded one; null without a record.</param>
public sealed record Reproduced(InputProbe Probe, bool Still, bool? SameKey, bool? SameDigest, bool? SameEngine);

/// <summary>Runs a finding or an input again.</summary>
public static class Reproducer
{
    /// <summary>Runs an input on a fresh executor and compares with what was recorded.</summary>
    /// <param name="create">Makes the executor.</param>
    /// <param name="input">The input.</param>
    /// <param name="recorded">The finding, or null for an input of which nothing is known.</param>
    /// <param name="here">This engine.</param>
    public static Reproduced Run(Func<IFuzzExecutor> create, FuzzInput input, Finding? recorded, EngineIdentity here)
    {
        ArgumentNullException.ThrowIfNull(here);
        InputProbe probe = InputProbe.Look(create, input, recorded?.Violation.Key);
        if (recorded is null)
        {
            return new(probe, probe.Violation is not null, null, null, null);
        }

        bool same = probe.Violation?.Key == recorded.Violation.Key;
        return new(probe, same, same, recorded.Digest is { } digest ? digest == probe.Digest : null, here == recorded.Campaign.Engine);
    }
}
