using VmFuzz.Arch;

namespace VmFuzz.Cpu.Tests.Integer;

/// <summary>Stack instructions and near control transfers in every mode.</summary>
public sealed unsafe class StackAndFlowTests
{
    [Theory]
    [InlineData(TestMode.Real, new byte[] { 0x54 }, 2)] // push sp
    [InlineData(TestMode.Protected32, new byte[] { 0x54 }, 4)]
    [InlineData(TestMode.Long64, new byte[] { 0x54 }, 8)]
    public void Push_StackPointer_PushesTheOldValue(TestMode mode, byte[] code, int size)
    {
        using var machine = new TestProcessor((TestMode)mode);
        machine.Step(code);
        Assert.Equal(0x8000UL - (ulong)size, machine[Gpr.Rsp]);
        Assert.Equal(0x8000UL, machine.Load(machine[Gpr.Rsp], size));
        machine.Step(0x5C); // pop sp
        Assert.Equal(0x8000UL, machine[Gpr.Rsp]);
    }

    [Theory]
    [InlineData(TestMode.Real, new byte[] { 0x6A, 0xFE }, 2, 0xFFFEUL)]
    [InlineData(TestMode.Real, new byte[] { 0x66, 0x6A, 0xFE }, 4, 0xFFFF_FFFEUL)]
    [InlineData(TestMode.Long64, new byte[] { 0x6A, 0xFE }, 8, 0xFFFF_FFFF_FFFF_FFFEUL)]
    [InlineData(TestMode.Long64, new byte[] { 0x66, 0x6A, 0xFE }, 2, 0xFFFEUL)]
    [InlineData(TestMode.Long64, new byte[] { 0x68, 0, 0, 0, 0x80 }, 8, 0xFFFF_FFFF_8000_0000UL)]
    public void Push_Immediate_IsSignExtended(TestMode mode, byte[] code, int size, ulong value)
    {
        using var machine = new TestProcessor((TestMode)mode);
        machine.Step(code);
        Assert.Equal(0x8000UL - (ulong)size, machine[Gpr.Rsp]);
        Assert.Equal(value, machine.Load(machine[Gpr.Rsp], size));
    }

    [Fact]
    public void Pop_MemoryByStackPointer_UsesTheNewOne()
    {
        using var machine = new TestProcessor(TestMode.Protected32);
        machine.Store(0x8000, 0x1234_5678, 4);
        machine.Step(0x8F, 0x04, 0x24); // pop dword [esp]
        Assert.Equal(0x1234_5678UL, machine.Load(0x8004, 4));
        Assert.Equal(0x8004UL, machine[Gpr.Rsp]);
    }

    [Fact]
    public void Pop_MemoryFault_RestoresTheStackPointer()
    {
        using var machine = new TestProcessor();
        machine[Gpr.Rbx] = 0x8000_0000_0000_0000;
        machine.AssertFault(Vector.Gp, machine.Step(0x8F, 0x03)); // pop qword [rbx]
        Assert.Equal(0x8000UL, machine[Gpr.Rsp]);
    }

    [Fact]
    public void Push_16BitStackAtZero_Wraps()
    {
        using var machine = new TestProcessor(TestMode.Real);
        machine[Gpr.Rsp] = 0xABCD_0000;
        machine[Gpr.Rax] = 0x55AA;
        machine.Step(0x50);
        Assert.Equal(0xABCD_FFFEUL, machine[Gpr.Rsp]);
        Assert.Equal(0x55AAUL, machine.Load(0xFFFE, 2));
    }

    [Theory]
    [InlineData(TestMode.Real, 2)]
    [InlineData(TestMode.Protected32, 4)]
    public void PushAllPopAll_RoundTrip_SkipsTheStackPointer(TestMode mode, int size)
    {
        using var machine = new TestProcessor((TestMode)mode);
        for (int i = 0; i < 8; i++)
        {
            if (i != 4)
            {
                machine[(Gpr)i] = 0x100u + (ulong)i;
            }
        }

        machine.Step(0x60);
        ulong top = machine[Gpr.Rsp];
        Assert.Equal(0x8000UL - (ulong)(8 * size), top);
        Assert.Equal(0x107UL, machine.Load(top, size)); // DI lowest
        Assert.Equal(0x8000UL, machine.Load(top + (ulong)(3 * size), size)); // the old SP
        Assert.Equal(0x100UL, machine.Load(top + (ulong)(7 * size), size));
        machine.Store(top + (ulong)(3 * size), 0, size);
        machine[Gpr.Rbx] = 0;
        machine.Step(0x61);
        Assert.Equal(0x8000UL, machine[Gpr.Rsp]);
        Assert.Equal(0x103UL, machine[Gpr.Rbx]);
    }

    [Fact]
    public void EnterLeave_Nested_BuildsAndDropsTheFrame()
    {
        using var machine = new TestProcessor();
        machine[Gpr.Rbp] = 0x9000;
        machine.Store(0x8FF8, 0xAAAA);
        machine.Step(0xC8, 0x20, 0, 2); // enter 32, 2
        Assert.Equal(0x7FF8UL, machine[Gpr.Rbp]);
        Assert.Equal(0x8000UL - 24 - 32, machine[Gpr.Rsp]);
        Assert.Equal(0x9000UL, machine.Load(0x7FF8));
        Assert.Equal(0xAAAAUL, machine.Load(0x7FF0));
        Assert.Equal(0x7FF8UL, machine.Load(0x7FE8));
        machine.Step(0xC9);
        Assert.Equal(0x9000UL, machine[Gpr.Rbp]);
        Assert.Equal(0x8000UL, machine[Gpr.Rsp]);
    }

    [Theory]
    [InlineData(TestMode.Real, new byte[] { 0xE8, 0x10, 0x00 }, 0x1013UL, 2, 0x1003UL)]
    [InlineData(TestMode.Real, new byte[] { 0x66, 0xE8, 0x10, 0, 0, 0 }, 0x1016UL, 4, 0x1006UL)]
    [InlineData(TestMode.Protected32, new byte[] { 0xE8, 0x10, 0, 0, 0 }, 0x1015UL, 4, 0x1005UL)]
    [InlineData(TestMode.Protected32, new byte[] { 0x66, 0xE8, 0x10, 0 }, 0x1014UL, 2, 0x1004UL)]
    [InlineData(TestMode.Long64, new byte[] { 0xE8, 0x10, 0, 0, 0 }, 0x1015UL, 8, 0x1005UL)]
    [InlineData(TestMode.Long64, new byte[] { 0xFF, 0xD0 }, 0x3000UL, 8, 0x1002UL)] // call rax
    public void Call_AnySize_PushesTheReturnAddress(TestMode mode, byte[] code, ulong target, int size, ulong pushed)
    {
        using var machine = new TestProcessor((TestMode)mode);
        machine[Gpr.Rax] = 0x3000;
        Assert.Equal(ExecResult.Jump, machine.Step(code));
        Assert.Equal(target, machine.Rip);
        Assert.Equal(pushed, machine.Load(machine[Gpr.Rsp], size));
        Assert.Equal(0x8000UL - (ulong)size, machine[Gpr.Rsp]);
    }

    [Fact]
    public void Ret_WithImmediate_DropsArguments()
    {
        using var machine = new TestProcessor(TestMode.Protected32);
        machine.Store(0x8000, 0x2222, 4);
        Assert.Equal(ExecResult.Jump, machine.Step(0xC2, 0x08, 0x00));
        Assert.Equal(0x2222UL, machine.Rip);
        Assert.Equal(0x800CUL, machine[Gpr.Rsp]);
    }

    [Fact]
    public void Ret_NonCanonical_RaisesGeneralProtectionAtTheInstruction()
    {
        using var machine = new TestProcessor();
        machine.Store(0x8000, 0x0000_8000_0000_0000);
        machine.AssertFault(Vector.Gp, machine.Step(0xC3));
        Assert.Equal(0x8000UL, machine[Gpr.Rsp]);
        Assert.Equal(TestProcessor.Start, machine.Rip);
    }

    [Fact]
    public void Jump_BeyondLimit_RaisesGeneralProtection()
    {
        using var machine = new TestProcessor(TestMode.Protected16);
        machine.Cpu.State->Cs.Limit = 0x1FFF;
        machine.AssertFault(Vector.Gp, machine.Step(0xE9, 0x00, 0x10)); // to 0x2003
        machine[Gpr.Rcx] = 2;
        machine.Cpu.State->Cs.Limit = 0x1001;
        machine.AssertFault(Vector.Gp, machine.Step(0xE2, 0x10)); // loop
        Assert.Equal(2UL, machine[Gpr.Rcx]);
    }

    [Fact]
    public void Jump_16Bit_WrapsAt64KiB()
    {
        using var machine = new TestProcessor(TestMode.Real);
        machine.Rip = 0xFFF0;
        Assert.Equal(ExecResult.Jump, machine.Step(0xEB, 0x20));
        Assert.Equal(0x12UL, machine.Rip);
    }

    [Theory]
    [InlineData(new byte[] { 0xE2, 0x10 }, 1UL, 0UL, 0UL, false)] // loop
    [InlineData(new byte[] { 0xE2, 0x10 }, 0UL, 0UL, ulong.MaxValue, true)]
    [InlineData(new byte[] { 0x67, 0xE2, 0x10 }, 0x1_0000_0001UL, 0UL, 0UL, false)] // by ECX
    [InlineData(new byte[] { 0xE1, 0x10 }, 5UL, RFlags.Zf, 4UL, true)] // loope
    [InlineData(new byte[] { 0xE1, 0x10 }, 5UL, 0UL, 4UL, false)]
    [InlineData(new byte[] { 0xE0, 0x10 }, 5UL, RFlags.Zf, 4UL, false)] // loopne
    [InlineData(new byte[] { 0xE3, 0x10 }, 0UL, 0UL, 0UL, true)] // jrcxz
    [InlineData(new byte[] { 0x67, 0xE3, 0x10 }, 0x1_0000_0000UL, 0UL, 0x1_0000_0000UL, true)] // jecxz
    public void Loop_Row_CountsAndJumps(byte[] code, ulong count, ulong flags, ulong after, bool taken)
    {
        using var machine = new TestProcessor();
        machine[Gpr.Rcx] = count;
        machine.Cpu.RFlagsValue = flags;
        ExecResult result = machine.Step(code);
        Assert.Equal(taken ? ExecResult.Jump : ExecResult.Next, result);
        Assert.Equal(after, machine[Gpr.Rcx]);
        Assert.Equal(TestProcessor.Start + (ulong)code.Length + (taken ? 0x10UL : 0), machine.Rip);
    }

    [Fact]
    public void Conditions_AllFlags_AgreeWithTheirDefinition()
    {
        using var machine = new TestProcessor();
        for (int bits = 0; bits < 32; bits++)
        {
            bool c = (bits & 1) != 0, z = (bits & 2) != 0, s = (bits & 4) != 0, o = (bits & 8) != 0, p = (bits & 16) != 0;
            bool[] holds = [o, c, z, c || z, s, p, s != o, z || s != o];
            for (int code = 0; code < 16; code++)
            {
                machine.Cpu.RFlagsValue = (c ? RFlags.Cf : 0) | (z ? RFlags.Zf : 0) | (s ? RFlags.Sf : 0)
                    | (o ? RFlags.Of : 0) | (p ? RFlags.Pf : 0);
                machine.Rip = TestProcessor.Start;
                bool expected = holds[code >> 1] != ((code & 1) != 0);
                Assert.Equal(expected ? ExecResult.Jump : ExecResult.Next, machine.Step((byte)(0x70 | code), 0x10));
                machine[Gpr.Rax] = 0;
                machine.Step(0x0F, (byte)(0x90 | code), 0xC0);
                Assert.Equal(expected ? 1UL : 0, machine[Gpr.Rax]);
            }
        }
    }
}
