using VmFuzz.Arch;

namespace VmFuzz.Cpu.Tests;

public sealed unsafe class SystemControlTests
{
    private static readonly byte[] MovToCr0 = [0x0F, 0x22, 0xC0];
    private static readonly byte[] MovToCr3 = [0x0F, 0x22, 0xD8];
    private static readonly byte[] MovToCr4 = [0x0F, 0x22, 0xE0];

    [Theory]
    [InlineData(Cr0.Pg)] // PG without PE
    [InlineData(Cr0.Pe | Cr0.Nw)] // NW without CD
    public void MovToCr0_WrongCombination_IsGeneralProtection(ulong value)
    {
        using SystemFixture f = new SystemFixture().Protected32();
        f.Cpu[Gpr.Rax] = value;
        f.Faults(Vector.Gp, 0, MovToCr0);
    }

    [Fact]
    public void MovToCr0_ReservedBits_AreDroppedAndEtStays()
    {
        using SystemFixture f = new SystemFixture().Real();
        f.Cpu[Gpr.Rax] = 0x0000_FF01;
        f.Completes(MovToCr0);
        Assert.Equal(Cr0.Pe | Cr0.Et, f.State->Cr0);
        Assert.True(f.Cpu.Protected);
    }

    [Fact]
    public void MovToCr0_Upper32BitsIn64BitMode_IsGeneralProtection()
    {
        using SystemFixture f = new SystemFixture().Long();
        f.Cpu[Gpr.Rax] = f.State->Cr0 | (1UL << 32);
        f.Faults(Vector.Gp, 0, MovToCr0);
        f.Cpu[Gpr.Rax] = f.State->Cr0 & ~Cr0.Pg;
        f.Faults(Vector.Gp, 0, MovToCr0);
    }

    [Fact]
    public void Paging_WithLme_ActivatesLongMode()
    {
        using SystemFixture f = new SystemFixture().Long();
        f.SetSegment(SegmentRegister.Cs, SystemFixture.Code0);
        f.Cpu.StateChanged();
        f.Cpu[Gpr.Rax] = f.State->Cr0 & ~Cr0.Pg;
        f.Completes(MovToCr0);
        Assert.Equal(0UL, f.State->Efer & Efer.Lma);
        f.Cpu[Gpr.Rax] = f.State->Cr0 | Cr0.Pg;
        f.State->Cr4 &= ~Cr4.Pae;
        f.Faults(Vector.Gp, 0, MovToCr0);
        f.State->Cr4 |= Cr4.Pae;
        f.SetSegment(SegmentRegister.Cs, SystemFixture.Code64);
        f.Faults(Vector.Gp, 0, MovToCr0);
        f.SetSegment(SegmentRegister.Cs, SystemFixture.Code0);
        f.Completes(MovToCr0);
        Assert.True(f.Cpu.LongMode);
    }

    [Fact]
    public void PaePaging_Enabled_LoadsAndChecksPdptes()
    {
        using SystemFixture f = new SystemFixture().Protected32();
        f.State->Cr3 = 0x13000;
        f.State->Cr4 = Cr4.Pae;
        f.Write(0x13000, 8, 0x12007);
        f.Cpu[Gpr.Rax] = f.State->Cr0 | Cr0.Pg;
        f.Faults(Vector.Gp, 0, MovToCr0);
        f.Write(0x13000, 8, 0x12001);
        f.Completes(MovToCr0);
        Assert.Equal(0x12001UL, f.State->Pdpte[0]);
    }

    [Fact]
    public void Invlpg_OfALargePage_DropsAllOfIt()
    {
        using SystemFixture f = new SystemFixture().Long();
        Assert.True(f.Cpu.ReadLinear(0xA000, 8, out _));
        Assert.True(f.Cpu.ReadLinear(0xB000, 8, out _));
        f.Write(0x12000, 8, 0);
        f.Cpu[Gpr.Rax] = 0xA000;
        f.Completes(0x0F, 0x01, 0x38);
        Assert.False(f.Cpu.ReadLinear(0xB000, 8, out _));
    }

    [Fact]
    public void MovToCr3_ReservedBits_IsGeneralProtection()
    {
        using SystemFixture f = new SystemFixture().Long();
        f.Cpu[Gpr.Rax] = 0x10000 | (1UL << 40);
        f.Faults(Vector.Gp, 0, MovToCr3);
        f.Cpu[Gpr.Rax] = 0x10000 | (1UL << 63);
        f.Faults(Vector.Gp, 0, MovToCr3);
        f.State->Cr4 |= Cr4.Pcide;
        f.Completes(MovToCr3);
        Assert.Equal(0x10000UL, f.State->Cr3);
    }

    [Theory]
    [InlineData(1UL << 15)]
    [InlineData(Cr4.La57)] // not in this model
    [InlineData(Cr4.Cet)]
    public void MovToCr4_UnknownBits_IsGeneralProtection(ulong bit)
    {
        using SystemFixture f = new SystemFixture().Protected32();
        f.Cpu[Gpr.Rax] = bit;
        f.Faults(Vector.Gp, 0, MovToCr4);
    }

    [Fact]
    public void MovToCr4_InLongMode_KeepsPaeAndChecksPcide()
    {
        using SystemFixture f = new SystemFixture().Long();
        f.Cpu[Gpr.Rax] = f.State->Cr4 & ~Cr4.Pae;
        f.Faults(Vector.Gp, 0, MovToCr4);
        f.State->Cr3 |= 8;
        f.Cpu[Gpr.Rax] = f.State->Cr4 | Cr4.Pcide;
        f.Faults(Vector.Gp, 0, MovToCr4);
        f.State->Cr3 &= ~0xFFFUL;
        f.Completes(MovToCr4);
    }

    [Fact]
    public void MovToCr4_PcideOutsideLongMode_IsGeneralProtection()
    {
        using SystemFixture f = new SystemFixture().Protected32();
        f.Cpu[Gpr.Rax] = Cr4.Pcide;
        f.Faults(Vector.Gp, 0, MovToCr4);
    }

    [Theory]
    [InlineData(new byte[] { 0x0F, 0x22, 0xC0 })]
    [InlineData(new byte[] { 0x0F, 0x20, 0xC0 })]
    [InlineData(new byte[] { 0x0F, 0x23, 0xF8 })]
    [InlineData(new byte[] { 0x0F, 0x01, 0x15, 0, 0xA0, 0, 0 })]
    [InlineData(new byte[] { 0x0F, 0x00, 0xD8 })]
    [InlineData(new byte[] { 0x0F, 0x06 })]
    [InlineData(new byte[] { 0x0F, 0x01, 0xF0 })]
    [InlineData(new byte[] { 0x0F, 0x01, 0x3D, 0, 0xA0, 0, 0 })]
    [InlineData(new byte[] { 0x0F, 0x32 })]
    [InlineData(new byte[] { 0x0F, 0x30 })]
    [InlineData(new byte[] { 0x0F, 0x09 })]
    [InlineData(new byte[] { 0x0F, 0x08 })]
    [InlineData(new byte[] { 0xF4 })]
    [InlineData(new byte[] { 0xFA })]
    [InlineData(new byte[] { 0xFB })]
    [InlineData(new byte[] { 0x0F, 0x33 })]
    public void PrivilegedInstruction_AtLevel3_IsGeneralProtection(byte[] code)
    {
        using SystemFixture f = new SystemFixture().Protected32(3);
        f.Faults(Vector.Gp, 0, code);
    }

    [Fact]
    public void Lmsw_WithPeClear_CannotLeaveProtectedMode()
    {
        using SystemFixture f = new SystemFixture().Protected32();
        f.Cpu[Gpr.Rax] = Cr0.Ts;
        f.Completes(0x0F, 0x01, 0xF0);
        Assert.Equal(Cr0.Pe | Cr0.Ts | Cr0.Et | Cr0.Ne, f.State->Cr0);
        f.Completes(0x0F, 0x06);
        Assert.Equal(0UL, f.State->Cr0 & Cr0.Ts);
    }

    [Fact]
    public void DebugRegisters_FixedBitsAndAliases_Hold()
    {
        using SystemFixture f = new SystemFixture().Protected32();
        f.Cpu[Gpr.Rax] = 0;
        f.Completes(0x0F, 0x23, 0xF0);
        f.Completes(0x0F, 0x23, 0xE8); // DR5 is DR7
        Assert.Equal((0xFFFF_0FF0UL, 0x400UL), (f.State->Dr6, f.State->Dr7));
        f.State->Cr4 |= Cr4.De;
        f.Faults(Vector.Ud, 0, 0x0F, 0x23, 0xE8);
    }

    [Fact]
    public void Umip_AtLevel3_ForbidsStores()
    {
        using SystemFixture f = new SystemFixture().Protected32(3);
        f.Completes(0x0F, 0x01, 0xE0);
        f.State->Cr4 |= Cr4.Umip;
        f.Faults(Vector.Gp, 0, 0x0F, 0x01, 0xE0);
        f.Faults(Vector.Gp, 0, 0x0F, 0x00, 0xC8);
    }

    [Theory]
    [InlineData(3, 0, Vector.Gp)]
    [InlineData(3, 3, 0)]
    [InlineData(0, 0, 0)]
    public void Cli_ByLevelAndIopl_FaultsOrClears(int cpl, ulong iopl, int vector)
    {
        using SystemFixture f = new SystemFixture().Protected32(cpl);
        f.Cpu.RFlagsValue = RFlags.If | (iopl << 12);
        if (vector != 0)
        {
            f.Faults((byte)vector, 0, 0xFA);
            return;
        }

        f.Completes(0xFA);
        Assert.Equal(0UL, f.Cpu.RFlagsValue & RFlags.If);
        f.Completes(0xFB);
        Assert.Equal(1UL, f.State->Interruptibility);
    }

    [Fact]
    public void Sti_WithIfSet_HasNoShadow()
    {
        using SystemFixture f = new SystemFixture().Protected32();
        f.Cpu.RFlagsValue = RFlags.If;
        f.Completes(0xFB);
        Assert.Equal(0UL, f.State->Interruptibility);
    }

    [Theory]
    [InlineData(0, 0, 0x3202, 0x3202)]
    [InlineData(3, 0, 0x3202, 0x0002)]
    [InlineData(3, 3, 0x0202, 0x3202)]
    public void Popf_ByLevel_ChangesWhatItMay(int cpl, ulong iopl, ulong image, ulong expected)
    {
        using SystemFixture f = new SystemFixture().Protected32(cpl);
        f.Cpu.RFlagsValue = iopl << 12;
        f.PushAll(4, image | RFlags.Vm | RFlags.Rf);
        f.Completes(0x9D);
        Assert.Equal(expected, f.Cpu.RFlagsValue);
    }

    [Fact]
    public void Pushf_WithRf_PushesItClear()
    {
        using SystemFixture f = new SystemFixture().Protected32();
        f.Cpu.RFlagsValue = RFlags.Rf | RFlags.Cf;
        f.Completes(0x9C);
        Assert.Equal(2 | RFlags.Cf, f.OnStack(0, 4));
    }

    [Fact]
    public void SwapgsAndBases_In64BitMode_Work()
    {
        using SystemFixture f = new SystemFixture().Long();
        f.State->KernelGsBase = 0xFFFF_8000_0000_0000;
        f.Completes(0x0F, 0x01, 0xF8);
        Assert.Equal((0xFFFF_8000_0000_0000UL, 0UL), (f.State->Gs.Base, f.State->KernelGsBase));
        f.Faults(Vector.Ud, 0, 0xF3, 0x48, 0x0F, 0xAE, 0xC8);
        f.State->Cr4 |= Cr4.Fsgsbase;
        f.Completes(0xF3, 0x48, 0x0F, 0xAE, 0xC8);
        Assert.Equal(0xFFFF_8000_0000_0000UL, f.Cpu[Gpr.Rax]);
        f.Cpu[Gpr.Rax] = 0x8000_0000_0000_0000;
        f.Faults(Vector.Gp, 0, 0xF3, 0x48, 0x0F, 0xAE, 0xD0);
    }

    [Fact]
    public void Xsetbv_Values_AreChecked()
    {
        using SystemFixture f = new SystemFixture().Long();
        f.Faults(Vector.Ud, 0, 0x0F, 0x01, 0xD1);
        f.State->Cr4 |= Cr4.Osxsave;
        f.Cpu[Gpr.Rdx] = 0;
        f.Cpu[Gpr.Rax] = 5; // AVX without SSE
        f.Faults(Vector.Gp, 0, 0x0F, 0x01, 0xD1);
        f.Cpu[Gpr.Rax] = 15;
        f.Faults(Vector.Gp, 0, 0x0F, 0x01, 0xD1);
        f.Cpu[Gpr.Rax] = 7;
        f.Completes(0x0F, 0x01, 0xD1);
        f.Cpu[Gpr.Rax] = 0;
        f.Completes(0x0F, 0x01, 0xD0);
        Assert.Equal(7UL, f.Cpu[Gpr.Rax]);
    }

    [Fact]
    public void Cpuid_LeafOne_FollowsOsxsave()
    {
        using SystemFixture f = new SystemFixture().Long();
        f.State->Cr4 |= Cr4.Osxsave;
        f.Cpu[Gpr.Rax] = 0xFFFF_FFFF_0000_0001;
        f.Completes(0x0F, 0xA2);
        Assert.Equal((0x306C3UL, (1UL << 21) | (1UL << 27)), (f.Cpu[Gpr.Rax], f.Cpu[Gpr.Rcx]));
    }

    [Theory]
    [InlineData(0x1122_3344_5566_7788UL, true)]
    [InlineData(0x1122_3344_5566_7788UL, false)]
    public void Rdrand_Input_DecidesCarry(ulong value, bool valid)
    {
        using SystemFixture f = new SystemFixture().Long();
        f.NextRandom = new Input(InputKind.Random, value, valid ? 1UL : 0);
        f.Cpu[Gpr.Rax] = ulong.MaxValue;
        f.Cpu.RFlagsValue = RFlags.Arithmetic;
        f.Completes(0x0F, 0xC7, 0xF0);
        Assert.Equal(valid ? 0x5566_7788UL : 0, f.Cpu[Gpr.Rax]);
        Assert.Equal(valid ? RFlags.Cf : 0, f.Cpu.RFlagsValue & RFlags.Arithmetic);
    }

    [Fact]
    public void Rdtsc_WithOffset_ReadsVirtualTime()
    {
        using SystemFixture f = new SystemFixture().Long(3);
        f.State->TscOffset = 0x1_0000_0000;
        f.Completes(0x0F, 0x31);
        Assert.Equal((1000UL, 1UL), (f.Cpu[Gpr.Rax], f.Cpu[Gpr.Rdx]));
        f.State->Cr4 |= Cr4.Tsd;
        f.Faults(Vector.Gp, 0, 0x0F, 0x31);
    }

    [Fact]
    public void Fxsave_AndRestore_RoundTripInStackOrder()
    {
        using SystemFixture f = new SystemFixture().Long();
        f.State->Fcw = 0x37F;
        f.State->Fsw = 3 << 11;
        f.State->Ftw = 0xFF3F; // R3 valid
        f.State->X87[6] = 0x8000_0000_0000_0000;
        f.State->X87[7] = 0x3FFF;
        f.State->Ymm[60] = 0x42;
        f.Cpu[Gpr.Rax] = 0xA000;
        f.Completes(0x48, 0x0F, 0xAE, 0x00);
        Assert.Equal((0x8UL, 0x3FFFUL, 0x42UL), (f.Read(0xA004, 1), f.Read(0xA028, 2), f.Read(0xA000 + 160 + 240, 8)));
        f.State->X87[7] = 0;
        f.State->Ftw = 0xFFFF;
        f.Completes(0x48, 0x0F, 0xAE, 0x08);
        Assert.Equal((0x3FFFUL, 0xFF3FUL), (f.State->X87[7], f.State->Ftw));
        f.Cpu[Gpr.Rax] = 0xA008;
        f.Faults(Vector.Gp, 0, 0x48, 0x0F, 0xAE, 0x00);
        f.State->Cr0 |= Cr0.Ts;
        f.Faults(Vector.Nm, 0, 0x48, 0x0F, 0xAE, 0x00);
    }

    [Fact]
    public void Mxcsr_ReservedBits_IsGeneralProtection()
    {
        using SystemFixture f = new SystemFixture().Long();
        f.Write(0xA000, 4, 0x1_1F80);
        f.Cpu[Gpr.Rax] = 0xA000;
        f.Faults(Vector.Gp, 0, 0x0F, 0xAE, 0x10);
        f.State->Cr4 &= ~Cr4.Osfxsr;
        f.Faults(Vector.Ud, 0, 0x0F, 0xAE, 0x10);
    }
}
