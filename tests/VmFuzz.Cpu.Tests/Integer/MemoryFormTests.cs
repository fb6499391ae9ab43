using VmFuzz.Arch;

namespace VmFuzz.Cpu.Tests.Integer;

/// <summary>Forms with memory operands, faults and prefixes.</summary>
public sealed unsafe class MemoryFormTests
{
    [Theory]
    [InlineData(64L, 8UL)]
    [InlineData(-1L, unchecked((ulong)-8))]
    [InlineData(-65L, unchecked((ulong)-16))]
    public void Bts_RegisterOffset_ReachesBeyondTheOperand(long bit, ulong distance)
    {
        using var machine = new TestProcessor();
        machine[Gpr.Rbx] = TestProcessor.Data;
        machine[Gpr.Rax] = (ulong)bit;
        Assert.Equal(ExecResult.Next, machine.Step(0x48, 0x0F, 0xAB, 0x03)); // bts [rbx], rax
        Assert.Equal(1UL << (int)(bit & 63), machine.Load(TestProcessor.Data + distance));
        Assert.Equal(0UL, machine.Arithmetic & RFlags.Cf);
        machine.Step(0x48, 0x0F, 0xBB, 0x03); // btc
        Assert.Equal(RFlags.Cf, machine.Arithmetic & RFlags.Cf);
        Assert.Equal(0UL, machine.Load(TestProcessor.Data + distance));
    }

    [Fact]
    public void Bt_ImmediateOffset_StaysInTheOperand()
    {
        using var machine = new TestProcessor();
        machine[Gpr.Rbx] = TestProcessor.Data;
        machine.Store(TestProcessor.Data, 1, 4);
        machine.Step(0x0F, 0xBA, 0x23, 0x20); // bt dword [rbx], 32
        Assert.Equal(RFlags.Cf, machine.Arithmetic & RFlags.Cf);
    }

    [Fact]
    public void Cmpxchg_MemoryDiffers_LoadsAccumulator()
    {
        using var machine = new TestProcessor();
        machine[Gpr.Rbx] = TestProcessor.Data;
        machine[Gpr.Rcx] = 7;
        machine.Store(TestProcessor.Data, 5);
        machine.Step(0xF0, 0x48, 0x0F, 0xB1, 0x0B); // lock cmpxchg [rbx], rcx
        Assert.Equal(5UL, machine[Gpr.Rax]);
        Assert.Equal(0UL, machine.Arithmetic & RFlags.Zf);
        machine.Step(0xF0, 0x48, 0x0F, 0xB1, 0x0B);
        Assert.Equal(7UL, machine.Load(TestProcessor.Data));
        Assert.Equal(RFlags.Zf, machine.Arithmetic & RFlags.Zf);
    }

    [Fact]
    public void Cmpxchg8b_Both_ExchangesOrLoads()
    {
        using var machine = new TestProcessor(TestMode.Protected32);
        machine[Gpr.Rdi] = TestProcessor.Data;
        machine.Store(TestProcessor.Data, 0x1111_1111_2222_2222);
        machine[Gpr.Rbx] = 3;
        machine[Gpr.Rcx] = 4;
        machine.Step(0x0F, 0xC7, 0x0F); // cmpxchg8b [edi]
        Assert.Equal(0x2222_2222UL, machine[Gpr.Rax]);
        Assert.Equal(0x1111_1111UL, machine[Gpr.Rdx]);
        machine.Step(0x0F, 0xC7, 0x0F);
        Assert.Equal(0x4_0000_0003UL, machine.Load(TestProcessor.Data));
        Assert.Equal(RFlags.Zf, machine.Arithmetic);
    }

    [Fact]
    public void Cmpxchg16b_Unaligned_RaisesGeneralProtection()
    {
        using var machine = new TestProcessor();
        machine[Gpr.Rdi] = TestProcessor.Data + 8;
        machine.AssertFault(Vector.Gp, machine.Step(0x48, 0x0F, 0xC7, 0x0F));
        machine[Gpr.Rdx] = 0;
        machine[Gpr.Rdi] = TestProcessor.Data;
        machine[Gpr.Rbx] = 1;
        machine[Gpr.Rcx] = 2;
        Assert.Equal(ExecResult.Next, machine.Step(0x48, 0x0F, 0xC7, 0x0F));
        Assert.Equal(1UL, machine.Load(TestProcessor.Data));
        Assert.Equal(2UL, machine.Load(TestProcessor.Data + 8));
    }

    [Fact]
    public void Xadd_AddressUsesTheSource_AddsAtTheOldAddress()
    {
        using var machine = new TestProcessor();
        machine[Gpr.Rax] = TestProcessor.Data;
        machine.Store(TestProcessor.Data, 2);
        machine.Step(0x48, 0x0F, 0xC1, 0x00); // xadd [rax], rax
        Assert.Equal(2UL, machine[Gpr.Rax]);
        Assert.Equal(TestProcessor.Data + 2, machine.Load(TestProcessor.Data));
    }

    [Theory]
    [InlineData(new byte[] { 0xF0, 0x01, 0x03 }, true)] // lock add [rbx], eax
    [InlineData(new byte[] { 0xF0, 0x87, 0x03 }, true)] // lock xchg [rbx], eax
    [InlineData(new byte[] { 0xF0, 0x0F, 0xBA, 0x2B, 0x01 }, true)] // lock bts dword [rbx], 1
    public void Lock_OnReadModifyWrite_IsAllowed(byte[] code, bool allowed)
    {
        using var machine = new TestProcessor();
        machine[Gpr.Rbx] = TestProcessor.Data;
        Assert.Equal(allowed, machine.Step(code) == ExecResult.Next);
    }

    [Theory]
    [InlineData(new byte[] { 0xF0, 0x01, 0xC3 })] // lock add ebx, eax
    [InlineData(new byte[] { 0xF0, 0x39, 0x03 })] // lock cmp [rbx], eax
    [InlineData(new byte[] { 0xF0, 0x8B, 0x03 })] // lock mov eax, [rbx]
    [InlineData(new byte[] { 0xF0, 0x03, 0x03 })] // lock add eax, [rbx]
    [InlineData(new byte[] { 0xF0, 0x0F, 0xA3, 0x03 })] // lock bt [rbx], eax
    public void Lock_Elsewhere_IsNotAllowed(byte[] code)
    {
        var decoder = Iced.Intel.Decoder.Create(64, new Iced.Intel.ByteArrayCodeReader(code), Iced.Intel.DecoderOptions.NoInvalidCheck);
        decoder.Decode(out Iced.Intel.Instruction instruction);
        Assert.True(instruction.HasLockPrefix);
        Assert.False(Microcode.LockRules.Allowed(instruction));
    }

    [Fact]
    public void ReadModifyWrite_BeyondLimit_ChangesNothing()
    {
        using var machine = new TestProcessor(TestMode.Real);
        machine[Gpr.Rbx] = 0xFFFF;
        machine[Gpr.Rax] = 1;
        machine.Cpu.RFlagsValue = RFlags.Cf;
        machine.AssertFault(Vector.Gp, machine.Step(0x01, 0x07)); // add [bx], ax
        Assert.Equal(RFlags.Cf, machine.Arithmetic);
        Assert.Equal(TestProcessor.Start, machine.Rip);
    }

    [Fact]
    public void Xlat_AnyMode_IndexesByAl()
    {
        using var machine = new TestProcessor(TestMode.Real);
        machine[Gpr.Rbx] = TestProcessor.Data;
        machine[Gpr.Rax] = 0x1234_0005;
        machine.Store(TestProcessor.Data + 5, 0x99, 1);
        machine.Step(0xD7);
        Assert.Equal(0x1234_0099UL, machine[Gpr.Rax]);
    }

    [Theory]
    [InlineData(TestMode.Real, new byte[] { 0x67, 0x8D, 0x44, 0x88, 0x10 }, 0x8020UL)] // lea ax, [eax+ecx*4+16]
    [InlineData(TestMode.Protected32, new byte[] { 0x8D, 0x44, 0x88, 0x10 }, 0x18020UL)]
    [InlineData(TestMode.Protected32, new byte[] { 0x66, 0x8D, 0x44, 0x88, 0x10 }, 0x18020UL)]
    [InlineData(TestMode.Long64, new byte[] { 0x48, 0x8D, 0x05, 0x10, 0, 0, 0 }, 0x1017UL)] // lea rax, [rip+16]
    public void Lea_Sizes_CutsTheAddress(TestMode mode, byte[] code, ulong result)
    {
        using var machine = new TestProcessor((TestMode)mode);
        machine[Gpr.Rax] = 0x18000;
        machine[Gpr.Rcx] = 4;
        machine.Step(code);
        ulong mask = mode == TestMode.Real ? 0xFFFFUL : ulong.MaxValue;
        Assert.Equal(result & mask, machine[Gpr.Rax] & mask);
    }

    [Fact]
    public void Mov_AbsoluteOffsets_ReachMemory()
    {
        using var machine = new TestProcessor();
        machine[Gpr.Rax] = 0x1122_3344_5566_7788;
        machine.Step(0x48, 0xA3, 0, 0x40, 0, 0, 0, 0, 0, 0); // mov [0x4000], rax
        Assert.Equal(0x1122_3344_5566_7788UL, machine.Load(0x4000));
        machine[Gpr.Rax] = 0;
        machine.Step(0x67, 0xA1, 0, 0x40, 0, 0); // mov eax, [addr32 0x4000]
        Assert.Equal(0x5566_7788UL, machine[Gpr.Rax]);
        machine[Gpr.Rcx] = 0;
        machine.Step(0x67, 0x8B, 0x0C, 0x25, 0, 0x40, 0, 0); // mov ecx, [addr32 0x4000]
        Assert.Equal(0x5566_7788UL, machine[Gpr.Rcx]);
    }

    [Fact]
    public void Movbe_Both_SwapsBytes()
    {
        using var machine = new TestProcessor();
        machine[Gpr.Rbx] = TestProcessor.Data;
        machine[Gpr.Rax] = 0x1234;
        machine.Step(0x66, 0x0F, 0x38, 0xF1, 0x03); // movbe [rbx], ax
        Assert.Equal(0x3412UL, machine.Load(TestProcessor.Data, 2));
        machine.Step(0x0F, 0x38, 0xF0, 0x0B); // movbe ecx, [rbx]
        Assert.Equal(0x1234_0000UL, machine[Gpr.Rcx]);
    }

    [Fact]
    public void Movs_HighBytes_UseTheOldRegisters()
    {
        using var machine = new TestProcessor();
        machine[Gpr.Rax] = 0xFFFF_FFFF_FFFF_80FF;
        machine.Step(0x0F, 0xBE, 0xCC); // movsx ecx, ah
        Assert.Equal(0xFFFF_FF80UL, machine[Gpr.Rcx]);
        machine.Step(0x88, 0xE1); // mov cl, ah
        Assert.Equal(0xFFFF_FF80UL, machine[Gpr.Rcx]);
        machine.Step(0x40, 0x88, 0xE1); // mov cl, spl
        Assert.Equal(0xFFFF_FF00UL, machine[Gpr.Rcx]);
    }

    [Theory]
    [InlineData(CpuFeatures.Cmov, new byte[] { 0x0F, 0x44, 0xC1 })]
    [InlineData(CpuFeatures.Bmi2, new byte[] { 0xC4, 0xE2, 0x79, 0xF7, 0xC1 })]
    [InlineData(CpuFeatures.Popcnt, new byte[] { 0xF3, 0x0F, 0xB8, 0xC1 })]
    public void Feature_Off_IsUndefined(CpuFeatures feature, byte[] code)
    {
        using var on = new TestProcessor();
        Assert.Equal(ExecResult.Next, on.Step(code));
        using var machine = new TestProcessor(model: CpuModels.With(CpuModels.VmFuzz64, CpuFeatures.None, feature));
        machine.AssertFault(Vector.Ud, machine.Step(code));
    }

    [Fact]
    public void Lzcnt_FeatureOff_IsBsr()
    {
        using var machine = new TestProcessor(model: CpuModels.With(CpuModels.VmFuzz64, CpuFeatures.None, CpuFeatures.Lzcnt | CpuFeatures.Bmi1));
        machine[Gpr.Rcx] = 0x10;
        machine.Step(0xF3, 0x0F, 0xBD, 0xC1);
        Assert.Equal(4UL, machine[Gpr.Rax]);
        machine[Gpr.Rcx] = 0;
        machine.Step(0xF3, 0x0F, 0xBC, 0xC1); // BSF keeps the destination
        Assert.Equal(4UL, machine[Gpr.Rax]);
        Assert.Equal(RFlags.Zf, machine.Arithmetic);
    }

    [Fact]
    public void Vex_RealMode_IsUndefined()
    {
        using var machine = new TestProcessor(TestMode.Real);
        machine.AssertFault(Vector.Ud, machine.Step(0xC4, 0xE2, 0x78, 0xF2, 0xC1)); // andn
        using var flat = new TestProcessor(TestMode.Protected32);
        Assert.Equal(ExecResult.Next, flat.Step(0xC4, 0xE2, 0x78, 0xF2, 0xC1));
    }

    [Fact]
    public void Undefined_Opcodes_RaiseInvalidOpcode()
    {
        using var machine = new TestProcessor();
        machine.AssertFault(Vector.Ud, machine.Step(0x0F, 0x0B));
        machine.AssertFault(Vector.Ud, machine.Step(0x0F, 0xB9, 0xC0));
        machine.AssertFault(Vector.Ud, machine.Step(0x0F, 0xFF, 0xC0));
        Assert.Equal(ExecResult.Next, machine.Step(0xF3, 0x0F, 0x1E, 0xFA)); // endbr64
        Assert.Equal(ExecResult.Next, machine.Step(0x0F, 0x1F, 0x44, 0, 0)); // nop
        Assert.Equal(ExecResult.Next, machine.Step(0x0F, 0x18, 0x08)); // prefetcht0
    }

    [Fact]
    public void Lahf_LongMode_NeedsItsFeature()
    {
        using var machine = new TestProcessor();
        machine.Cpu.RFlagsValue = RFlags.Arithmetic;
        machine.Step(0x9F);
        Assert.Equal(0xD700UL, machine[Gpr.Rax]);
        machine[Gpr.Rax] = 0;
        machine.Step(0x9E); // sahf leaves OF
        Assert.Equal(RFlags.Of, machine.Arithmetic);
        using var without = new TestProcessor(model: CpuModels.With(CpuModels.VmFuzz64, CpuFeatures.None, CpuFeatures.Lahf64));
        without.AssertFault(Vector.Ud, without.Step(0x9F));
    }
}
