using System.Runtime.InteropServices;
using VmFuzz.Arch;

namespace VmFuzz.Memory;

/// <summary>What is known of one page of guest-physical memory.</summary>
/// <remarks>The pointer is valid for 4096 bytes and for as long as the <see cref="GuestMemory"/> lives.</remarks>
public readonly unsafe struct PageRef
{
    internal PageRef(byte* host, int index, bool writable)
    {
        Host = host;
        Index = index;
        Writable = writable;
    }

    /// <summary>The page's bytes on the host.</summary>
    public byte* Host { get; }

    /// <summary>Number of the backing page; two slots that show one page share it.</summary>
    public int Index { get; }

    /// <summary>Whether guest writes reach the page (false for ROM).</summary>
    public bool Writable { get; }
}

/// <summary>Is told when bytes of a page that something was derived from change behind the processor's back.</summary>
public interface IPageObserver
{
    /// <summary>The bytes of a page marked by <see cref="GuestMemory.MarkCode"/> changed, or are about to.</summary>
    /// <param name="pageIndex">The backing page.</param>
    void OnCodePageChanged(int pageIndex);

    /// <summary>The bytes of a page marked by <see cref="GuestMemory.MarkTable"/> changed, or are about to.</summary>
    /// <param name="pageIndex">The backing page.</param>
    void OnTablePageChanged(int pageIndex);
}

/// <summary>
/// Guest-physical memory: slots over native memory, with dirty pages, an undo log for resets and a digest that is
/// kept incrementally.
/// </summary>
/// <remarks>
/// Whoever writes a page must first call <see cref="PrepareWrite"/> for it, once after each <see cref="Reset"/>,
/// <see cref="Commit"/> or <see cref="Digest"/>; <see cref="IsPrepared"/> says whether that is due.
/// </remarks>
public sealed unsafe class GuestMemory : IDmaMemory, IDisposable
{
    /// <summary>Bytes of guest memory that can be backed: 64 GiB.</summary>
    public const ulong MaxBytes = 64UL << 30;

    private const byte FlagDirty = 1;
    private const byte FlagCode = 2;
    private const byte FlagStale = 4;
    private const byte FlagPrepared = 8;
    private const byte FlagTable = 16;

    private readonly List<Slot> _slots = [];
    private readonly List<nint> _allocations = [];
    private readonly List<int> _dirty = [];
    private readonly List<int> _stale = [];
    private readonly List<nint> _undoPool = [];
    private readonly List<ulong> _homes = [];
    // SAFETY: the arrays below have _capacity elements and are indexed only by Checked page numbers or by those in slots and lists,
    // which are below _pages. Host pages are 4096 bytes each and live until Dispose.
    private byte* _flags;
    private byte** _hosts;
    private ulong* _mixes;
    private nint* _undo;
    private int _pages;
    private int _capacity;
    private ulong _digest;
    private int _last;
    private bool _disposed;

    /// <summary>Number of backing pages.</summary>
    public int PageCount => _pages;

    /// <summary>Backing pages written since the last <see cref="Commit"/> or <see cref="Reset"/>.</summary>
    public IReadOnlyList<int> DirtyPages => _dirty;

    /// <summary>Is told about changes to pages marked by <see cref="MarkCode"/> and <see cref="MarkTable"/>.</summary>
    public IPageObserver? PageObserver { get; set; }

    /// <summary>Is told the address whenever somebody looks for a page that no slot backs; null for nobody.</summary>
    public Action<ulong>? Absent { get; set; }

    /// <summary>Adds a slot of zeroed memory.</summary>
    /// <param name="address">First address; a multiple of 4096.</param>
    /// <param name="bytes">Size; a multiple of 4096.</param>
    /// <param name="readOnly">Guest writes are dropped (ROM).</param>
    /// <returns>First backing page of the slot.</returns>
    public int AddSlot(Gpa address, ulong bytes, bool readOnly = false)
    {
        Require(address, bytes);
        int count = checked((int)(bytes / Gpa.PageSize));
        Grow(count);
        byte* memory = (byte*)NativeMemory.AllocZeroed((nuint)bytes + Gpa.PageSize);
        _allocations.Add((nint)memory);
        byte* aligned = (byte*)(((nuint)memory + Gpa.PageSize - 1) & ~(nuint)(Gpa.PageSize - 1));
        int first = _pages;
        for (int i = 0; i < count; i++)
        {
            _hosts[first + i] = aligned + ((long)i * Gpa.PageSize);
            _homes.Add(address.Value + ((ulong)i * Gpa.PageSize));
        }

        _pages += count;
        _slots.Add(new Slot(address.Value, bytes, first, readOnly));
        return first;
    }

    /// <summary>Shows pages that are backed already at another address as well.</summary>
    /// <param name="address">First address; a multiple of 4096.</param>
    /// <param name="bytes">Size; a multiple of 4096.</param>
    /// <param name="firstPage">First backing page.</param>
    /// <param name="readOnly">Guest writes through this slot are dropped.</param>
    public void AddAlias(Gpa address, ulong bytes, int firstPage, bool readOnly = false)
    {
        Require(address, bytes);
        int count = checked((int)(bytes / Gpa.PageSize));
        ArgumentOutOfRangeException.ThrowIfNegative(firstPage);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(firstPage, _pages - count);
        _slots.Add(new Slot(address.Value, bytes, firstPage, readOnly));
    }

    /// <summary>Finds the page that holds an address.</summary>
    /// <returns>False when no slot backs it: the access is MMIO.</returns>
    public bool TryGetPage(ulong address, out PageRef page)
    {
        // The slot that was found last comes first.
        ReadOnlySpan<Slot> slots = CollectionsMarshal.AsSpan(_slots);
        for (int i = 0; i < slots.Length; i++)
        {
            int at = i == 0 ? _last : i <= _last ? i - 1 : i;
            ref readonly Slot slot = ref slots[at];
            ulong offset = address - slot.Address;
            if (offset < slot.Bytes)
            {
                _last = at;
                int index = slot.FirstPage + (int)(offset >> 12);
                page = new PageRef(_hosts[index], index, !slot.ReadOnly);
                return true;
            }
        }

        Absent?.Invoke(address);
        page = default;
        return false;
    }

    /// <summary>The host address of a backing page's bytes.</summary>
    public byte* Host(int pageIndex) => _hosts[Checked(pageIndex)];

    /// <summary>The bytes of a backing page as they are now.</summary>
    public ReadOnlySpan<byte> Contents(int pageIndex) => new(_hosts[Checked(pageIndex)], Gpa.PageSize);

    /// <summary>The guest-physical address at which a backing page was added first.</summary>
    public Gpa HomeOf(int pageIndex) => new(_homes[pageIndex]);

    /// <summary>Whether the page can be written without a further <see cref="PrepareWrite"/>.</summary>
    public bool IsPrepared(int pageIndex) => (_flags[Checked(pageIndex)] & FlagPrepared) != 0;

    /// <summary>Whether the page holds decoded code.</summary>
    public bool IsCode(int pageIndex) => (_flags[Checked(pageIndex)] & FlagCode) != 0;

    /// <summary>Marks or unmarks a page as holding decoded code.</summary>
    public void MarkCode(int pageIndex, bool code) => Mark(pageIndex, FlagCode, code);

    /// <summary>Whether translations are cached that came from entries in the page.</summary>
    public bool IsTable(int pageIndex) => (_flags[Checked(pageIndex)] & FlagTable) != 0;

    /// <summary>Marks or unmarks a page as holding paging-structure entries that cached translations came from.</summary>
    public void MarkTable(int pageIndex, bool table) => Mark(pageIndex, FlagTable, table);

    /// <summary>Makes a page ready to be written: keeps its old bytes for a reset, and notes that its hash is stale.</summary>
    public void PrepareWrite(int pageIndex)
    {
        ref byte flags = ref _flags[Checked(pageIndex)];
        if ((flags & FlagDirty) == 0)
        {
            if (_undo[pageIndex] == 0)
            {
                _undo[pageIndex] = TakeUndoPage();
            }

            Buffer.MemoryCopy(_hosts[pageIndex], (void*)_undo[pageIndex], Gpa.PageSize, Gpa.PageSize);
            _dirty.Add(pageIndex);
        }

        if ((flags & FlagStale) == 0)
        {
            _stale.Add(pageIndex);
        }

        flags |= FlagDirty | FlagStale | FlagPrepared;
    }

    /// <summary>Makes the present contents the ones that <see cref="Reset"/> goes back to.</summary>
    public void Commit()
    {
        foreach (int page in _dirty)
        {
            _flags[page] &= unchecked((byte)~(FlagDirty | FlagPrepared));
            _undoPool.Add(_undo[page]);
            _undo[page] = 0;
        }

        _dirty.Clear();
    }

    /// <summary>What a page held at the last <see cref="Commit"/> or <see cref="Reset"/>. Valid until the next one.</summary>
    public ReadOnlySpan<byte> Committed(int pageIndex) =>
        new((_flags[Checked(pageIndex)] & FlagDirty) != 0 ? (void*)_undo[pageIndex] : _hosts[pageIndex], Gpa.PageSize);

    /// <summary>Puts every page back to what it held at the last <see cref="Commit"/>. Costs what was written, not what exists.</summary>
    /// <remarks>Cached host pointers for writing must be dropped by their holders.</remarks>
    public void Reset()
    {
        foreach (int page in _dirty)
        {
            ref byte flags = ref _flags[page];
            TellObserver(page);
            Buffer.MemoryCopy((void*)_undo[page], _hosts[page], Gpa.PageSize, Gpa.PageSize);
            if ((flags & FlagStale) == 0)
            {
                flags |= FlagStale;
                _stale.Add(page);
            }

            flags &= unchecked((byte)~(FlagDirty | FlagPrepared));
            _undoPool.Add(_undo[page]);
            _undo[page] = 0;
        }

        _dirty.Clear();
    }

    /// <summary>
    /// Digest of all pages: the sum modulo 2^64 over pages that are not all zero, each mixed with its place.
    /// Costs what was written since the last call.
    /// </summary>
    /// <remarks>Cached host pointers for writing must be dropped by their holders, or later writes are missed.</remarks>
    public ulong Digest()
    {
        foreach (int page in _stale)
        {
            ulong mix = MixOf(page);
            _digest += mix - _mixes[page];
            _mixes[page] = mix;
            _flags[page] &= unchecked((byte)~(FlagStale | FlagPrepared));
        }

        _stale.Clear();
        return _digest;
    }

    /// <summary>The digest computed from nothing. For checking <see cref="Digest"/>.</summary>
    public ulong FullDigest()
    {
        ulong sum = 0;
        for (int page = 0; page < _pages; page++)
        {
            sum += MixOf(page);
        }

        return sum;
    }

    /// <inheritdoc/>
    public bool TryRead(Gpa address, Span<byte> destination)
    {
        if ((int)(address.Value & 0xFFF) + destination.Length <= Gpa.PageSize && destination.Length != 0)
        {
            if (!TryGetPage(address.Value, out PageRef only))
            {
                return false;
            }

            new ReadOnlySpan<byte>(only.Host + (address.Value & 0xFFF), destination.Length).CopyTo(destination);
            return true;
        }

        if (!IsBacked(address.Value, destination.Length, write: false))
        {
            return false;
        }

        ulong at = address.Value;
        while (destination.Length > 0)
        {
            TryGetPage(at, out PageRef page);
            int offset = (int)(at & 0xFFF);
            int count = Math.Min(destination.Length, Gpa.PageSize - offset);
            new ReadOnlySpan<byte>(page.Host + offset, count).CopyTo(destination);
            destination = destination[count..];
            at += (ulong)count;
        }

        return true;
    }

    /// <inheritdoc/>
    public bool TryWrite(Gpa address, ReadOnlySpan<byte> source) => Write(address, source, force: false);

    /// <summary>Writes as a loader does: read-only slots are written too. False when any byte is not backed.</summary>
    public bool TryLoad(Gpa address, ReadOnlySpan<byte> source) => Write(address, source, force: true);

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_disposed)
        {
            return;
        }

        _disposed = true;
        foreach (nint memory in _allocations)
        {
            NativeMemory.Free((void*)memory);
        }

        foreach (nint page in _undoPool)
        {
            NativeMemory.AlignedFree((void*)page);
        }

        for (int i = 0; i < _pages; i++)
        {
            if (_undo[i] != 0)
            {
                NativeMemory.AlignedFree((void*)_undo[i]);
            }
        }

        NativeMemory.Free(_flags);
        NativeMemory.Free(_hosts);
        NativeMemory.Free(_mixes);
        NativeMemory.Free(_undo);
    }

    private bool Write(Gpa address, ReadOnlySpan<byte> source, bool force)
    {
        if (!IsBacked(address.Value, source.Length, write: !force))
        {
            return false;
        }

        ulong at = address.Value;
        while (source.Length > 0)
        {
            TryGetPage(at, out PageRef page);
            int offset = (int)(at & 0xFFF);
            int count = Math.Min(source.Length, Gpa.PageSize - offset);
            if (!IsPrepared(page.Index))
            {
                PrepareWrite(page.Index);
            }

            TellObserver(page.Index);
            source[..count].CopyTo(new Span<byte>(page.Host + offset, count));
            source = source[count..];
            at += (ulong)count;
        }

        return true;
    }

    private void Mark(int pageIndex, byte flag, bool set)
    {
        ref byte flags = ref _flags[Checked(pageIndex)];
        flags = set ? (byte)(flags | flag) : (byte)(flags & ~flag);
    }

    private void TellObserver(int page)
    {
        if ((_flags[page] & (FlagCode | FlagTable)) == 0)
        {
            return;
        }

        if (IsCode(page))
        {
            PageObserver?.OnCodePageChanged(page);
        }

        if (IsTable(page))
        {
            PageObserver?.OnTablePageChanged(page);
        }
    }

    private bool IsBacked(ulong address, int length, bool write)
    {
        ulong end = address + (ulong)length;
        if (end < address)
        {
            return false;
        }

        for (ulong at = address & ~0xFFFUL; at < end; at += Gpa.PageSize)
        {
            if (!TryGetPage(at, out PageRef page) || (write && !page.Writable))
            {
                return false;
            }
        }

        return true;
    }

    private ulong MixOf(int page)
    {
        var bytes = new ReadOnlySpan<byte>(_hosts[page], Gpa.PageSize);
        if (bytes.IndexOfAnyExcept((byte)0) < 0)
        {
            return 0;
        }

        ulong hash = System.IO.Hashing.XxHash3.HashToUInt64(bytes);
        return StateHash.Mix(ComponentId.Memory, 0, hash ^ (_homes[page] * 0x9E37_79B9_7F4A_7C15UL));
    }

    private nint TakeUndoPage()
    {
        int count = _undoPool.Count;
        if (count == 0)
        {
            return (nint)NativeMemory.AlignedAlloc(Gpa.PageSize, Gpa.PageSize);
        }

        nint page = _undoPool[count - 1];
        _undoPool.RemoveAt(count - 1);
        return page;
    }

    private void Require(Gpa address, ulong bytes)
    {
        if ((address.Value & 0xFFF) != 0 || (bytes & 0xFFF) != 0 || bytes == 0 || bytes > MaxBytes
            || address.Value + bytes - 1 < address.Value)
        {
            throw new ArgumentException($"A slot must be made of whole pages: {address}, {bytes} bytes.");
        }

        foreach (Slot other in _slots)
        {
            if (address.Value < other.Address + other.Bytes && other.Address < address.Value + bytes)
            {
                throw new ArgumentException($"The slot at 0x{address.Value:x} overlaps the one at 0x{other.Address:x}.");
            }
        }
    }


    private void Grow(int count)
    {
        int need = checked(_pages + count);
        if (need <= _capacity)
        {
            return;
        }

        int old = _capacity;
        _capacity = Math.Max(need, old * 2);
        _flags = (byte*)Resize(_flags, 1, old);
        _hosts = (byte**)Resize(_hosts, sizeof(byte*), old);
        _mixes = (ulong*)Resize(_mixes, sizeof(ulong), old);
        _undo = (nint*)Resize(_undo, sizeof(nint), old);
    }

    private void* Resize(void* memory, int element, int old)
    {
        void* grown = NativeMemory.AllocZeroed((nuint)_capacity, (nuint)element);
        Buffer.MemoryCopy(memory, grown, (long)old * element, (long)old * element);
        NativeMemory.Free(memory);
        return grown;
    }

    private int Checked(int pageIndex)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual((uint)pageIndex, (uint)_pages, nameof(pageIndex));
        return pageIndex;
    }

    private readonly record struct Slot(ulong Address, ulong Bytes, int FirstPage, bool ReadOnly);
}
