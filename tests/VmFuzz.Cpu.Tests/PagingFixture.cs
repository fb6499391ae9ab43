using VmFuzz.Arch;

namespace VmFuzz.Cpu.Tests;

/// <summary>The paging modes.</summary>
public enum PagingMode
{
    Bits32 = 2,
    Pae = 3,
    FourLevel = 4,
    FiveLevel = 5,
}

/// <summary>One linear address mapped in a paging mode, with every entry at hand.</summary>
internal sealed unsafe class PagingFixture : IDisposable
{
    public const ulong Present = 1;
    public const ulong Writable = 2;
    public const ulong User = 4;
    public const ulong Accessed = 0x20;
    public const ulong Dirty = 0x40;
    public const ulong Large = 0x80;
    public const ulong Nx = 1UL << 63;
    public const ulong Linear = 0x0040_2123;
    public const ulong Frame = 0xA000;

    private const ulong Tables = 0x20000;
    private readonly PagingMode _mode;

    /// <summary>Maps <see cref="Linear"/> to <see cref="Frame"/>, or to the large page at 0, with all rights.</summary>
    public PagingFixture(PagingMode mode, int cpl, int leaf = 1, CpuFeatures without = CpuFeatures.None)
    {
        _mode = mode;
        F = new SystemFixture(without).Protected32(cpl);
        CpuState* s = F.State;
        for (int level = (int)mode; level >= leaf; level--)
        {
            Set(level, level > leaf ? (Tables + ((ulong)(level - 1) << 12)) | 7 : leaf > 1 ? Large | 7 : Frame | 7);
        }

        s->Cr3 = Tables + ((ulong)mode << 12);
        s->Cr4 = mode switch
        {
            PagingMode.Bits32 => Cr4.Pse,
            PagingMode.FiveLevel => Cr4.Pae | Cr4.La57,
            _ => Cr4.Pae,
        };
        s->Cr0 |= Cr0.Pg | Cr0.Wp;
        s->Efer = mode == PagingMode.Bits32 ? 0 : mode == PagingMode.Pae ? Efer.Nxe : Efer.Nxe | Efer.Lme | Efer.Lma;
        Changed();
    }

    public SystemFixture F { get; }

    public void Dispose() => F.Dispose();

    /// <summary>Physical address of the entry of a level, 1 for a page table.</summary>
    public ulong EntryAt(int level)
    {
        ulong table = Tables + ((ulong)level << 12);
        return _mode == PagingMode.Bits32
            ? table + (((Linear >> (level == 2 ? 22 : 12)) & 1023) * 4)
            : table + (((Linear >> (12 + (9 * (level - 1)))) & 511) * 8);
    }

    private int EntryBytes => _mode == PagingMode.Bits32 ? 4 : 8;

    public ulong Get(int level) => F.Read(EntryAt(level), EntryBytes);

    public void Set(int level, ulong entry) => F.Write(EntryAt(level), EntryBytes, entry);

    /// <summary>Sets and clears bits of an entry.</summary>
    public void Change(int level, ulong set, ulong clear = 0)
    {
        ulong entry = Get(level);
        // PDPTEs have no rights; the bits are reserved there.
        Set(level, _mode == PagingMode.Pae && level == 3 ? (entry & ~7UL & ~clear) | Present | set : (entry & ~clear) | set);
        Changed();
    }

    /// <summary>State or entries changed.</summary>
    public void Changed()
    {
        F.Cpu.FlushTlb();
        F.Cpu.StateChanged();
        if (_mode == PagingMode.Pae)
        {
            F.State->Pdpte[0] = Get(3) & ~6UL;
        }
    }

    /// <summary>Makes an access; the page-fault error code, or null when it succeeds.</summary>
    public uint? Access(AccessKind kind, AccessMode mode = AccessMode.Own, ulong linear = Linear)
    {
        F.State->Stop = StopKind.None;
        if (F.Cpu.ProbeLinear(linear, 1, kind, mode))
        {
            return null;
        }

        Assert.Equal((StopKind.Fault, (ulong)Vector.Pf, linear), (F.State->Stop, F.State->FaultVector, F.State->FaultAddress));
        return (uint)F.State->FaultErrorCode;
    }

    /// <summary>The byte behind an address, which must be mapped.</summary>
    public ulong Byte(ulong linear = Linear)
    {
        Assert.True(F.Cpu.ReadLinear(linear, 1, out ulong value));
        return value;
    }
}
