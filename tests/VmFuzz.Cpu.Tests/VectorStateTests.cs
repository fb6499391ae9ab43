using VmFuzz.Arch;

namespace VmFuzz.Cpu.Tests;

/// <summary>Moves and logic on XMM registers, XSAVE and XRSTOR.</summary>
public sealed unsafe class VectorStateTests
{
    private const ulong Data = 0x20000;
    private const ulong Low = 0x1122_3344_5566_7788;
    private const ulong High = 0x99AA_BBCC_DDEE_FF00;

    [Theory]
    [InlineData(new byte[] { 0x0F, 0x28, 0x03 }, Low, High)] // movaps xmm0, [rbx]
    [InlineData(new byte[] { 0xF3, 0x0F, 0x6F, 0x03 }, Low, High)] // movdqu
    [InlineData(new byte[] { 0xF3, 0x0F, 0x10, 0x03 }, 0x5566_7788UL, 0UL)] // movss
    [InlineData(new byte[] { 0xF2, 0x0F, 0x10, 0x03 }, Low, 0UL)] // movsd
    [InlineData(new byte[] { 0xF3, 0x0F, 0x7E, 0x03 }, Low, 0UL)] // movq
    [InlineData(new byte[] { 0x66, 0x0F, 0x6E, 0x03 }, 0x5566_7788UL, 0UL)] // movd
    [InlineData(new byte[] { 0x0F, 0x12, 0x03 }, Low, 4UL)] // movlps
    [InlineData(new byte[] { 0x0F, 0x16, 0x03 }, 3UL, Low)] // movhps
    [InlineData(new byte[] { 0x66, 0x0F, 0xDB, 0x03 }, Low & 3, High & 4)] // pand
    [InlineData(new byte[] { 0x66, 0x0F, 0xDF, 0x03 }, Low & ~3UL, High & ~4UL)] // pandn
    [InlineData(new byte[] { 0x66, 0x0F, 0xEB, 0x03 }, Low | 3, High | 4)] // por
    [InlineData(new byte[] { 0x0F, 0x57, 0x03 }, Low ^ 3, High ^ 4)] // xorps
    public void Load_IntoARegister_GivesItsPart(byte[] code, ulong low, ulong high)
    {
        using SystemFixture machine = Machine();
        (machine.State->Ymm[0], machine.State->Ymm[1], machine.State->Ymm[2]) = (3, 4, 5);
        machine.Completes(code);
        Assert.Equal((low, high, 5UL), (machine.State->Ymm[0], machine.State->Ymm[1], machine.State->Ymm[2]));
    }

    [Theory]
    [InlineData(new byte[] { 0x0F, 0x29, 0x0B }, 16)] // movaps [rbx], xmm1
    [InlineData(new byte[] { 0x66, 0x0F, 0xE7, 0x0B }, 16)] // movntdq
    [InlineData(new byte[] { 0xF3, 0x0F, 0x11, 0x0B }, 4)] // movss
    [InlineData(new byte[] { 0x66, 0x0F, 0xD6, 0x0B }, 8)] // movq
    [InlineData(new byte[] { 0x66, 0x48, 0x0F, 0x7E, 0x0B }, 8)] // movq of a general operand
    public void Store_WritesItsPartAndNoMore(byte[] code, int bytes)
    {
        using SystemFixture machine = Machine();
        (machine.State->Ymm[4], machine.State->Ymm[5]) = (0x0101_0101_0101_0101, 0x0202_0202_0202_0202);
        machine.Completes(code);
        for (int i = 0; i < 24; i++)
        {
            ulong old = i < 8 ? Low >> (i * 8) : i < 16 ? High >> ((i - 8) * 8) : 0;
            Assert.Equal(i >= bytes ? old & 0xFF : i < 8 ? 1UL : 2, machine.Read(Data + (ulong)i, 1));
        }
    }

    [Theory]
    [InlineData(new byte[] { 0xF3, 0x0F, 0x10, 0xC1 }, 0x2222_2222UL, 4UL)] // movss xmm0, xmm1
    [InlineData(new byte[] { 0xF2, 0x0F, 0x10, 0xC1 }, 0x1111_1111_2222_2222UL, 4UL)] // movsd
    [InlineData(new byte[] { 0x0F, 0x12, 0xC1 }, 0x3333_3333_3333_3333UL, 4UL)] // movhlps
    [InlineData(new byte[] { 0x0F, 0x16, 0xC1 }, 3UL, 0x1111_1111_2222_2222UL)] // movlhps
    public void Move_BetweenRegisters_ChangesItsPartOnly(byte[] code, ulong low, ulong high)
    {
        using SystemFixture machine = Machine();
        (machine.State->Ymm[0], machine.State->Ymm[1]) = (3, 4);
        (machine.State->Ymm[4], machine.State->Ymm[5]) = (0x1111_1111_2222_2222, 0x3333_3333_3333_3333);
        machine.Completes(code);
        Assert.Equal((low, high), (machine.State->Ymm[0], machine.State->Ymm[1]));
    }

    [Fact]
    public void Vector_ConditionsOfAccess_FaultInOrder()
    {
        using SystemFixture machine = Machine();
        byte[] movaps = [0x0F, 0x28, 0x03];
        machine.Cpu[Gpr.Rbx] = Data + 8;
        machine.Faults(Vector.Gp, 0, movaps);
        machine.Completes(0x0F, 0x10, 0x03);
        machine.State->Cr0 |= Cr0.Ts;
        machine.Faults(Vector.Nm, 0, movaps);
        machine.State->Cr4 &= ~Cr4.Osfxsr;
        machine.Faults(Vector.Ud, 0, movaps);
    }

    [Theory]
    [InlineData(new byte[] { 0x0F, 0xAE, 0x23 })] // xsave [rbx]
    [InlineData(new byte[] { 0x0F, 0xAE, 0x33 })] // xsaveopt
    [InlineData(new byte[] { 0x48, 0x0F, 0xAE, 0x23 })] // xsave64
    public void Xsave_AndXrstor_RoundTrip(byte[] code)
    {
        using SystemFixture machine = Saving();
        Fill(machine);
        machine.Completes(code);
        Assert.Equal(3UL, machine.Read(Data + 512, 8));
        for (int i = 0; i < 64; i++)
        {
            machine.State->Ymm[i] = 0;
        }

        machine.State->Fcw = 0x37F;
        machine.State->Mxcsr = 0;
        machine.Completes(0x0F, 0xAE, 0x2B); // xrstor [rbx]
        Assert.Equal(0x27FUL, machine.State->Fcw);
        Assert.Equal(0x1F00UL, machine.State->Mxcsr);
        Assert.Equal((100UL, 101UL), (machine.State->Ymm[0], machine.State->Ymm[1]));
        Assert.Equal((160UL, 161UL), (machine.State->Ymm[60], machine.State->Ymm[61]));
    }

    [Fact]
    public void Xsave_AndXrstor_WithAvxState_RoundTrip()
    {
        using SystemFixture machine = Saving();
        machine.State->Xcr0 = 7;
        Fill(machine);
        machine.Completes(0x0F, 0xAE, 0x23); // xsave [rbx]
        Assert.Equal(7UL, machine.Read(Data + 512, 8));
        Assert.Equal((102UL, 103UL, 163UL), (machine.Read(Data + 576, 8), machine.Read(Data + 584, 8), machine.Read(Data + 576 + 248, 8)));
        for (int i = 0; i < 64; i++)
        {
            machine.State->Ymm[i] = 0;
        }

        machine.Completes(0x0F, 0xAE, 0x2B); // xrstor [rbx]
        Assert.Equal((100UL, 102UL, 161UL, 163UL), (machine.State->Ymm[0], machine.State->Ymm[2], machine.State->Ymm[61], machine.State->Ymm[63]));
        machine.Write(Data + 512, 8, 3);
        machine.Completes(0x0F, 0xAE, 0x2B);
        Assert.Equal((100UL, 0UL, 161UL, 0UL), (machine.State->Ymm[0], machine.State->Ymm[2], machine.State->Ymm[61], machine.State->Ymm[63]));
    }

    [Fact]
    public void Vldmxcsr_AndVstmxcsr_MoveMxcsr()
    {
        using SystemFixture machine = Saving();
        machine.State->Xcr0 = 7;
        machine.State->Mxcsr = 0x1F80;
        machine.Write(Data, 8, 0x7777_0000_9FC0);
        machine.Completes(0xC5, 0xF8, 0xAE, 0x13); // vldmxcsr [rbx]
        Assert.Equal(0x9FC0UL, machine.State->Mxcsr);
        machine.State->Mxcsr = 0x1F80;
        machine.Completes(0xC5, 0xF8, 0xAE, 0x1B); // vstmxcsr [rbx]
        Assert.Equal((0x7777_0000_1F80UL, 0x1F80UL), (machine.Read(Data, 8), machine.State->Mxcsr));
        machine.State->Xcr0 = 3;
        machine.Faults(Vector.Ud, 0, 0xC5, 0xF8, 0xAE, 0x1B);
    }

    [Fact]
    public void Xsaveopt_UpperHalvesAsInitialised_AreNotWritten()
    {
        using SystemFixture machine = Saving();
        machine.State->Xcr0 = 7;
        machine.State->Ymm[1] = 5;
        machine.Write(Data + 576, 8, 0x7777);
        machine.Completes(0x0F, 0xAE, 0x33);
        Assert.Equal((0x7777UL, 2UL), (machine.Read(Data + 576, 8), machine.Read(Data + 512, 8) & 6));
    }

    [Fact]
    public void Xsave_ComponentsNotAskedFor_KeepMemoryAndHeader()
    {
        using SystemFixture machine = Saving();
        Fill(machine);
        machine.Write(Data, 8, 0x7777);
        machine.Write(Data + 512, 8, 1);
        machine.Cpu[Gpr.Rax] = 2;
        machine.Completes(0x0F, 0xAE, 0x23);
        Assert.Equal(0x7777UL, machine.Read(Data, 8));
        Assert.Equal(3UL, machine.Read(Data + 512, 8));
        Assert.Equal(100UL, machine.Read(Data + 160, 8));
    }

    [Fact]
    public void Xsaveopt_StateAsInitialised_IsNotWritten()
    {
        using SystemFixture machine = Saving();
        machine.State->Fcw = 0x37F;
        machine.State->Ftw = 0xFFFF;
        machine.Write(Data, 8, 0x7777);
        machine.Completes(0x0F, 0xAE, 0x33);
        Assert.Equal(0x7777UL, machine.Read(Data, 8));
        Assert.Equal(0UL, machine.Read(Data + 512, 8));
        machine.Completes(0x0F, 0xAE, 0x23);
        Assert.Equal(0x37FUL, machine.Read(Data, 8));
    }

    [Fact]
    public void Xrstor_ComponentsNotInTheImage_AreInitialised()
    {
        using SystemFixture machine = Saving();
        Fill(machine);
        machine.Write(Data + 24, 4, 0x1F80);
        machine.Completes(0x0F, 0xAE, 0x2B);
        Assert.Equal((0x37FUL, 0xFFFFUL, 0x1F80UL), (machine.State->Fcw, machine.State->Ftw, machine.State->Mxcsr));
        Assert.Equal((0UL, 102UL), (machine.State->Ymm[0], machine.State->Ymm[2]));
    }

    [Theory]
    [InlineData(512, 4UL)] // a component that XCR0 does not have
    [InlineData(520, 1UL)] // reserved
    [InlineData(528, 1UL)]
    [InlineData(24, 0x1_0000UL)] // MXCSR
    public void Xrstor_BadImage_IsGeneralProtection(int at, ulong value)
    {
        using SystemFixture machine = Saving();
        machine.Write(Data + (ulong)at, 4, value);
        machine.Faults(Vector.Gp, 0, 0x0F, 0xAE, 0x2B);
    }

    [Fact]
    public void Xsave_ConditionsOfAccess_Fault()
    {
        using SystemFixture machine = Saving();
        machine.Cpu[Gpr.Rbx] = Data + 32;
        machine.Faults(Vector.Gp, 0, 0x0F, 0xAE, 0x23);
        machine.State->Cr0 |= Cr0.Ts;
        machine.Faults(Vector.Nm, 0, 0x0F, 0xAE, 0x23);
        machine.State->Cr4 &= ~Cr4.Osxsave;
        machine.Faults(Vector.Ud, 0, 0x0F, 0xAE, 0x23);
    }

    private static SystemFixture Machine()
    {
        SystemFixture machine = new SystemFixture().Long();
        machine.Cpu[Gpr.Rbx] = Data;
        machine.Write(Data, 8, Low);
        machine.Write(Data + 8, 8, High);
        return machine;
    }

    private static SystemFixture Saving()
    {
        SystemFixture machine = new SystemFixture().Long();
        machine.State->Cr4 |= Cr4.Osxsave;
        machine.State->Xcr0 = 3;
        machine.Cpu[Gpr.Rax] = ulong.MaxValue;
        machine.Cpu[Gpr.Rdx] = ulong.MaxValue;
        machine.Cpu[Gpr.Rbx] = Data;
        return machine;
    }

    private static void Fill(SystemFixture machine)
    {
        machine.State->Fcw = 0x27F;
        machine.State->Mxcsr = 0x1F00;
        for (int i = 0; i < 64; i++)
        {
            machine.State->Ymm[i] = 100 + (ulong)i;
        }
    }
}
