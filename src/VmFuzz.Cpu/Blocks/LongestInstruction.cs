using Iced.Intel;

namespace VmFuzz.Cpu.Blocks;

/// <summary>The limit of 15 bytes: an instruction that goes on behind them is #GP, an undefined opcode that ends there #UD.</summary>
internal static unsafe class LongestInstruction
{
    /// <summary>The most bytes of an instruction.</summary>
    public const int Bytes = 15;

    private const byte OperandSize = 0x66, AddressSize = 0x67, Lock = 0xF0;

    /// <summary>
    /// Whether 15 bytes that the decoder refused are the start of a longer instruction. The decoder says the same of both, and
    /// reads behind undefined opcodes; so it is asked again without a prefix that a later one makes void, with any byte behind.
    /// </summary>
    /// <param name="decoder">A decoder of the mode, over <paramref name="reader"/>.</param>
    /// <param name="reader">Its reader.</param>
    /// <param name="instruction">The 15 bytes.</param>
    public static bool IsPassed(Decoder decoder, PageCodeReader reader, ReadOnlySpan<byte> instruction)
    {
        Span<byte> shorter = stackalloc byte[Bytes * 2];
        shorter.Clear();
        int without = FirstVoid(instruction, decoder.Bitness);
        instruction[..without].CopyTo(shorter);
        instruction[(without + 1)..Bytes].CopyTo(shorter[without..]);
        fixed (byte* bytes = shorter)
        {
            for (int next = 0; next <= byte.MaxValue; next++)
            {
                bytes[Bytes - 1] = (byte)next;
                reader.Set(bytes, shorter.Length);
                decoder.Decode(out Instruction whole);
                if (!whole.IsInvalid)
                {
                    return true;
                }
            }
        }

        return false;
    }

    // Of as many prefixes as 15 bytes hold before an opcode two are of one group, or a REX prefix stands before another prefix.
    private static int FirstVoid(ReadOnlySpan<byte> instruction, int bitness)
    {
        for (int i = 0; i < Bytes - 1; i++)
        {
            int group = Group(instruction[i], bitness);
            for (int later = i + 1; later < Bytes && Group(instruction[later], bitness) is var other and not 0; later++)
            {
                if (group == other || group == RexGroup)
                {
                    return i;
                }
            }
        }

        return 0;
    }

    private const int RexGroup = 1;

    // 0: no prefix.
    private static int Group(byte value, int bitness) => value switch
    {
        0x26 or 0x2E or 0x36 or 0x3E or 0x64 or 0x65 => 2,
        OperandSize => 3,
        AddressSize => 4,
        Lock => 5,
        0xF2 or 0xF3 => 6,
        >= 0x40 and <= 0x4F when bitness == 64 => RexGroup,
        _ => 0,
    };
}
