using System.Collections.Immutable;
using Iced.Intel;
using VmFuzz.Arch;
using VmFuzz.Machines;

namespace VmFuzz.Cli.Lockstep;

/// <summary>A fault of Unicorn: differences that it explains are counted, not reported.</summary>
/// <param name="Id">Its name.</param>
/// <param name="What">What differs.</param>
/// <param name="Why">Why Unicorn is wrong.</param>
/// <param name="Section">The SDM's title of the section that says so.</param>
/// <param name="Mode">Mode of the example.</param>
/// <param name="Example">Instructions that show it, from registers and flags that are all zero but the stack pointer.</param>
/// <param name="Explains">Whether it explains a difference.</param>
internal sealed record KnownFault(
    string Id, string What, string Why, string Section, FlatMode Mode, ImmutableArray<byte> Example, Func<LockstepCase, bool> Explains);

/// <summary>The faults of Unicorn 2.0.1 that programs meet.</summary>
internal static class KnownFaults
{
    /// <summary>All rows. A test runs each example and expects exactly its row.</summary>
    public static ImmutableArray<KnownFault> Rows { get; } =
    [
        new("pext-pdep-operands", "PEXT and PDEP take the mask for the source and the source for the mask",
            "the mask is the second source, the operand that may be memory", "PEXT - Parallel Bits Extract",
            FlatMode.Protected32, [0xB9, 0x55, 0x33, 0x0F, 0x0F, 0xBB, 0x78, 0x56, 0x34, 0x12, 0xC4, 0xE2, 0x62, 0xF5, 0xC1],
            static c => c.Facts.Instruction.Mnemonic is Mnemonic.Pext or Mnemonic.Pdep && c.OnlyDestination(0)),
        new("test-second-form", "TEST in its second encoding, F6 /1 and F7 /1, is #UD",
            "processors execute both encodings; the opcode map has TEST at both", "Opcode Extensions For One- And Two-byte Opcodes",
            FlatMode.Protected32, [0xF6, 0xC8, 0x01],
            static c => c.Facts.Instruction.Code is Code.Test_rm8_imm8_F6r1 or Code.Test_rm16_imm16_F7r1 or Code.Test_rm32_imm32_F7r1 or Code.Test_rm64_imm32_F7r1
                && c.OnlyUnicornRaises(Vector.Ud)),
        new("lock-neg-flags", "LOCK NEG sets the flags of the result's own negation",
            "the flags are those of 0 minus the destination, with a prefix or without", "NEG - Two's Complement Negation",
            FlatMode.Long64, [0xC6, 0x04, 0x25, 0x40, 0x00, 0x20, 0x00, 0x01, 0xF0, 0xF6, 0x1C, 0x25, 0x40, 0x00, 0x20, 0x00],
            static c => c.Facts.Instruction is { Mnemonic: Mnemonic.Neg, HasLockPrefix: true } && c.OnlyFlags(RFlags.Arithmetic)),
        new("bzhi-large-index", "BZHI takes an index of at least the operand's size less one for that: it clears the highest bit and sets CF",
            "a start index of at least the operand's size copies the source, and sets CF", "BZHI - Zero High Bits Starting with Specified Bit Position",
            FlatMode.Protected32, [0xB9, 0x01, 0x00, 0x00, 0x80, 0xBB, 0x20, 0x00, 0x00, 0x00, 0xC4, 0xE2, 0x60, 0xF5, 0xC1],
            static c => c.Facts.Instruction.Mnemonic == Mnemonic.Bzhi && (byte)c.Register(2) >= c.Bits - 1
                && (c.OnlyFlags(RFlags.Cf) || c.OnlyDestination(RFlags.Cf | RFlags.Sf | RFlags.Zf))),
        new("adcx-16-bit", "ADCX is #UD in 16-bit code",
            "it exists in every mode", "ADCX - Unsigned Integer Addition of Two Operands with Carry Flag",
            FlatMode.Real16, [0x66, 0x0F, 0x38, 0xF6, 0xC1],
            static c => c.Facts.Instruction.Mnemonic == Mnemonic.Adcx && c.OnlyUnicornRaises(Vector.Ud)),
        new("blsi-carry", "BLSI clears CF where it should set it",
            "CF is set when the source is not zero", "BLSI - Extract Lowest Set Isolated Bit",
            FlatMode.Protected32, [0xB9, 0x0C, 0x00, 0x00, 0x00, 0xC4, 0xE2, 0x78, 0xF3, 0xD9],
            static c => c.Facts.Instruction.Mnemonic == Mnemonic.Blsi && c.OnlyFlags(RFlags.Cf)),
        new("bextr-past-end", "BEXTR of a field that goes past the operand's end takes bits from behind it, or loses the highest",
            "bits past the end of the operand are zeros", "BEXTR - Bit Field Extract",
            FlatMode.Protected32, [0xB9, 0x01, 0x00, 0x00, 0x80, 0xBB, 0x00, 0x20, 0x00, 0x00, 0xC4, 0xE2, 0x60, 0xF7, 0xC1],
            static c => c.Facts.Instruction.Mnemonic == Mnemonic.Bextr && (byte)c.Register(2) + (byte)(c.Register(2) >> 8) >= c.Bits && c.OnlyDestination(RFlags.Zf)),
        new("cmpxchg-unequal-register", "CMPXCHG that finds its 32-bit register destination unequal clears the upper half of that register",
            "only EAX is loaded then", "CMPXCHG - Compare and Exchange",
            FlatMode.Long64, [0x48, 0xC7, 0xC1, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F, 0xB1, 0xD1],
            static c => c.Facts.Instruction.Code == Code.Cmpxchg_rm32_r32 && (c.Model.Flags & RFlags.Zf) == 0 && c.OnlyDestination(0)),
        new("cmpxchg-equal-accumulator", "CMPXCHG that finds its 32-bit destination equal clears the upper half of RAX",
            "the accumulator is loaded only when they are unequal", "CMPXCHG - Compare and Exchange",
            FlatMode.Long64, [0x48, 0x0F, 0xBA, 0xE8, 0x3F, 0x0F, 0xB1, 0xD1],
            static c => c.Facts.Instruction.Code == Code.Cmpxchg_rm32_r32 && (c.Model.Flags & RFlags.Zf) != 0 && c.OnlyRegister(Gpr.Rax)),
    ];
}
