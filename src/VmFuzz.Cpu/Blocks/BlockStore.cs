using System.Runtime.InteropServices;

namespace VmFuzz.Cpu.Blocks;

/// <summary>
/// Owns decoded blocks: an arena, a hash table by (physical address, RIP, mode), and lists by page for invalidation.
/// </summary>
/// <remarks>SAFETY: memory of blocks is given back only by <see cref="Clear"/>, which the dispatcher calls while no op runs.</remarks>
internal sealed unsafe class BlockStore : IDisposable
{
    private const int Buckets = 1 << 14;
    private const int ChunkBytes = 1 << 20;
    private const int MostChunks = 96;
    private int _limit = MostChunks;

    private readonly List<nint> _chunks = [];
    private readonly Block** _buckets;
    private nint[] _pages = [];
    private ulong[] _granules = [];
    private int _chunk;
    private int _used;

    public BlockStore() =>
        _buckets = (Block**)NativeMemory.AllocZeroed(Buckets, (nuint)sizeof(Block*));

    /// <summary>Chunks of 1 MiB that may be filled before everything is dropped, 2 to 96.</summary>
    public int Limit
    {
        get => _limit;
        set => _limit = Math.Clamp(value, 2, MostChunks);
    }

    /// <summary>The arena is nearly used up: clear before the next block is made.</summary>
    public bool Full => _chunk >= _limit - 1;

    /// <summary>Takes memory for one block.</summary>
    public byte* Allocate(int bytes)
    {
        bytes = (bytes + 31) & ~31;
        if (_chunks.Count == 0 || _used + bytes > ChunkBytes)
        {
            if (_chunks.Count != 0)
            {
                _chunk++;
            }

            if (_chunk >= _chunks.Count)
            {
                _chunks.Add((nint)NativeMemory.AlignedAlloc(ChunkBytes, 64));
            }

            _used = 0;
        }

        byte* at = (byte*)_chunks[_chunk] + _used;
        _used += bytes;
        return at;
    }

    public Block* Find(ulong physical, ulong rip, ulong mode)
    {
        for (Block* block = _buckets[Hash(physical, mode)]; block != null; block = block->NextInBucket)
        {
            if (block->Physical == physical && block->Rip == rip && block->Mode == mode)
            {
                return block;
            }
        }

        return null;
    }

    /// <summary>The first of the blocks of a page; each names the next. Null when there is none.</summary>
    public Block* FirstOfPage(int page) => page < _pages.Length ? (Block*)_pages[page] : null;

    /// <summary>Makes a block findable and registers the bytes it was decoded from.</summary>
    public void Add(Block* block)
    {
        int hash = Hash(block->Physical, block->Mode);
        block->NextInBucket = _buckets[hash];
        _buckets[hash] = block;
        block->Valid = 1;
        EnsurePage(block->Page);
        block->NextInPage = (Block*)_pages[block->Page];
        _pages[block->Page] = (nint)block;
        _granules[block->Page] |= Granules((int)(block->Physical & 0xFFF), block->Bytes);
    }

    /// <summary>Whether bytes of the page from an offset on overlap decoded code.</summary>
    public bool Overlaps(int page, int offset, int bytes) =>
        page < _granules.Length && (_granules[page] & Granules(offset, bytes)) != 0;

    /// <summary>Whether there are blocks of a page.</summary>
    public bool Holds(int page) => page < _pages.Length && _pages[page] != 0;

    /// <summary>Forgets all blocks of a page.</summary>
    public void InvalidatePage(int page)
    {
        if (page >= _pages.Length)
        {
            return;
        }

        for (Block* block = (Block*)_pages[page]; block != null; block = block->NextInPage)
        {
            Block** link = &_buckets[Hash(block->Physical, block->Mode)];
            while (*link != block)
            {
                link = &(*link)->NextInBucket;
            }

            *link = block->NextInBucket;
            block->Valid = 0;
        }

        _pages[page] = 0;
        _granules[page] = 0;
    }

    /// <summary>Forgets everything and reuses the arena.</summary>
    public void Clear()
    {
        NativeMemory.Clear(_buckets, (nuint)(Buckets * sizeof(Block*)));
        Array.Clear(_pages);
        Array.Clear(_granules);
        _chunk = 0;
        _used = 0;
    }

    /// <summary>Pages that hold blocks, ascending.</summary>
    public IEnumerable<int> Pages()
    {
        for (int i = 0; i < _pages.Length; i++)
        {
            if (_pages[i] != 0)
            {
                yield return i;
            }
        }
    }

    public void Dispose()
    {
        foreach (nint chunk in _chunks)
        {
            NativeMemory.AlignedFree((void*)chunk);
        }

        _chunks.Clear();
        NativeMemory.Free(_buckets);
    }

    private void EnsurePage(int page)
    {
        if (page >= _pages.Length)
        {
            int size = Math.Max(page + 1, _pages.Length * 2);
            Array.Resize(ref _pages, size);
            Array.Resize(ref _granules, size);
        }
    }

    // One bit for each 64 bytes of a page.
    private static ulong Granules(int offset, int bytes)
    {
        int first = offset >> 6;
        int last = Math.Min(4095, offset + bytes - 1) >> 6;
        return (ulong.MaxValue << first) & (ulong.MaxValue >> (63 - last));
    }

    private static int Hash(ulong physical, ulong mode)
    {
        ulong x = (physical ^ (mode << 40)) * 0x9E37_79B9_7F4A_7C15UL;
        return (int)(x >> 50);
    }
}
