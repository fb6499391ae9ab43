namespace VmFuzz.Fuzzing;

/// <summary>Whether an input still shows what it was kept for. The object is reused; it is not to be changed or kept.</summary>
public delegate bool StillShows(FuzzInput candidate);

/// <summary>What minimising did.</summary>
/// <param name="Input">The smallest input found.</param>
/// <param name="Executions">How often the predicate was asked.</param>
/// <param name="Complete">Whether nothing more could be taken away; false when the budget ended first.</param>
public sealed record MinimizedInput(FuzzInput Input, int Executions, bool Complete);

/// <summary>
/// Delta debugging over the sections of an input: takes away whole sections, then ever smaller parts of each list, then
/// makes values simpler, until nothing more can go. The order is fixed, so the result depends on the predicate only.
/// </summary>
public sealed class InputMinimizer
{
    private readonly StillShows _shows;
    private readonly int _budget;
    private readonly FuzzInput _candidate = new();
    private readonly FuzzInput _asked = new();
    private FuzzInput _best = new();
    private int _executions;

    private InputMinimizer(StillShows shows, int budget)
    {
        _shows = shows;
        _budget = budget;
    }

    private bool Exhausted => _executions >= _budget;

    /// <summary>Minimises.</summary>
    /// <param name="input">An input for which the predicate holds; not changed.</param>
    /// <param name="shows">The predicate.</param>
    /// <param name="budget">Most questions.</param>
    /// <returns>An input for which it holds. When it does not hold for <paramref name="input"/>, that one.</returns>
    public static MinimizedInput Minimize(FuzzInput input, StillShows shows, int budget = 10_000)
    {
        ArgumentNullException.ThrowIfNull(input);
        ArgumentNullException.ThrowIfNull(shows);
        InputMinimizer minimizer = new(shows, budget) { _best = input.Clone() };
        minimizer._best.Normalise();
        minimizer._candidate.CopyFrom(minimizer._best);
        if (!minimizer.Ask())
        {
            return new(minimizer._best, minimizer._executions, Complete: true);
        }

        bool smaller = true;
        while (smaller && !minimizer.Exhausted)
        {
            smaller = false;
            foreach (FuzzSectionRow row in FuzzSectionRow.All)
            {
                smaller |= minimizer.Thin(row);
            }

            smaller |= minimizer.SimplifyExits();
            smaller |= minimizer.SimplifyWords();
        }

        return new(minimizer._best, minimizer._executions, !minimizer.Exhausted);
    }

    // Parts of half the list, a quarter, ... one item, from the end: what comes later depends on what comes before.
    private bool Thin(FuzzSectionRow row)
    {
        bool any = false;
        for (int part = row.Count(_best); part > 0; part = part == 1 ? 0 : (part + 1) / 2)
        {
            int at = row.Count(_best);
            while (at > 0 && !Exhausted)
            {
                int start = Math.Max(0, at - part);
                _candidate.CopyFrom(_best);
                row.Remove(_candidate, start, at - start);
                any |= Try();
                at = start;
            }
        }

        return any;
    }

    private bool SimplifyExits()
    {
        bool any = false;
        for (int i = 0; i < _best.Exits.Count; i++)
        {
            for (int change = 0; change < ExitSimplifications.All.Length && !Exhausted; change++)
            {
                MadeExit simple = ExitSimplifications.All[change](_best.Exits[i]);
                if (!simple.Equals(_best.Exits[i]))
                {
                    _candidate.CopyFrom(_best);
                    _candidate.Exits[i] = simple;
                    any |= Try();
                }
            }

            any |= ThinOverrides(i);
        }

        return any;
    }

    private bool ThinOverrides(int exit)
    {
        bool any = false;
        for (int at = _best.Exits[exit].Registers.Length - 1; at >= 0 && !Exhausted; at--)
        {
            MadeExit made = _best.Exits[exit];
            _candidate.CopyFrom(_best);
            _candidate.Exits[exit] = made with { Registers = made.Registers.RemoveAt(at) };
            any |= Try();
        }

        for (int at = _best.Exits[exit].GuestState.Length - 1; at >= 0 && !Exhausted; at--)
        {
            MadeExit made = _best.Exits[exit];
            _candidate.CopyFrom(_best);
            _candidate.Exits[exit] = made with { GuestState = made.GuestState.RemoveAt(at) };
            any |= Try();
        }

        return any;
    }

    private bool SimplifyWords()
    {
        bool any = false;
        for (int i = 0; i < _best.Registers.Count && !Exhausted; i++)
        {
            if (_best.Registers[i].Value != 0)
            {
                _candidate.CopyFrom(_best);
                _candidate.Registers[i] = _candidate.Registers[i] with { Value = 0 };
                any |= Try();
            }
        }

        for (int i = 0; i < _best.Answers.Count && !Exhausted; i++)
        {
            if (_best.Answers[i] != 0)
            {
                _candidate.CopyFrom(_best);
                _candidate.Answers[i] = 0;
                any |= Try();
            }
        }

        return any;
    }

    private bool Try()
    {
        _candidate.Normalise();
        if (_candidate.SameAs(_best) || !Ask())
        {
            return false;
        }

        _best.CopyFrom(_candidate);
        return true;
    }

    private bool Ask()
    {
        _executions++;
        _asked.CopyFrom(_candidate);
        return _shows(_asked);
    }
}
