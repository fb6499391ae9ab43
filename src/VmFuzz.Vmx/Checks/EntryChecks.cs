using System.Collections.Immutable;
using System.Numerics;

namespace VmFuzz.Vmx;

/// <summary>The entry checks in force: an immutable value, in the order of evaluation.</summary>
public sealed class EntryChecks
{
    private readonly EntryCheck[] _rows;
    private readonly ulong[] _rowsOfSlot;
    private readonly ulong[] _memoryRows;
    private readonly int _words;

    private EntryChecks(ImmutableArray<EntryCheck> rows)
    {
        Rows = [.. rows.OrderBy(r => r.Stage)];
        _rows = [.. Rows];
        _words = (_rows.Length + 63) / 64;
        _rowsOfSlot = new ulong[VmcsFieldInfo.SlotCount * _words];
        _memoryRows = new ulong[_words];
        for (int i = 0; i < _rows.Length; i++)
        {
            foreach (Arch.VmcsField field in _rows[i].Reads)
            {
                _rowsOfSlot[(VmcsFieldInfo.Slot(field) * _words) + (i >> 6)] |= 1UL << (i & 63);
            }

            if (_rows[i].ReadsMemory)
            {
                _memoryRows[i >> 6] |= 1UL << (i & 63);
            }
        }
    }

    /// <summary>Every rule.</summary>
    public static EntryChecks Default { get; } = new(
    [
        .. ExecutionControlChecks.Rows,
        .. ExitControlChecks.Rows,
        .. EntryControlChecks.Rows,
        .. HostStateChecks.Rows,
        .. GuestRegisterChecks.Rows,
        .. GuestSegmentChecks.Rows,
        .. GuestDescriptorTableChecks.Rows,
        .. GuestRipRflagsChecks.Rows,
        .. GuestNonRegisterChecks.Rows,
        .. PdpteChecks.Rows,
    ]);

    /// <summary>The rules in the order of evaluation.</summary>
    public ImmutableArray<EntryCheck> Rows { get; }

    /// <summary>A table without one rule.</summary>
    public EntryChecks Without(string id) => new(Rows.RemoveAll(r => string.Equals(r.Id, id, StringComparison.Ordinal)));

    /// <summary>A table with one rule added, or replaced when its id exists.</summary>
    public EntryChecks With(EntryCheck row)
    {
        for (int i = 0; i < Rows.Length; i++)
        {
            if (string.Equals(Rows[i].Id, row.Id, StringComparison.Ordinal))
            {
                return new(Rows.SetItem(i, row));
            }
        }

        return new(Rows.Add(row));
    }

    /// <summary>Evaluates every rule in order.</summary>
    /// <returns>The first that fails, or null.</returns>
    public EntryCheck? FirstFailure(in EntryContext context)
    {
        foreach (EntryCheck row in _rows)
        {
            if (!row.Holds(context))
            {
                return row;
            }
        }

        return null;
    }

    /// <summary>Evaluates the rules that read a dirty field or memory; clears the dirty bits when all hold.</summary>
    /// <remarks>Every rule not evaluated held at the last entry of this VMCS, and what it reads has not changed.</remarks>
    internal EntryCheck? FirstFailureIncremental(in EntryContext context)
    {
        Span<ulong> todo = stackalloc ulong[_words];
        _memoryRows.CopyTo(todo);
        Vmcs vmcs = context.Vmcs;
        bool all = false;
        for (int word = 0; word < Vmcs.DirtyWords; word++)
        {
            ulong dirty = vmcs.Dirty(word);
            if (dirty == ulong.MaxValue)
            {
                all = true;
                break;
            }

            while (dirty != 0)
            {
                int slot = (word << 6) + BitOperations.TrailingZeroCount(dirty);
                dirty &= dirty - 1;
                ReadOnlySpan<ulong> rows = _rowsOfSlot.AsSpan(slot * _words, _words);
                for (int i = 0; i < rows.Length; i++)
                {
                    todo[i] |= rows[i];
                }
            }
        }

        if (all)
        {
            EntryCheck? failure = FirstFailure(context);
            if (failure is null)
            {
                vmcs.ClearDirty();
            }

            return failure;
        }

        for (int i = 0; i < todo.Length; i++)
        {
            ulong bits = todo[i];
            while (bits != 0)
            {
                EntryCheck row = _rows[(i << 6) + BitOperations.TrailingZeroCount(bits)];
                bits &= bits - 1;
                if (!row.Holds(context))
                {
                    return row;
                }
            }
        }

        vmcs.ClearDirty();
        return null;
    }
}
