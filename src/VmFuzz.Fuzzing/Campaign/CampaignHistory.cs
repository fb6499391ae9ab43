using System.Collections.Immutable;

namespace VmFuzz.Fuzzing;

/// <summary>An input of a campaign made again.</summary>
/// <param name="Input">The input.</param>
/// <param name="Source">Number of the queue entry that it is or was made from, or null.</param>
/// <param name="Operation">Mutators that made it; empty for a seed.</param>
/// <param name="Digest">Digest noted when it ran, or null.</param>
public sealed record MadeInput(FuzzInput Input, uint? Source, string Operation, ulong? Digest);

/// <summary>What an input made again did.</summary>
/// <param name="Made">The input.</param>
/// <param name="Digest">Digest of everything that it left.</param>
/// <param name="Violation">What it broke, or null.</param>
public sealed record RerunResult(MadeInput Made, ulong Digest, Violation? Violation);

/// <summary>Makes inputs of executions again from what is in a campaign's directory. Runs nothing and changes nothing.</summary>
public static class CampaignHistory
{
    /// <summary>Makes an input.</summary>
    /// <param name="corpus">The directory.</param>
    /// <param name="identity">What its campaign is.</param>
    /// <param name="target">The kind of the campaign's target.</param>
    /// <param name="execution">Index of the execution.</param>
    /// <param name="made">The input, when the result is null.</param>
    /// <returns>Why there is none, in one line; or null.</returns>
    public static string? TryInputOf(Corpus corpus, CampaignIdentity identity, FuzzTarget target, ulong execution, out MadeInput? made)
    {
        ArgumentNullException.ThrowIfNull(corpus);
        ArgumentNullException.ThrowIfNull(identity);
        made = null;
        CampaignLog log = CampaignLog.Read(corpus, execution);
        if (log.Around is not { } epoch)
        {
            return $"execution {execution} is in no epoch of {corpus.Root}";
        }

        InputQueue queue = InputQueue.Read(corpus, target);
        int available = queue.AvailableTo(execution, epoch);
        if (epoch.Seeds)
        {
            if (available >= queue.Entries.Count || queue.Entries[available].Execution != execution)
            {
                return $"execution {execution} was that of a seed which is not in the queue of {corpus.Root}";
            }

            QueueEntry seed = queue.Entries[available];
            made = new MadeInput(seed.Input, seed.Id, "", log.Digest);
            return null;
        }

        InputMaker maker = new(identity.Mode, target, identity.Seed);
        if (!maker.Begin(epoch, queue.Entries))
        {
            return $"what execution {execution} depended on is missing in {Path.Combine(corpus.Root, EpochRecord.FileName)}";
        }

        FuzzInput input = new();
        Parents parents = maker.Make(execution, queue.Entries, available, input);
        uint? source = parents.Parent < 0 ? null : queue.Entries[parents.Parent].Id;
        made = new MadeInput(input, source, maker.Operation, log.Digest);
        return null;
    }
}

/// <summary>The epochs of a directory, as far as somebody wants to know.</summary>
internal sealed record CampaignLog
{
    /// <summary>The last epoch, or null.</summary>
    public EpochRecord? Last { get; private init; }

    /// <summary>The epoch in which an execution lies, or null.</summary>
    public EpochRecord? Around { get; private init; }

    /// <summary>Digest noted of that execution, or null.</summary>
    public ulong? Digest { get; private init; }

    /// <summary>Index after all epochs.</summary>
    public ulong End { get; private init; }

    /// <summary>Whether the last line is a whole one.</summary>
    public bool EndsWell { get; private init; }

    public static CampaignLog Read(Corpus corpus, ulong execution)
    {
        EpochRecord? last = null;
        EpochRecord? around = null;
        ulong? digest = null;
        ulong end = 0;
        bool endsWell = corpus.ReadLines(EpochRecord.FileName, line =>
        {
            if (EpochRecord.Parse(line, last) is { } record)
            {
                last = record;
                end = Math.Max(end, record.End);
                around = execution >= record.First && execution < record.End ? record : around;
                foreach (ExecutionSample sample in record.Samples)
                {
                    digest = sample.Execution == execution ? sample.Digest : digest;
                }
            }

            return true;
        });
        return new CampaignLog { Last = last, Around = around, Digest = digest, End = end, EndsWell = endsWell };
    }

    /// <summary>Executions until the campaign was left.</summary>
    public ulong ExecutedUntil(CurrentExecution? before)
    {
        ulong least = Last?.Executed ?? 0;
        ulong most = Last is { } last ? last.Executed + last.End - last.First : 0;
        return before is { } current && current.Executions >= least && current.Executions <= most ? current.Executions : least;
    }
}
