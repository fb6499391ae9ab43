using System.Collections.Immutable;

namespace VmFuzz.Fuzzing;

public sealed partial class Campaign
{
    // What one exit counts for in the cost of an entry, in instructions.
    private const ulong CostOfExit = 32;

    private void Load(QueueEntry entry)
    {
        if (_feedback is null || _skipped.Contains(entry.Id))
        {
            return;
        }

        _current.Set(CampaignPhase.Loading, entry.Id, _executed);
        _input.CopyFrom(entry.Input);
        Execution run = Run(_input);
        if (Learns(run))
        {
            _feedback.Merge();
            Confirm(entry.Execution, entry.Id, "", out _);
            Rate(entry, run);
        }

        if (run.Violation is { } violation)
        {
            Found(violation, entry.Execution, entry.Id, "");
        }
    }

    private void Import(WorkerFile file)
    {
        _sync!.Took(file);
        if (!Corpus.TryRead(file.Path, _options.Log, out byte[] bytes))
        {
            return;
        }

        FuzzInput input = _queue.Decode(bytes);
        if (_queue.Has(input))
        {
            return;
        }

        _current.Set(CampaignPhase.Importing, _next, _executed);
        _input.CopyFrom(input);
        Execution run = Run(_input);
        // What it breaks is the other worker's finding.
        if (!Learns(run) || !_feedback!.Merge())
        {
            return;
        }

        if (Confirm(_next, null, "", out bool cells))
        {
            CorpusName name = new() { Time = _time, Executions = _next, Operation = WorkerSync.OperationOf(file.Worker), Covers = cells };
            if (_queue.Add(_input, name, _corpus, _writer) is { } entry)
            {
                Rate(entry, run);
            }
        }

        _feedback!.EndNote();
    }

    private void Execute()
    {
        ulong execution = _next;
        QueueEntry? seed = null;
        Parents parents = new(-1, -1);
        if (_epoch.Seeds)
        {
            // Written before it runs: should it end the process, its index and its number are known.
            Seed from = _seeds.Dequeue();
            CorpusName name = new() { Time = _time, Executions = execution, Original = from.FileName };
            seed = _queue.Add(from.Input, name, _corpus, _writer);
            _input.CopyFrom(from.Input);
            _current.Set(CampaignPhase.Fuzzing, execution, _executed);
        }
        else
        {
            _current.Set(CampaignPhase.Fuzzing, execution, _executed);
            parents = _maker.Make(execution, _queue.Entries, _queue.Entries.Count, _input);
            if (parents.Parent >= 0)
            {
                _queue.Entries[parents.Parent].Mutated = true;
                _lastParent = parents.Parent;
            }
        }

        Execution run = Run(_input);
        _exits += run.Exits;
        _instructions += run.Instructions;
        if ((execution - _epoch.First) % Math.Max(1, (_epoch.End - _epoch.First) / SamplesOfEpoch) == 0)
        {
            _samples.Add(new ExecutionSample(execution, _executor.Digest()));
        }

        bool kept = _feedback is not null && Learns(run) && _feedback.Merge() && Keep(execution, run, seed, parents);
        if (_feedback is not null && !_epoch.Seeds)
        {
            _maker.Scheduler.Report(kept);
        }

        if (run.Violation is { } violation)
        {
            Found(violation, execution, SourceOf(parents), Operation());
        }
        else if (kept || IsDeep(execution))
        {
            _deepRuns++;
            if (_executor.RunDeep(_input) is { } deep)
            {
                Found(deep, execution, SourceOf(parents), Operation());
            }
        }

        _next++;
        _executed++;
        CountCycle();
    }

    // Whether something new was stable; then it is in the queue.
    private bool Keep(ulong execution, Execution run, QueueEntry? seed, Parents parents)
    {
        bool stable = Confirm(execution, SourceOf(parents), Operation(), out bool cells);
        if (seed is null && stable)
        {
            uint? second = parents.Other >= 0 && parents.Other != parents.Parent ? _queue.Entries[parents.Other].Id : null;
            CorpusName name = new()
            {
                Source = SourceOf(parents),
                Second = second,
                Time = _time,
                Executions = execution,
                Operation = Operation(),
                Covers = cells,
            };
            seed = _queue.Add(_input, name, _corpus, _writer);
            _lastFind = seed is null ? _lastFind : _time;
        }

        if (seed is null)
        {
            _feedback!.EndNote();
            return false;
        }

        Rate(seed, run);
        return true;
    }

    // Runs the input once more; cells that differ do not count any more. Leaves the run noted.
    private bool Confirm(ulong execution, uint? source, string operation, out bool cells)
    {
        _feedback!.NoteFirst();
        Execution again = Run(_input);
        _feedback.NoteAgain();
        if (again.Violation is { } violation)
        {
            Found(violation, execution, source, operation);
        }

        return _feedback.Settle(out cells);
    }

    private void Rate(QueueEntry entry, Execution run)
    {
        ulong steps = Math.Min(run.Instructions, 1UL << 40) + (CostOfExit * Math.Min(run.Exits, 1UL << 32)) + 256;
        entry.Cost = steps * (ulong)(entry.Bytes.Length + 32);
        _feedback!.Rate(entry);
        _feedback.EndNote();
    }

    private Execution Run(FuzzInput input)
    {
        _feedback?.Clear();
        return _executor.Run(input);
    }

    // What a run covered that broke off says nothing about runs that go on; its cells stay new.
    private static bool Learns(Execution run) =>
        run.Violation is not { } violation || (violation.Oracle != OracleFolders.Crash && OracleFolders.Of(violation) != CorpusFolder.Hangs);

    private void Found(Violation violation, ulong execution, uint? source, string operation)
    {
        if (_findings.Add(violation, () => new FoundInput(_input, violation, execution, _time, source, operation, Fatal: false)))
        {
            _lastFinding = _time;
        }
    }

    private uint? SourceOf(Parents parents) => parents.Parent >= 0 ? _queue.Entries[parents.Parent].Id : null;

    private string Operation() => _epoch.Seeds ? "" : _maker.Operation;
}
