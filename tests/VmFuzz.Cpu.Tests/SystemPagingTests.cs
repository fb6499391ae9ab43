using VmFuzz.Arch;
using static VmFuzz.Cpu.Tests.PagingFixture;

namespace VmFuzz.Cpu.Tests;

/// <summary>Translation and page-fault error codes in every paging mode.</summary>
public sealed unsafe class SystemPagingTests
{
    private const uint P = PageFaultError.Present;
    private const uint W = PageFaultError.Write;
    private const uint U = PageFaultError.User;
    private const uint R = PageFaultError.Reserved;
    private const uint I = PageFaultError.Fetch;
    private const uint K = PageFaultError.ProtectionKey;

    public static TheoryData<PagingMode> Modes => [PagingMode.Bits32, PagingMode.Pae, PagingMode.FourLevel, PagingMode.FiveLevel];

    public static TheoryData<PagingMode> WideModes => [PagingMode.Pae, PagingMode.FourLevel, PagingMode.FiveLevel];

    public static TheoryData<PagingMode> LongModes => [PagingMode.FourLevel, PagingMode.FiveLevel];

    [Theory]
    [MemberData(nameof(Modes))]
    public void Walk_ToASmallPage_SetsAccessedAndDirty(PagingMode mode)
    {
        using PagingFixture p = new(mode, 3);
        p.F.Write(Frame | (Linear & 0xFFF), 1, 0x5A);
        Assert.Equal(0x5AUL, p.Byte());
        for (int level = (int)mode; level >= 1; level--)
        {
            bool register = mode == PagingMode.Pae && level == 3;
            Assert.Equal(register ? 0 : Accessed, p.Get(level) & (Accessed | Dirty));
        }

        Assert.Null(p.Access(AccessKind.Write));
        Assert.Equal(Dirty, p.Get(1) & Dirty);
        Assert.Equal(0UL, p.Get(2) & Dirty);
    }

    [Theory]
    [InlineData(PagingMode.Bits32, 2, 0x2123)]
    [InlineData(PagingMode.Pae, 2, 0x2123)]
    [InlineData(PagingMode.FourLevel, 2, 0x2123)]
    [InlineData(PagingMode.FiveLevel, 2, 0x2123)]
    public void Walk_ToALargePage_UsesItsOffset(PagingMode mode, int level, ulong physical)
    {
        using PagingFixture p = new(mode, 3, level);
        p.F.Write(physical, 1, 0x5B);
        Assert.Equal(0x5BUL, p.Byte());
        Assert.Null(p.Access(AccessKind.Write));
        Assert.Equal(Accessed | Dirty, p.Get(level) & (Accessed | Dirty));
    }

    [Fact]
    public void Walk_ToAGigabytePage_NeedsTheFeature()
    {
        using PagingFixture p = new(PagingMode.FourLevel, 3, 3);
        Assert.Null(p.Access(AccessKind.Read));
        using PagingFixture q = new(PagingMode.FourLevel, 3, 3, CpuFeatures.Page1G);
        Assert.Equal(P | U | R, q.Access(AccessKind.Read));
    }

    [Fact]
    public void Walk_With32BitPagingWithoutPse_TakesTheBitForNothing()
    {
        using PagingFixture p = new(PagingMode.Bits32, 3);
        p.Change(2, Large);
        p.F.State->Cr4 &= ~Cr4.Pse;
        p.Changed();
        p.F.Write(Frame | (Linear & 0xFFF), 1, 0x5C);
        Assert.Equal(0x5CUL, p.Byte());
    }

    [Theory]
    [MemberData(nameof(Modes))]
    public void NotPresent_AtAnyLevel_GivesItsErrorCode(PagingMode mode)
    {
        for (int level = (int)mode; level >= 1; level--)
        {
            using PagingFixture p = new(mode, 3);
            p.Set(level, p.Get(level) & ~Present);
            p.Changed();
            uint fetch = mode == PagingMode.Bits32 ? 0 : I;
            Assert.Equal((U, U | W, U | fetch), (p.Access(AccessKind.Read), p.Access(AccessKind.Write), p.Access(AccessKind.Fetch)));
            Assert.Equal(0U, p.Access(AccessKind.Read, AccessMode.System));
        }
    }

    [Theory]
    [MemberData(nameof(Modes))]
    public void SupervisorPage_ByAnyLevel_IsClosedToUsers(PagingMode mode)
    {
        for (int level = mode == PagingMode.Pae ? 2 : (int)mode; level >= 1; level--)
        {
            using PagingFixture p = new(mode, 3);
            p.Change(level, 0, User);
            uint fetch = mode == PagingMode.Bits32 ? 0 : I;
            Assert.Equal((P | U, P | U | W, P | U | fetch), (p.Access(AccessKind.Read), p.Access(AccessKind.Write), p.Access(AccessKind.Fetch)));
            Assert.Null(p.Access(AccessKind.Write, AccessMode.Supervisor));
        }
    }

    [Theory]
    [MemberData(nameof(Modes))]
    public void ReadOnlyPage_ByAnyLevel_FaultsOnWrites(PagingMode mode)
    {
        for (int level = mode == PagingMode.Pae ? 2 : (int)mode; level >= 1; level--)
        {
            using PagingFixture p = new(mode, 3);
            p.Change(level, 0, Writable);
            Assert.Null(p.Access(AccessKind.Read));
            Assert.Equal((P | U | W, P | W), (p.Access(AccessKind.Write), p.Access(AccessKind.Write, AccessMode.Supervisor)));
            Assert.Equal(0UL, p.Get(1) & Dirty);
            p.F.State->Cr0 &= ~Cr0.Wp;
            p.Changed();
            Assert.Equal(P | U | W, p.Access(AccessKind.Write));
            Assert.Null(p.Access(AccessKind.Write, AccessMode.Supervisor));
        }
    }

    [Theory]
    [MemberData(nameof(WideModes))]
    public void NoExecutePage_ByAnyLevel_FaultsOnFetches(PagingMode mode)
    {
        for (int level = mode == PagingMode.Pae ? 2 : (int)mode; level >= 1; level--)
        {
            using PagingFixture p = new(mode, 3);
            p.Change(level, Nx);
            Assert.Equal((P | U | I, P | I), (p.Access(AccessKind.Fetch), p.Access(AccessKind.Fetch, AccessMode.Supervisor)));
            Assert.Null(p.Access(AccessKind.Write));
        }
    }

    [Theory]
    [MemberData(nameof(WideModes))]
    public void NoExecuteBit_WithoutNxe_IsReserved(PagingMode mode)
    {
        for (int level = mode == PagingMode.Pae ? 2 : (int)mode; level >= 1; level--)
        {
            using PagingFixture p = new(mode, 3);
            p.F.State->Efer &= ~Efer.Nxe;
            p.Change(level, Nx);
            Assert.Equal((P | U | R, P | U | R), (p.Access(AccessKind.Read), p.Access(AccessKind.Fetch)));
        }
    }

    // Bits that are reserved by the address width (40), by the size of the page, or always.
    [Theory]
    [InlineData(PagingMode.Bits32, 2, 2, 1UL << 21)]
    [InlineData(PagingMode.Pae, 1, 1, 1UL << 40)]
    [InlineData(PagingMode.Pae, 1, 1, 1UL << 52)]
    [InlineData(PagingMode.Pae, 1, 2, 1UL << 62)]
    [InlineData(PagingMode.Pae, 2, 2, 1UL << 13)]
    [InlineData(PagingMode.Pae, 2, 2, 1UL << 20)]
    [InlineData(PagingMode.FourLevel, 1, 1, 1UL << 40)]
    [InlineData(PagingMode.FourLevel, 1, 2, 1UL << 51)]
    [InlineData(PagingMode.FourLevel, 1, 4, Large)]
    [InlineData(PagingMode.FourLevel, 2, 2, 1UL << 13)]
    [InlineData(PagingMode.FourLevel, 3, 3, 1UL << 29)]
    [InlineData(PagingMode.FiveLevel, 1, 5, Large)]
    [InlineData(PagingMode.FiveLevel, 1, 5, 1UL << 51)]
    public void ReservedBit_InAnEntry_GivesItsErrorCode(PagingMode mode, int leaf, int level, ulong bit)
    {
        using PagingFixture p = new(mode, 3, leaf);
        Assert.Null(p.Access(AccessKind.Write));
        p.Change(level, bit);
        Assert.Equal((P | U | R, P | U | R | W), (p.Access(AccessKind.Read), p.Access(AccessKind.Write)));
        Assert.Equal(P | R, p.Access(AccessKind.Read, AccessMode.System));
    }

    [Theory]
    [MemberData(nameof(LongModes))]
    public void IgnoredBits_OfLongModeEntries_AreNotReserved(PagingMode mode)
    {
        using PagingFixture p = new(mode, 3);
        for (int level = (int)mode; level >= 1; level--)
        {
            p.Change(level, 0x7FF0_0000_0000_0E00);
        }

        Assert.Null(p.Access(AccessKind.Write));
    }

    [Theory]
    [MemberData(nameof(Modes))]
    public void Smep_OnAUserPage_FaultsOnSupervisorFetches(PagingMode mode)
    {
        using PagingFixture p = new(mode, 0);
        Assert.Null(p.Access(AccessKind.Fetch));
        p.F.State->Cr4 |= Cr4.Smep;
        p.Changed();
        Assert.Equal(P | I, p.Access(AccessKind.Fetch));
        Assert.Null(p.Access(AccessKind.Write));
    }

    [Theory]
    [MemberData(nameof(Modes))]
    public void Smap_OnAUserPage_NeedsAcAndAnExplicitAccess(PagingMode mode)
    {
        using PagingFixture p = new(mode, 0);
        p.F.State->Cr4 |= Cr4.Smap;
        p.Changed();
        Assert.Equal((P, P | W, P), (p.Access(AccessKind.Read), p.Access(AccessKind.Write), p.Access(AccessKind.Read, AccessMode.System)));
        Assert.Null(p.Access(AccessKind.Fetch));
        p.F.Cpu.RFlagsValue = RFlags.Ac;
        p.F.Cpu.StateChanged();
        Assert.Null(p.Access(AccessKind.Read));
        Assert.Null(p.Access(AccessKind.Write));
        Assert.Equal((P, P | W), (p.Access(AccessKind.Read, AccessMode.System), p.Access(AccessKind.Write, AccessMode.System)));
    }

    // What keys allow: rights are AD | WD << 1; the result is for reads and writes.
    [Theory]
    [InlineData(0UL, true, 0U, 0U)]
    [InlineData(1UL, true, P | K, P | K)]
    [InlineData(1UL, false, P | K, P | K)]
    [InlineData(2UL, true, 0U, P | K)]
    [InlineData(2UL, false, 0U, 0U)]
    public void ProtectionKey_OnASupervisorPage_IsThatOfPkrs(ulong rights, bool wp, uint read, uint write)
    {
        using PagingFixture p = new(PagingMode.FourLevel, 0);
        p.F.State->Cr4 |= Cr4.Pks;
        p.F.State->Cr0 = wp ? p.F.State->Cr0 : p.F.State->Cr0 & ~Cr0.Wp;
        p.F.State->Pkrs = rights << 10;
        p.F.State->Pkru = uint.MaxValue;
        p.Change(1, 5UL << 59, User);
        Assert.Equal((read, write == 0 ? 0 : write | W), (p.Access(AccessKind.Read) ?? 0, p.Access(AccessKind.Write) ?? 0));
        Assert.Null(p.Access(AccessKind.Fetch));
        p.Change(1, 4UL << 59, 15UL << 59);
        Assert.Null(p.Access(AccessKind.Write));
    }

    [Theory]
    [InlineData(3, 0UL, true, 0U, 0U)]
    [InlineData(3, 1UL, true, P | K, P | K)]
    [InlineData(3, 2UL, true, 0U, P | K)]
    [InlineData(3, 2UL, false, 0U, P | K)]
    [InlineData(0, 1UL, true, P | K, P | K)]
    [InlineData(0, 2UL, true, 0U, P | K)]
    [InlineData(0, 2UL, false, 0U, 0U)]
    public void ProtectionKey_OnAUserPage_IsThatOfPkru(int cpl, ulong rights, bool wp, uint read, uint write)
    {
        foreach (PagingMode mode in (PagingMode[])[PagingMode.FourLevel, PagingMode.FiveLevel])
        {
            using PagingFixture p = new(mode, cpl);
            uint user = cpl == 3 ? U : 0;
            p.F.State->Cr4 |= Cr4.Pke;
            p.F.State->Cr0 = wp ? p.F.State->Cr0 : p.F.State->Cr0 & ~Cr0.Wp;
            p.F.State->Pkru = rights << 30;
            p.F.State->Pkrs = uint.MaxValue;
            p.Change(1, 15UL << 59);
            Assert.Equal(
                (read == 0 ? 0 : read | user, write == 0 ? 0 : write | user | W),
                (p.Access(AccessKind.Read) ?? 0, p.Access(AccessKind.Write) ?? 0));
            Assert.Null(p.Access(AccessKind.Fetch));
        }
    }

    [Fact]
    public void ProtectionKey_OfALargePage_IsInItsEntry()
    {
        using PagingFixture p = new(PagingMode.FourLevel, 3, 2);
        p.F.State->Cr4 |= Cr4.Pke;
        p.F.State->Pkru = 1 << 6;
        p.Change(2, 3UL << 59);
        Assert.Equal(P | U | K, p.Access(AccessKind.Read));
    }

    [Fact]
    public void ProtectionKey_WithAnotherCause_IsReportedToo()
    {
        using PagingFixture p = new(PagingMode.FourLevel, 3);
        p.F.State->Cr4 |= Cr4.Pke;
        p.F.State->Pkru = 2;
        p.Change(1, 0, Writable);
        Assert.Equal(P | U | W | K, p.Access(AccessKind.Write));
        p.Change(1, 0, Present);
        Assert.Equal(U | W, p.Access(AccessKind.Write));
    }

    [Fact]
    public void ProtectionKey_InPaePaging_MeansNothing()
    {
        using PagingFixture p = new(PagingMode.Pae, 3);
        p.F.State->Cr4 |= Cr4.Pke;
        p.F.State->Pkru = uint.MaxValue;
        p.Changed();
        Assert.Null(p.Access(AccessKind.Write));
    }

    [Fact]
    public void Wrpkru_WithCachedTranslations_TakesEffectAtOnce()
    {
        using PagingFixture p = new(PagingMode.FourLevel, 3);
        p.F.State->Cr4 |= Cr4.Pke;
        p.Changed();
        Assert.Null(p.Access(AccessKind.Write));
        p.F.Cpu[Gpr.Rax] = 2;
        p.F.Cpu[Gpr.Rcx] = 0;
        p.F.Cpu[Gpr.Rdx] = 0;
        p.F.Completes(0x0F, 0x01, 0xEF);
        Assert.Equal(P | U | W | K, p.Access(AccessKind.Write));
        p.F.Cpu[Gpr.Rax] = ulong.MaxValue;
        p.F.Cpu[Gpr.Rdx] = ulong.MaxValue;
        p.F.Completes(0x0F, 0x01, 0xEE);
        Assert.Equal((2UL, 0UL), (p.F.Cpu[Gpr.Rax], p.F.Cpu[Gpr.Rdx]));
    }

    [Fact]
    public void RdpkruAndWrpkru_WithWrongRegistersOrModes_Fault()
    {
        using SystemFixture f = new SystemFixture().Protected32(3);
        f.Cpu[Gpr.Rcx] = 0;
        f.Faults(Vector.Ud, 0, 0x0F, 0x01, 0xEE);
        f.Faults(Vector.Ud, 0, 0x0F, 0x01, 0xEF);
        f.State->Cr4 |= Cr4.Pke;
        f.Cpu[Gpr.Rdx] = 1;
        f.Faults(Vector.Gp, 0, 0x0F, 0x01, 0xEF);
        f.Cpu[Gpr.Rdx] = 0;
        f.Cpu[Gpr.Rcx] = 1;
        f.Faults(Vector.Gp, 0, 0x0F, 0x01, 0xEE);
        f.Faults(Vector.Gp, 0, 0x0F, 0x01, 0xEF);
    }

    [Theory]
    [InlineData(Cr4.Pke, CpuFeatures.Pku)]
    [InlineData(Cr4.Pks, CpuFeatures.Pks)]
    public void Cr4_KeyBitsWithoutTheFeature_Fault(ulong bit, CpuFeatures feature)
    {
        using SystemFixture f = new(feature);
        f.Protected32();
        f.Cpu[Gpr.Rax] = bit;
        f.Faults(Vector.Gp, 0, 0x0F, 0x22, 0xE0);
    }

    [Fact]
    public void PkrsMsr_Written_HoldsThirtyTwoBits()
    {
        using SystemFixture f = new SystemFixture().Long();
        Assert.True(f.Cpu.TryWriteMsr(Msr.Pkrs, 0xFFFF_FFFF));
        Assert.False(f.Cpu.TryWriteMsr(Msr.Pkrs, 0x1_0000_0000));
        Assert.True(f.Cpu.TryReadMsr(Msr.Pkrs, out ulong value));
        Assert.Equal(0xFFFF_FFFFUL, value);
    }

    [Fact]
    public void Cpuid_WithPke_ShowsOspke()
    {
        CpuModel model = CpuModels.With(CpuModels.VmFuzz64, CpuFeatures.Pku | CpuFeatures.Pks);
        Assert.Equal((1U << 3) | (1U << 31), model.Lookup(7, 0).Ecx & ((1U << 3) | (1U << 31)));
        Assert.Equal(0U, CpuModels.VmFuzz64.Lookup(7, 0).Ecx & ((1U << 3) | (1U << 31)));
    }

    [Fact]
    public void Pcide_OutsideLongModeOrWithAPcid_CannotBeSet()
    {
        using SystemFixture f = new SystemFixture().Protected32();
        f.Cpu[Gpr.Rax] = Cr4.Pcide;
        f.Faults(Vector.Gp, 0, 0x0F, 0x22, 0xE0);
        using SystemFixture g = new SystemFixture().Long();
        g.State->Cr3 |= 8;
        g.Cpu[Gpr.Rax] = g.State->Cr4 | Cr4.Pcide;
        g.Faults(Vector.Gp, 0, 0x0F, 0x22, 0xE0);
        g.State->Cr3 &= ~8UL;
        g.Completes(0x0F, 0x22, 0xE0);
        g.Cpu[Gpr.Rax] = g.State->Cr0 & ~Cr0.Pg;
        g.Faults(Vector.Gp, 0, 0x0F, 0x22, 0xC0);
    }

    // Type, PCID, address, CR4.PCIDE, and whether it is #GP(0).
    [Theory]
    [InlineData(0, 0, 0, false, false)]
    [InlineData(0, 1, 0, false, true)]
    [InlineData(0, 1, 0, true, false)]
    [InlineData(0, 1, 0x8000_0000_0000, true, true)]
    [InlineData(1, 1, 0x8000_0000_0000, true, false)]
    [InlineData(1, 1, 0, false, true)]
    [InlineData(1, 0x1000, 0, true, true)]
    [InlineData(2, 0xFFF, 0, false, false)]
    [InlineData(2, 0x1000, 0, false, true)]
    [InlineData(3, 0xFFF, 0, false, false)]
    [InlineData(3, 0x1000, 0, false, true)]
    [InlineData(4, 0, 0, true, true)]
    public void Invpcid_OfEachType_ChecksItsDescriptor(ulong type, ulong pcid, ulong address, bool pcide, bool faults)
    {
        using SystemFixture f = new SystemFixture().Long();
        f.State->Cr4 |= pcide ? Cr4.Pcide : 0;
        f.Write(0xA000, 8, pcid);
        f.Write(0xA008, 8, address);
        f.Cpu[Gpr.Rax] = type;
        f.Cpu[Gpr.Rbx] = 0xA000;
        byte[] code = [0x66, 0x0F, 0x38, 0x82, 0x03];
        if (faults)
        {
            f.Faults(Vector.Gp, 0, code);
        }
        else
        {
            f.Completes(code);
        }
    }

    [Fact]
    public void La57_InLongMode_CannotChangeAndDecidesWhatIsCanonical()
    {
        using SystemFixture f = new(CpuFeatures.None);
        f.Long();
        f.Cpu[Gpr.Rax] = f.State->Cr4 | Cr4.La57;
        f.Faults(Vector.Gp, 0, 0x0F, 0x22, 0xE0);
        Assert.False(f.Cpu.IsCanonical(1UL << 47));
        f.State->Cr4 |= Cr4.La57;
        Assert.True(f.Cpu.IsCanonical(1UL << 47));
        Assert.False(f.Cpu.IsCanonical(1UL << 56));
    }

    [Fact]
    public void FiveLevelPaging_UsesBits56To48()
    {
        using PagingFixture p = new(PagingMode.FiveLevel, 3);
        p.F.SetSegment(SegmentRegister.Cs, SystemFixture.Code64User);
        p.Changed();
        Assert.Equal(U, p.Access(AccessKind.Read, linear: Linear | (1UL << 48)));
        Assert.Null(p.Access(AccessKind.Read));
    }

    [Fact]
    public void GlobalPage_AfterMovToCr3_FollowsTheNewTables()
    {
        // Caches never show: a global page is as the tables say.
        using PagingFixture p = new(PagingMode.FourLevel, 0);
        p.F.State->Cr4 |= Cr4.Pge;
        p.Change(1, 1 << 8);
        Assert.Null(p.Access(AccessKind.Read));
        p.Set(1, 0);
        p.F.Cpu[Gpr.Rax] = p.F.State->Cr3;
        p.F.Completes(0x0F, 0x22, 0xD8);
        Assert.Equal(0U, p.Access(AccessKind.Read));
    }
}
