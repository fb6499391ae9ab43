using System.Diagnostics;

namespace VmFuzz.Cli.Lockstep;

/// <summary>Programs one after the other, on one or more threads, until enough instructions agreed or one did not.</summary>
internal sealed class LockstepRun(UnicornLibrary library, LockstepArguments arguments)
{
    private readonly Stopwatch _watch = new();
    private readonly Lock _gate = new();
    private LockstepDifference? _difference;
    private Exception? _failure;
    private ulong _instructions;
    private ulong _runs;
    private ulong _exceptions;
    private ulong _programs;
    private readonly ulong[] _met = new ulong[KnownFaults.Rows.Length];
    private volatile bool _stop;
    private volatile bool _interrupted;

    /// <summary>Instructions compared so far.</summary>
    public ulong Instructions => Interlocked.Read(ref _instructions);

    /// <summary>Seconds so far.</summary>
    public double Seconds => _watch.Elapsed.TotalSeconds;

    /// <summary>Ends the run behind the programs that are under way. From any thread.</summary>
    public void RequestStop() => _stop = _interrupted = true;

    /// <summary>Runs.</summary>
    public LockstepResult Execute()
    {
        _watch.Start();
        if (arguments.Jobs == 1)
        {
            Work(0);
        }
        else
        {
            Thread[] threads = [.. Enumerable.Range(0, arguments.Jobs).Select(job => new Thread(() => Guarded(job), 16 << 20))];
            Array.ForEach(threads, static thread => thread.Start());
            Array.ForEach(threads, static thread => thread.Join());
        }

        _watch.Stop();
        return _failure is { } failure
            ? throw new InvalidOperationException(failure.Message, failure)
            : new LockstepResult(_programs, _runs, _instructions, _exceptions, _met, _difference, _interrupted, Seconds);
    }

    private void Guarded(int job)
    {
        try
        {
            Work(job);
        }
#pragma warning disable CA1031 // It is thrown again on the thread that waits.
        catch (Exception error)
#pragma warning restore CA1031
        {
            _failure = error;
            _stop = true;
        }
    }

    // Job j of n takes the programs j, j + n, and so on; the mode goes with the program's number.
    private void Work(int job)
    {
        LockstepPair[] pairs = [.. arguments.Modes.Select(mode => new LockstepPair(library, mode, arguments.Cpu, KnownFaults.Rows))];
        try
        {
            if (arguments.Code is { } code)
            {
                Array.ForEach(pairs, pair => RunCode(pair, code));
                return;
            }

            for (ulong number = (ulong)job; !_stop && Instructions < arguments.Instructions; number += (ulong)arguments.Jobs)
            {
                LockstepPair pair = pairs[number % (ulong)pairs.Length];
                ulong before = pair.Instructions;
                LockstepDifference? found = pair.Run(unchecked(arguments.Seed + number));
                Interlocked.Add(ref _instructions, pair.Instructions - before);
                Interlocked.Increment(ref _programs);
                if (found is not null)
                {
                    _stop = true;
                    Keep(found);
                }
            }
        }
        finally
        {
            Take(pairs);
        }
    }

    private void RunCode(LockstepPair pair, byte[] code)
    {
        LockstepDifference? found = pair.Run(code, []);
        _instructions += pair.Instructions;
        _programs++;
        _difference ??= found;
    }

    // Of several, that with the lowest seed.
    private void Keep(LockstepDifference found)
    {
        lock (_gate)
        {
            if (_difference is null || found.Seed < _difference.Seed)
            {
                _difference = found;
            }
        }
    }

    private void Take(LockstepPair[] pairs)
    {
        lock (_gate)
        {
            foreach (LockstepPair pair in pairs)
            {
                _runs += pair.Runs;
                _exceptions += pair.Exceptions;
                for (int i = 0; i < _met.Length; i++)
                {
                    _met[i] += pair.Met[i];
                }

                pair.Dispose();
            }
        }
    }
}

/// <summary>What a run came to.</summary>
/// <param name="Programs">Programs.</param>
/// <param name="Runs">Runs of them.</param>
/// <param name="Instructions">Instructions compared.</param>
/// <param name="Exceptions">Runs that ended in an exception on both sides.</param>
/// <param name="Met">How often each known fault was met.</param>
/// <param name="Difference">The difference that ended it; null when there was none.</param>
/// <param name="Interrupted">Whether it was asked to end.</param>
/// <param name="Seconds">Wall time.</param>
internal sealed record LockstepResult(
    ulong Programs, ulong Runs, ulong Instructions, ulong Exceptions, ulong[] Met, LockstepDifference? Difference, bool Interrupted, double Seconds);
