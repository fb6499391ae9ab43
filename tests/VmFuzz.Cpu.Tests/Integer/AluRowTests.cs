using VmFuzz.Arch;

namespace VmFuzz.Cpu.Tests.Integer;

/// <summary>Rows of (left, right, carry in, result, flags) for the arithmetic, logic and shift instructions, 32-bit code.</summary>
public sealed class AluRowTests
{
    private const ulong C = RFlags.Cf;
    private const ulong P = RFlags.Pf;
    private const ulong A = RFlags.Af;
    private const ulong Z = RFlags.Zf;
    private const ulong S = RFlags.Sf;
    private const ulong O = RFlags.Of;

    // Opcodes are of "op eax, ecx" (or bl, cl with the byte opcode).
    [Theory]
    [InlineData("add", 0x01, 1, 2, false, 3, P)]
    [InlineData("add", 0x01, 0x7FFFFFFF, 1, false, 0x80000000, O | S | A | P)]
    [InlineData("add", 0x01, 0xFFFFFFFF, 1, false, 0, C | Z | A | P)]
    [InlineData("adc", 0x11, 0xFFFFFFFF, 0xFFFFFFFF, true, 0xFFFFFFFF, C | S | A | P)]
    [InlineData("adc", 0x11, 0x7FFFFFFF, 0, true, 0x80000000, O | S | A | P)]
    [InlineData("sub", 0x29, 5, 5, false, 0, Z | P)]
    [InlineData("sub", 0x29, 0, 1, false, 0xFFFFFFFF, C | S | A | P)]
    [InlineData("sub", 0x29, 0x80000000, 1, false, 0x7FFFFFFF, O | A | P)]
    [InlineData("sbb", 0x19, 0, 0xFFFFFFFF, true, 0, C | Z | A | P)]
    [InlineData("sbb", 0x19, 0x10, 0xF, true, 0, Z | A | P)]
    [InlineData("cmp", 0x39, 1, 2, false, 1, C | S | A | P)]
    [InlineData("and", 0x21, 0xF0, 0x3C, true, 0x30, P)]
    [InlineData("or", 0x09, 0x80000000, 1, true, 0x80000001, S)]
    [InlineData("xor", 0x31, 0x55, 0x55, true, 0, Z | P)]
    [InlineData("test", 0x85, 0x80000000, 0x80000000, true, 0x80000000, S | P)]
    public void Binary_Row_GivesResultAndFlags(string name, byte opcode, ulong left, ulong right, bool carry, ulong result, ulong flags)
    {
        using var machine = new TestProcessor(TestMode.Protected32);
        machine[Gpr.Rax] = left;
        machine[Gpr.Rcx] = right;
        machine.Cpu.RFlagsValue = carry ? C : 0;
        Assert.Equal(ExecResult.Next, machine.Step(opcode, 0xC8));
        Assert.True(result == machine[Gpr.Rax], $"{name}: {machine[Gpr.Rax]:X}");
        Assert.Equal(flags, machine.Arithmetic);
    }

    [Theory]
    [InlineData(4, 0x80, 1, 0x00, C | O | Z | P)] // SHL
    [InlineData(4, 0x81, 9, 0x00, Z | P)]
    [InlineData(5, 0x81, 1, 0x40, C | O)] // SHR
    [InlineData(7, 0x81, 1, 0xC0, C | S | P)] // SAR
    [InlineData(7, 0x81, 31, 0xFF, C | S | P)]
    [InlineData(0, 0x81, 8, 0x81, C)] // ROL by the width: CF is the low bit
    [InlineData(0, 0x81, 1, 0x03, C | O)]
    [InlineData(1, 0x01, 1, 0x80, C | O)] // ROR
    [InlineData(2, 0x80, 1, 0x00, C | O)] // RCL, CF was 0
    [InlineData(2, 0x80, 9, 0x80, 0)] // RCL by width + 1 is nothing
    [InlineData(3, 0x01, 1, 0x00, C)] // RCR
    public void ShiftOfByte_Row_GivesResultAndFlags(byte extension, ulong value, byte count, ulong result, ulong flags)
    {
        using var machine = new TestProcessor(TestMode.Protected32);
        machine[Gpr.Rbx] = value;
        machine[Gpr.Rcx] = count;
        Assert.Equal(ExecResult.Next, machine.Step(0xD2, (byte)(0xC3 | (extension << 3))));
        Assert.Equal(result, machine[Gpr.Rbx]);
        Assert.Equal(flags, machine.Arithmetic);
    }

    [Theory]
    [InlineData(0x20)]
    [InlineData(0x40)]
    public void Shift_MaskedCountOfZero_LeavesFlags(byte count)
    {
        using var machine = new TestProcessor(TestMode.Protected32);
        machine[Gpr.Rax] = 5;
        machine[Gpr.Rcx] = count;
        machine.Cpu.RFlagsValue = RFlags.Arithmetic;
        machine.Step(0xD3, 0xE0); // shl eax, cl
        Assert.Equal(5UL, machine[Gpr.Rax]);
        Assert.Equal(RFlags.Arithmetic, machine.Arithmetic);
    }

    [Fact]
    public void IncDec_Any_KeepsCarry()
    {
        using var machine = new TestProcessor(TestMode.Protected32);
        machine[Gpr.Rax] = 0xFFFFFFFF;
        machine.Cpu.RFlagsValue = C;
        machine.Step(0x40); // inc eax
        Assert.Equal(0UL, machine[Gpr.Rax]);
        Assert.Equal(C | Z | A | P, machine.Arithmetic);
        machine.Step(0x48); // dec eax
        Assert.Equal(C | S | A | P, machine.Arithmetic);
    }

    [Fact]
    public void Neg_Zero_ClearsCarry()
    {
        using var machine = new TestProcessor();
        machine.Cpu.RFlagsValue = C;
        machine.Step(0x48, 0xF7, 0xD8); // neg rax
        Assert.Equal(Z | P, machine.Arithmetic);
        machine[Gpr.Rax] = 1UL << 63;
        machine.Step(0x48, 0xF7, 0xD8);
        Assert.Equal(1UL << 63, machine[Gpr.Rax]);
        Assert.Equal(C | O | S | P, machine.Arithmetic);
    }

    [Theory]
    [InlineData(0UL, 10UL, 0UL, false)]
    [InlineData(1UL, 0UL, 1UL, true)] // quotient 2^64
    [InlineData(6UL, 5UL, 7UL, false)]
    [InlineData(7UL, 5UL, 7UL, true)]
    public void Div_64Bit_RaisesDivideErrorExactly(ulong high, ulong low, ulong divisor, bool fault)
    {
        using var machine = new TestProcessor();
        machine[Gpr.Rdx] = high;
        machine[Gpr.Rax] = low;
        machine[Gpr.Rbx] = divisor;
        ExecResult result = machine.Step(0x48, 0xF7, 0xF3); // div rbx
        if (fault || divisor == 0)
        {
            machine.AssertFault(Vector.De, result);
            Assert.Equal(low, machine[Gpr.Rax]);
            return;
        }

        UInt128 dividend = new(high, low);
        Assert.Equal((ulong)(dividend / divisor), machine[Gpr.Rax]);
        Assert.Equal((ulong)(dividend % divisor), machine[Gpr.Rdx]);
    }

    [Fact]
    public void Idiv_MostNegativeByMinusOne_RaisesDivideError()
    {
        using var machine = new TestProcessor();
        machine[Gpr.Rdx] = 1UL << 63;
        machine[Gpr.Rax] = 0;
        machine[Gpr.Rbx] = ulong.MaxValue;
        machine.AssertFault(Vector.De, machine.Step(0x48, 0xF7, 0xFB)); // idiv rbx
        machine[Gpr.Rdx] = ulong.MaxValue;
        machine[Gpr.Rax] = 1UL << 63;
        machine.AssertFault(Vector.De, machine.Step(0x48, 0xF7, 0xFB));
        machine[Gpr.Rbx] = 1;
        Assert.Equal(ExecResult.Next, machine.Step(0x48, 0xF7, 0xFB));
        Assert.Equal(1UL << 63, machine[Gpr.Rax]);
        Assert.Equal(0UL, machine[Gpr.Rdx]);
    }

    [Theory]
    [InlineData(0x27, 0x0079, C, 0x00D9, C | S)] // DAA with CF
    [InlineData(0x27, 0x003A, 0, 0x0040, A)]
    [InlineData(0x27, 0x009A, 0, 0x0000, C | A | Z | P)]
    [InlineData(0x2F, 0x0035, A, 0x002F, A)] // DAS: low digit borrow only
    [InlineData(0x2F, 0x00EE, 0, 0x0088, C | A | S | P)]
    [InlineData(0x2F, 0x0003, A, 0x00FD, C | A | S)] // the borrow sets CF, the high digit stays
    [InlineData(0x37, 0x000A, 0, 0x0100, C | A | Z | P)] // AAA
    [InlineData(0x37, 0x01FB, 0, 0x0301, C | A)] // 0x1FB + 0x106
    [InlineData(0x3F, 0x0102, A, 0xFF0C, C | A | P)] // AAS: borrow reaches AH
    public void DecimalAdjust_Row_GivesResultAndFlags(byte opcode, ulong ax, ulong before, ulong result, ulong flags)
    {
        using var machine = new TestProcessor(TestMode.Real);
        machine[Gpr.Rax] = ax;
        machine.Cpu.RFlagsValue = before;
        Assert.Equal(ExecResult.Next, machine.Step(opcode));
        Assert.Equal(result, machine[Gpr.Rax]);
        Assert.Equal(flags, machine.Arithmetic);
    }

    [Fact]
    public void Aam_ByZero_RaisesDivideError()
    {
        using var machine = new TestProcessor(TestMode.Real);
        machine[Gpr.Rax] = 75;
        machine.AssertFault(Vector.De, machine.Step(0xD4, 0));
        machine.Step(0xD4, 10);
        Assert.Equal(0x0705UL, machine[Gpr.Rax]);
        machine.Step(0xD5, 10);
        Assert.Equal(75UL, machine[Gpr.Rax]);
    }
}
