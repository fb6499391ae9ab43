namespace VmFuzz.Replay.Gdb;

/// <summary>Breakpoints and watchpoints, compared with addresses; guest memory is never changed for them.</summary>
internal sealed class BreakpointList
{
    /// <summary>Most breakpoints at a time.</summary>
    public const int Most = 1024;

    /// <summary>Longest watched region. Unit: bytes.</summary>
    public const ulong LongestRegion = 1 << 20;

    private readonly List<Entry> _entries = [];

    private readonly record struct Entry(GdbBreakpointKind Kind, ulong Address, ulong Length)
    {
        public bool IsData => Kind >= GdbBreakpointKind.Write;

        public bool Overlaps(ulong first, ulong length) => Address - first < length || first - Address < Length;
    }

    /// <summary>The first watchpoint that an access met since the guest was let go.</summary>
    public GdbStop? Hit { get; private set; }

    /// <summary>Whether there are watchpoints.</summary>
    public bool HasData { get; private set; }

    /// <summary>Adds one; false when there is no more room, or the region is too long.</summary>
    public bool TryAdd(GdbBreakpointKind kind, ulong address, ulong length)
    {
        var entry = new Entry(kind, address, Math.Max(1, length));
        if (_entries.Count == Most || length > LongestRegion)
        {
            return false;
        }

        if (!_entries.Contains(entry))
        {
            _entries.Add(entry);
        }

        HasData |= entry.IsData;
        return true;
    }

    /// <summary>Takes one away.</summary>
    public void Remove(GdbBreakpointKind kind, ulong address, ulong length)
    {
        _entries.Remove(new Entry(kind, address, Math.Max(1, length)));
        HasData = _entries.Exists(static e => e.IsData);
    }

    /// <summary>Takes all away.</summary>
    public void Clear()
    {
        _entries.Clear();
        HasData = false;
        Hit = null;
    }

    /// <summary>The next access is the first again.</summary>
    public void ForgetHit() => Hit = null;

    /// <summary>Whether a breakpoint stands in the page of an address.</summary>
    public bool CodeInPage(ulong linear)
    {
        foreach (Entry entry in _entries)
        {
            if (!entry.IsData && (entry.Address ^ linear) >> 12 == 0)
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>Whether a watchpoint reaches into the page of an address.</summary>
    public bool DataInPage(ulong linear)
    {
        foreach (Entry entry in _entries)
        {
            if (entry.IsData && entry.Overlaps(linear & ~0xFFFUL, 0x1000))
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>The breakpoint at an instruction, if there is one.</summary>
    public GdbStop? CodeAt(ulong linear)
    {
        foreach (Entry entry in _entries)
        {
            if (!entry.IsData && entry.Address == linear)
            {
                return new GdbStop(GdbStopKind.Breakpoint, entry.Kind);
            }
        }

        return null;
    }

    /// <summary>Compares an access with the watchpoints.</summary>
    public void Note(ulong linear, int size, bool write)
    {
        if (!HasData || Hit is not null)
        {
            return;
        }

        foreach (Entry entry in _entries)
        {
            bool wanted = entry.Kind == GdbBreakpointKind.Access || entry.Kind == (write ? GdbBreakpointKind.Write : GdbBreakpointKind.Read);
            if (entry.IsData && wanted && entry.Overlaps(linear, (ulong)size))
            {
                Hit = new GdbStop(GdbStopKind.Breakpoint, entry.Kind, entry.Address);
                return;
            }
        }
    }
}
