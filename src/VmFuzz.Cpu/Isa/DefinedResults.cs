using Iced.Intel;
using VmFuzz.Arch;

namespace VmFuzz.Cpu;

/// <summary>What the SDM defines of an instruction's result for given operands; a row's mask holds for any operands.</summary>
public static class DefinedResults
{
    /// <summary>Flags that it leaves undefined.</summary>
    /// <param name="instruction">The instruction.</param>
    /// <param name="row">What its row says, for any operands.</param>
    /// <param name="rcx">RCX before it: the count of shifts and rotates by CL.</param>
    /// <param name="result">Whether its destination is defined; when it is not, no flag is either.</param>
    /// <returns>RFLAGS bits, none that its row does not name.</returns>
    public static ulong UndefinedFlags(in Instruction instruction, ulong row, ulong rcx, out bool result)
    {
        result = !(instruction.Mnemonic == Mnemonic.Bswap && Processor.OperandSize(instruction, 0) == 2);
        bool shift = IsShift(instruction.Mnemonic);
        if (!shift && !IsRotate(instruction.Mnemonic))
        {
            return row;
        }

        int size = Processor.OperandSize(instruction, 0);
        int count = CountOf(instruction, size, rcx);
        if (count == 0)
        {
            return 0;
        }

        result = !(instruction.Mnemonic is Mnemonic.Shld or Mnemonic.Shrd && count > size * 8);
        ulong undefined = (shift ? RFlags.Af : 0) | (count == 1 ? 0 : RFlags.Of);
        return count >= size * 8 && instruction.Mnemonic is Mnemonic.Shl or Mnemonic.Sal or Mnemonic.Shr ? undefined | RFlags.Cf : undefined;
    }

    /// <summary>Whether it is a shift or rotate that this count makes do nothing, flags included (SDM "SAL/SAR/SHL/SHR").</summary>
    public static bool DoesNothing(in Instruction instruction, ulong rcx) =>
        (IsShift(instruction.Mnemonic) || IsRotate(instruction.Mnemonic)) && CountOf(instruction, Processor.OperandSize(instruction, 0), rcx) == 0;

    private static int CountOf(in Instruction instruction, int size, ulong rcx)
    {
        int last = instruction.OpCount - 1;
        return (int)(instruction.GetOpKind(last) == OpKind.Register ? rcx : instruction.GetImmediate(last)) & (size == 8 ? 63 : 31);
    }

    private static bool IsRotate(Mnemonic mnemonic) => mnemonic is Mnemonic.Rol or Mnemonic.Ror or Mnemonic.Rcl or Mnemonic.Rcr;

    private static bool IsShift(Mnemonic mnemonic) =>
        mnemonic is Mnemonic.Shl or Mnemonic.Sal or Mnemonic.Shr or Mnemonic.Sar or Mnemonic.Shld or Mnemonic.Shrd;
}
