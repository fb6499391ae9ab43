using System.Collections.Immutable;
using System.Numerics;
using System.Runtime.CompilerServices;
using VmFuzz.Arch;

namespace VmFuzz.Vmx;

/// <summary>The entry checks in force: an immutable value, in the order of evaluation.</summary>
public sealed class EntryChecks
{
    // Words of row bits that an evaluation of what changed has room for.
    private const int MaxWords = 8;

    private readonly EntryCheck[] _rows;
    private readonly ulong[] _rowsOfSlot;
    private readonly ulong[] _checkedSlots = new ulong[Vmcs.DirtyWords];
    private readonly ulong[] _hostRows;

    // The arithmetic flags move at nearly every exit, and most rules that read RFLAGS look at its VM bit only.
    private readonly ulong[] _flagRows;
    private readonly int[] _memoryRows;
    private readonly int _words;

    private EntryChecks(ImmutableArray<EntryCheck> rows)
    {
        Rows = [.. rows.OrderBy(r => r.Stage)];
        _rows = [.. Rows];
        _words = (_rows.Length + 63) / 64;
        _rowsOfSlot = new ulong[VmcsFieldInfo.SlotCount * _words];
        _hostRows = new ulong[_words];
        _flagRows = new ulong[_words];
        List<int> memory = [];
        for (int i = 0; i < _rows.Length; i++)
        {
            foreach (VmcsField field in _rows[i].Reads)
            {
                int slot = VmcsFieldInfo.Slot(field);
                _rowsOfSlot[(slot * _words) + (i >> 6)] |= 1UL << (i & 63);
                _checkedSlots[slot >> 6] |= 1UL << (slot & 63);
                if (field == VmcsField.GuestRflags && !_rows[i].OnlyVmFlag)
                {
                    _flagRows[i >> 6] |= 1UL << (i & 63);
                }
            }

            if (_rows[i].ReadsMemory)
            {
                memory.Add(i);
            }

            if (_rows[i].ReadsHost)
            {
                _hostRows[i >> 6] |= 1UL << (i & 63);
            }
        }

        _memoryRows = [.. memory];
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

    /// <summary>
    /// Evaluates the rules that read a dirty field, memory or changed registers of the host; clears the dirty bits when
    /// all hold.
    /// </summary>
    /// <remarks>Every rule not evaluated held at the last entry of this VMCS, and what it reads has not changed.</remarks>
    internal EntryCheck? FirstFailureIncremental(in EntryContext context)
    {
        Vmcs vmcs = context.Vmcs;
        ulong host = context.Host?.Version ?? 0;
        EntryCheck? failure = _words <= MaxWords ? FirstOfChanged(context, vmcs, host) : FirstFailure(context);
        if (failure is null)
        {
            vmcs.ClearDirty();
            vmcs.CheckedHostVersion = host;
            vmcs.CheckedFlags = vmcs[VmcsField.GuestRflags];
        }

        return failure;
    }

    private EntryCheck? FirstOfChanged(in EntryContext context, Vmcs vmcs, ulong host)
    {
        RowSet todo = default;
        bool any = false;
        bool sameVm = ((vmcs[VmcsField.GuestRflags] ^ vmcs.CheckedFlags) & RFlags.Vm) == 0;
        for (ulong words = vmcs.DirtyWordsInUse; words != 0; words &= words - 1)
        {
            int word = BitOperations.TrailingZeroCount(words);
            ulong dirty = vmcs.Dirty(word);
            if (dirty == ulong.MaxValue)
            {
                return FirstFailure(context);
            }

            dirty &= _checkedSlots[word];
            while (dirty != 0)
            {
                any = true;
                int slot = (word << 6) + BitOperations.TrailingZeroCount(dirty);
                dirty &= dirty - 1;
                ReadOnlySpan<ulong> rows = sameVm && slot == VmcsFieldInfo.Slot(VmcsField.GuestRflags)
                    ? _flagRows
                    : _rowsOfSlot.AsSpan(slot * _words, _words);
                for (int i = 0; i < rows.Length; i++)
                {
                    todo[i] |= rows[i];
                }
            }
        }

        if (host != vmcs.CheckedHostVersion)
        {
            any = true;
            for (int i = 0; i < _words; i++)
            {
                todo[i] |= _hostRows[i];
            }
        }

        foreach (int row in _memoryRows)
        {
            if (_rows[row].Gate.IsOpen(vmcs))
            {
                any = true;
                todo[row >> 6] |= 1UL << (row & 63);
            }
        }

        return any ? FirstOf(in todo, context) : null;
    }

    private EntryCheck? FirstOf(in RowSet todo, in EntryContext context)
    {
        for (int i = 0; i < _words; i++)
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

        return null;
    }

    // A bit for each row. Not allocated on the stack by hand: the JIT would leave such a method out of its tiers.
    [InlineArray(MaxWords)]
    private struct RowSet
    {
        private ulong _first;
    }
}
