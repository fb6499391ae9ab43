namespace VmFuzz.Fuzzing;

/// <summary>A finding, in a status.</summary>
/// <param name="Key">What findings are told apart by.</param>
/// <param name="File">Where it was saved, relative to the campaign's directory; empty while it could not be written.</param>
/// <param name="Execution">Index of the execution that showed it first.</param>
/// <param name="Count">How often it was seen since the campaign was opened.</param>
/// <param name="Text">What was expected and what was seen; empty for one read back from the directory.</param>
public sealed record FindingStatus(string Key, string File, ulong Execution, ulong Count, string Text);

/// <summary>Figures of a campaign. Everything but the times is a function of the seed, the inputs and the executions.</summary>
public sealed record CampaignStatus
{
    /// <summary>Executions, earlier sessions included; repetitions of an input are not counted.</summary>
    public ulong Executions { get; set; }

    /// <summary>Index of the next execution. At least <see cref="Executions"/>: a resumed campaign leaves indexes out.</summary>
    public ulong Next { get; set; }

    /// <summary>Epochs begun since the campaign was opened.</summary>
    public ulong Epochs { get; set; }

    /// <summary>Inputs in the queue.</summary>
    public int Corpus { get; set; }

    /// <summary>Favoured inputs, as of the epoch.</summary>
    public int Favoured { get; set; }

    /// <summary>Inputs in the queue that this campaign found itself.</summary>
    public int Found { get; set; }

    /// <summary>Inputs in the queue from other workers.</summary>
    public int Imported { get; set; }

    /// <summary>Inputs in the queue not mutated since the campaign was opened.</summary>
    public int Pending { get; set; }

    /// <summary>Favoured ones among them.</summary>
    public int PendingFavoured { get; set; }

    /// <summary>Number of the queue entry that was mutated last.</summary>
    public uint CurrentEntry { get; set; }

    /// <summary>Mutated executions since the campaign was opened, divided by the size of the queue at the time: passes over it.</summary>
    public ulong Cycles { get; set; }

    /// <summary>Probes seen.</summary>
    public int ProbesSeen { get; set; }

    /// <summary>Probes there are.</summary>
    public int ProbesTotal { get; set; }

    /// <summary>Semantic features seen.</summary>
    public int Features { get; set; }

    /// <summary>Longest line of descent.</summary>
    public int Deepest { get; set; }

    /// <summary>Stable probes and features among those seen. Unit: hundredths of a percent.</summary>
    public int Stability { get; set; }

    /// <summary>VM exits since the campaign was opened.</summary>
    public ulong Exits { get; set; }

    /// <summary>Guest instructions since the campaign was opened.</summary>
    public ulong Instructions { get; set; }

    /// <summary>Executions run again under other conditions since the campaign was opened.</summary>
    public ulong DeepRuns { get; set; }

    /// <summary>When an input was kept last. Milliseconds since the campaign began; 0 for never.</summary>
    public ulong LastFind { get; set; }

    /// <summary>When there was a new finding last. Milliseconds since the campaign began; 0 for never.</summary>
    public ulong LastFinding { get; set; }

    /// <summary>Milliseconds since the campaign began, earlier sessions included.</summary>
    public ulong Time { get; set; }

    /// <summary>Findings, oldest first.</summary>
    public IReadOnlyList<FindingStatus> Findings { get; set; } = [];

    /// <summary>The mutators that brought most, best first; at most ten.</summary>
    public IReadOnlyList<MutatorYield> Yields { get; set; } = [];

    /// <summary>Things that could not be written yet; they are tried again.</summary>
    public int Unwritten { get; set; }
}
