using System.Runtime.InteropServices;

namespace VmFuzz.Cli.Lockstep;

/// <summary>The registers that are compared after every instruction. In 16- and 32-bit code the upper halves are zero.</summary>
// SAFETY: a plain value; the indexer is masked.
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct RegisterImage
{
    /// <summary>General registers, RIP, RFLAGS.</summary>
    public const int Words = 18;

    /// <summary>Place of RIP.</summary>
    public const int RipWord = 16;

    /// <summary>Place of RFLAGS.</summary>
    public const int FlagsWord = 17;

    private static readonly string[] WordNames =
    [
        "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rip", "rflags",
    ];

    /// <summary>In encoding order.</summary>
    public fixed ulong Gpr[16];

    /// <summary>An offset in the code segment.</summary>
    public ulong Rip;

    /// <summary>RFLAGS.</summary>
    public ulong Flags;

    /// <summary>A register by its place.</summary>
    public ulong this[int word]
    {
        readonly get => word switch { RipWord => Rip, FlagsWord => Flags, _ => Gpr[word & 15] };
        set
        {
            switch (word)
            {
                case RipWord:
                    Rip = value;
                    break;
                case FlagsWord:
                    Flags = value;
                    break;
                default:
                    Gpr[word & 15] = value;
                    break;
            }
        }
    }

    /// <summary>Name of the register at a place.</summary>
    public static string NameOf(int word) => WordNames[word];

    /// <summary>The places that differ, one bit each.</summary>
    /// <param name="one">An image.</param>
    /// <param name="other">Another.</param>
    /// <param name="flags">The flags that count.</param>
    /// <param name="undefined">What of a general register does not count.</param>
    public static uint Differences(in RegisterImage one, in RegisterImage other, ulong flags, UndefinedRegister undefined = default)
    {
        uint differences = 0;
        for (int i = 0; i < 16; i++)
        {
            differences |= one.Gpr[i] != other.Gpr[i] ? 1U << i : 0;
        }

        if (undefined.Bits != 0 && ((one[undefined.Place] ^ other[undefined.Place]) & ~undefined.Bits) == 0)
        {
            differences &= ~(1U << undefined.Place);
        }

        differences |= one.Rip != other.Rip ? 1U << RipWord : 0;
        return differences | (((one.Flags ^ other.Flags) & flags) != 0 ? 1U << FlagsWord : 0);
    }
}

/// <summary>The part of a general register that an instruction left undefined.</summary>
/// <param name="Place">The register (see <see cref="RegisterImage"/>).</param>
/// <param name="Bits">The bits; 0 for none.</param>
internal readonly record struct UndefinedRegister(int Place, ulong Bits);
