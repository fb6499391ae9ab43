using VmFuzz.Arch;

namespace VmFuzz.Cpu.Tests;

/// <summary>Instructions without a row: #UD like on a processor without their feature, or a stop that says so.</summary>
public sealed unsafe class UnmodelledFormTests
{
    [Theory]
    [InlineData(new byte[] { 0x62, 0xF1, 0x7C, 0x48, 0x58, 0xC1 })] // vaddps zmm0, zmm0, zmm1
    [InlineData(new byte[] { 0x8F, 0xEA, 0x78, 0x10, 0xC3, 1, 1, 0, 0 })] // bextr eax, ebx, 0x101 of XOP
    [InlineData(new byte[] { 0x66, 0x0F, 0x38, 0xCF, 0xC1 })] // gf2p8mulb xmm0, xmm1
    [InlineData(new byte[] { 0x0F, 0x01, 0xD8 })] // vmrun
    public void Form_OfAFeatureThatCpuidDoesNotShow_IsUndefined(byte[] code)
    {
        using SystemFixture machine = Machine(code);
        Assert.Equal(CpuStop.Halted, machine.Cpu.Run());
        Assert.Equal(SystemFixture.HandlerAt + 1, machine.Cpu.Rip);
        Assert.Equal(SystemFixture.CodeAt, machine.OnStack(0, 8));
    }

    [Theory]
    [InlineData(new byte[] { 0x0F, 0x58, 0xC1 })] // addps xmm0, xmm1
    [InlineData(new byte[] { 0xC5, 0xFC, 0x58, 0xC1 })] // vaddps ymm0, ymm0, ymm1
    [InlineData(new byte[] { 0xD9, 0xE8 })] // fld1
    public void Form_OfAFeatureThatCpuidShows_StopsTheMachine(byte[] code)
    {
        using SystemFixture machine = Machine(code);
        Assert.Equal(CpuStop.Unimplemented, machine.Cpu.Run());
        Assert.Equal(SystemFixture.CodeAt, machine.Cpu.Rip);
    }

    private static SystemFixture Machine(byte[] code)
    {
        SystemFixture machine = new SystemFixture().Long();
        machine.SetVector(Vector.Ud, SystemFixture.Code64);
        machine.Write(SystemFixture.HandlerAt, 1, 0xF4);
        for (int i = 0; i < code.Length; i++)
        {
            machine.Write(SystemFixture.CodeAt + (ulong)i, 1, code[i]);
        }

        return machine;
    }
}
