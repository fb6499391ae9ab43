using Iced.Intel;
using VmFuzz.Arch;

namespace VmFuzz.Cpu.Tests.Integer;

/// <summary>The instruction table as a whole.</summary>
public sealed class TableTests
{
    [Fact]
    public void Rows_EveryId_IsThereOnce()
    {
        var seen = new HashSet<(Mnemonic, Code)>();
        foreach (InstructionRow row in InstructionTable.Default.Rows)
        {
            Assert.True(seen.Add((row.Mnemonic, row.Form)), $"{row.Mnemonic} {row.Form}");
            Assert.True(row.Form == Code.INVALID || row.Form.Mnemonic() == row.Mnemonic, $"{row.Form}");
        }
    }

    [Fact]
    public void Rows_SharedMnemonics_HaveRowsForEveryOtherForm()
    {
        // These mnemonics have a general integer row; forms with other operands must not fall through to it.
        var missing = new List<Code>();
        foreach (Code code in Enum.GetValues<Code>())
        {
            OpCodeInfo info = code.ToOpCode();
            if (!info.IsInstruction || info.Mnemonic is not (Mnemonic.Mov or Mnemonic.Push or Mnemonic.Pop or Mnemonic.Jmp or Mnemonic.Call))
            {
                continue;
            }

            bool special = false;
            for (int i = 0; i < info.OpCount; i++)
            {
                special |= info.GetOpKind(i) is OpCodeOperandKind.seg_reg or OpCodeOperandKind.cr_reg or OpCodeOperandKind.dr_reg
                    or OpCodeOperandKind.tr_reg or OpCodeOperandKind.farbr2_2 or OpCodeOperandKind.farbr4_2
                    or OpCodeOperandKind.es or OpCodeOperandKind.cs or OpCodeOperandKind.ss or OpCodeOperandKind.ds
                    or OpCodeOperandKind.fs or OpCodeOperandKind.gs
                    || (info.Mnemonic is Mnemonic.Jmp or Mnemonic.Call && info.GetOpKind(i) == OpCodeOperandKind.mem);
            }

            // Test registers went with the 486, POP CS with the 8086; the decoder gives these forms only when asked.
            if (!special || InstructionTable.Default.Rows.Any(row => row.Form == code) || code is Code.Mov_r32_tr or Code.Mov_tr_r32 or Code.Popw_CS)
            {
                continue;
            }

            missing.Add(code);
        }

        Assert.True(missing.Count == 0, string.Join(' ', missing));
    }

    [Theory]
    [InlineData(new byte[] { 0x0F, 0x1A, 0xC0 })] // bound instructions are hints on processors without MPX
    [InlineData(new byte[] { 0xF3, 0x0F, 0x1B, 0x00 })]
    [InlineData(new byte[] { 0xF3, 0x48, 0x0F, 0x1E, 0xC8 })] // rdsspq rax
    [InlineData(new byte[] { 0x0F, 0x1C, 0x00 })] // cldemote
    [InlineData(new byte[] { 0x0F, 0x0D, 0x08 })] // prefetchw
    [InlineData(new byte[] { 0x66, 0x66, 0x2E, 0x0F, 0x1F, 0x84, 0, 0, 0, 0, 0 })]
    [InlineData(new byte[] { 0xF3, 0x0F, 0x1E, 0xFB })] // endbr32
    public void Hints_WithoutTheirFeature_DoNothing(byte[] code)
    {
        using var machine = new TestProcessor();
        machine[Gpr.Rax] = 0x1234;
        Assert.Equal(ExecResult.Next, machine.Step(code));
        Assert.Equal(0x1234UL, machine[Gpr.Rax]);
    }

    [Fact]
    public void Salc_OutsideLongMode_SpreadsCarry()
    {
        using var machine = new TestProcessor(TestMode.Real);
        machine.Cpu.RFlagsValue = RFlags.Cf;
        machine.Step(0xD6);
        Assert.Equal(0xFFUL, machine[Gpr.Rax]);
    }
}
