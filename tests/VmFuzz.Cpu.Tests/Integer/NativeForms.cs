using System.Numerics;
using System.Runtime.Intrinsics.X86;
using Iced.Intel;
using VmFuzz.Arch;

namespace VmFuzz.Cpu.Tests.Integer;

/// <summary>Register forms of the integer instructions: which there are, random states for them, what the SDM defines of the result.</summary>
internal static class NativeForms
{
    /// <summary>The instructions.</summary>
    public static readonly Mnemonic[] Tested =
    [
        Mnemonic.Mov, Mnemonic.Movzx, Mnemonic.Movsx, Mnemonic.Movsxd, Mnemonic.Xchg, Mnemonic.Bswap,
        Mnemonic.Cbw, Mnemonic.Cwde, Mnemonic.Cdqe, Mnemonic.Cwd, Mnemonic.Cdq, Mnemonic.Cqo,
        Mnemonic.Cmova, Mnemonic.Cmovae, Mnemonic.Cmovb, Mnemonic.Cmovbe, Mnemonic.Cmove, Mnemonic.Cmovg,
        Mnemonic.Cmovge, Mnemonic.Cmovl, Mnemonic.Cmovle, Mnemonic.Cmovne, Mnemonic.Cmovno, Mnemonic.Cmovnp,
        Mnemonic.Cmovns, Mnemonic.Cmovo, Mnemonic.Cmovp, Mnemonic.Cmovs,
        Mnemonic.Seta, Mnemonic.Setae, Mnemonic.Setb, Mnemonic.Setbe, Mnemonic.Sete, Mnemonic.Setg, Mnemonic.Setge,
        Mnemonic.Setl, Mnemonic.Setle, Mnemonic.Setne, Mnemonic.Setno, Mnemonic.Setnp, Mnemonic.Setns, Mnemonic.Seto,
        Mnemonic.Setp, Mnemonic.Sets,
        Mnemonic.Add, Mnemonic.Adc, Mnemonic.Sub, Mnemonic.Sbb, Mnemonic.Cmp, Mnemonic.Neg, Mnemonic.Inc, Mnemonic.Dec,
        Mnemonic.Xadd, Mnemonic.Adcx, Mnemonic.Adox, Mnemonic.Cmpxchg,
        Mnemonic.And, Mnemonic.Or, Mnemonic.Xor, Mnemonic.Not, Mnemonic.Test,
        Mnemonic.Mul, Mnemonic.Imul, Mnemonic.Div, Mnemonic.Idiv,
        Mnemonic.Shl, Mnemonic.Sal, Mnemonic.Shr, Mnemonic.Sar, Mnemonic.Rol, Mnemonic.Ror, Mnemonic.Rcl, Mnemonic.Rcr,
        Mnemonic.Shld, Mnemonic.Shrd,
        Mnemonic.Bt, Mnemonic.Bts, Mnemonic.Btr, Mnemonic.Btc, Mnemonic.Bsf, Mnemonic.Bsr,
        Mnemonic.Popcnt, Mnemonic.Lzcnt, Mnemonic.Tzcnt, Mnemonic.Crc32,
        Mnemonic.Andn, Mnemonic.Bextr, Mnemonic.Blsi, Mnemonic.Blsmsk, Mnemonic.Blsr, Mnemonic.Bzhi, Mnemonic.Mulx,
        Mnemonic.Pdep, Mnemonic.Pext, Mnemonic.Rorx, Mnemonic.Sarx, Mnemonic.Shlx, Mnemonic.Shrx,
        Mnemonic.Clc, Mnemonic.Stc, Mnemonic.Cmc, Mnemonic.Cld, Mnemonic.Std, Mnemonic.Lahf, Mnemonic.Sahf, Mnemonic.Nop,
        Mnemonic.Aaa, Mnemonic.Aas, Mnemonic.Aam, Mnemonic.Aad, Mnemonic.Daa, Mnemonic.Das,
    ];

    /// <summary>Features of instructions on vectors that the default model does not show.</summary>
    public const CpuFeatures Vectors = CpuFeatures.Mmx | CpuFeatures.Sse3 | CpuFeatures.Ssse3 | CpuFeatures.Sse41 | CpuFeatures.Sse42 | CpuFeatures.Pclmulqdq
        | CpuFeatures.Aes | CpuFeatures.Sha | CpuFeatures.Avx | CpuFeatures.Avx2;

    /// <summary>How many times as many cases as usual this run takes.</summary>
    public static readonly int Times = Environment.GetEnvironmentVariable("VMFUZZ_LONG") == "1" ? 20 : 1;

    /// <summary>The mode of the model in which code of a size runs.</summary>
    public static TestMode ModeOf(int bitness) => bitness switch
    {
        64 => TestMode.Long64,
        32 => TestMode.Protected32,
        _ => TestMode.Protected16,
    };

    /// <summary>The general registers that code of a size has.</summary>
    public static int RegistersOf(int bitness) => bitness == 64 ? 16 : 8;

    /// <summary>The bits of a register that code of a size sees; what the others hold after a return to 64-bit code is undefined.</summary>
    public static ulong MaskOf(int bitness) => bitness == 64 ? ulong.MaxValue : uint.MaxValue;

    /// <summary>The forms that code of a size has and that both the host and the model have.</summary>
    public static IEnumerable<OpCodeInfo> Of(int bitness) => Enum.GetValues<Code>()
        .Select(static code => code.ToOpCode())
        .Where(info => IsIn(bitness, info) && Array.IndexOf(Tested, info.Mnemonic) >= 0 && HostHas(info.Mnemonic));

    /// <summary>Whether code of a size has a form, on any but a few processors of long ago.</summary>
    public static bool IsIn(int bitness, OpCodeInfo info) => info.IsInstruction && info.DecoderOption == DecoderOptions.None
        && (bitness == 64 ? info.Mode64 : bitness == 32 ? info.Mode32 : info.Mode16) && !RandomForms.IsForeign(info);

    /// <summary>Random registers, then flags, of a kind that the instruction often has a result for.</summary>
    public static void RandomState(in Instruction ins, int bitness, int number, ref SplitMix64 random, Span<ulong> state)
    {
        for (int r = 0; r < 16; r++)
        {
            state[r] = RandomForms.Value(ref random) & MaskOf(bitness);
        }

        state[4] = 0x8000;
        if (ins.Mnemonic is Mnemonic.Div or Mnemonic.Idiv && (number & 3) != 0)
        {
            // Most random dividends overflow: make the high part small or the sign of the low part.
            state[2] = (number & 1) != 0 ? random.Next() & 3 : (ulong)((long)state[0] >> 63) & MaskOf(bitness);
        }

        state[16] = RFlags.Reserved1 | RFlags.If | (random.Next() & RFlags.Arithmetic);
    }

    /// <summary>Puts a state into the model, at its first instruction.</summary>
    public static void Load(TestProcessor machine, ReadOnlySpan<ulong> state)
    {
        for (int r = 0; r < 16; r++)
        {
            machine[(Gpr)r] = state[r];
        }

        machine.Cpu.RFlagsValue = state[16];
        machine.Rip = TestProcessor.Start;
    }

    /// <summary>The tight mask of what the SDM defines for this case; the row's mask holds for any operands.</summary>
    public static ulong DefinedFlags(in Instruction ins, ulong rcx, ulong undefined, out bool resultDefined) =>
        (RFlags.Arithmetic | RFlags.Df) & ~DefinedResults.UndefinedFlags(ins, undefined, rcx, out resultDefined);

    /// <summary>Whether the SDM has this case end in #DE.</summary>
    public static bool DivideError(TestProcessor machine, in Instruction ins)
    {
        if (ins.Mnemonic == Mnemonic.Aam)
        {
            return ins.Immediate8 == 0;
        }

        if (ins.Mnemonic is not (Mnemonic.Div or Mnemonic.Idiv))
        {
            return false;
        }

        int size = Processor.OperandSize(ins, 0);
        bool signed = ins.Mnemonic == Mnemonic.Idiv;
        BigInteger high = size == 1 ? 0 : machine[Gpr.Rdx] & Processor.MaskOfSize(size);
        BigInteger dividend = size == 1
            ? machine[Gpr.Rax] & 0xFFFF
            : (high << (size * 8)) | (machine[Gpr.Rax] & Processor.MaskOfSize(size));
        BigInteger divisor = machine.Cpu.ReadGpr(ins.Op0Register);
        BigInteger modulus = BigInteger.One << (size * 8);
        if (signed)
        {
            dividend = dividend >= modulus * modulus / 2 ? dividend - (modulus * modulus) : dividend;
            divisor = divisor >= modulus / 2 ? divisor - modulus : divisor;
        }

        if (divisor.IsZero)
        {
            return true;
        }

        BigInteger quotient = BigInteger.Divide(dividend, divisor);
        return signed ? quotient < -modulus / 2 || quotient >= modulus / 2 : quotient >= modulus;
    }

    /// <summary>The default model with every feature of instructions on vectors.</summary>
    public static CpuModel WithVectors() => CpuModels.With(CpuModels.VmFuzz64, Vectors);

    /// <summary>The default model, and CRC32, which belongs to a feature that it does not show.</summary>
    public static CpuModel WithCrc32() => CpuModels.With(CpuModels.VmFuzz64, CpuFeatures.Sse42);

    /// <summary>Whether this host has a feature, by where CPUID shows it.</summary>
    public static bool HostHas(CpuFeatures feature) => CpuModels.FeatureBits.All(bit =>
        (bit.Feature & feature) == 0 || (HostRegister(bit.Leaf, bit.Register) & (1U << bit.Bit)) != 0);

    private static uint HostRegister(uint leaf, CpuidRegister register)
    {
        (int Eax, int Ebx, int Ecx, int Edx) = X86Base.CpuId((int)leaf, 0);
        return (uint)(register switch
        {
            CpuidRegister.Eax => Eax,
            CpuidRegister.Ebx => Ebx,
            CpuidRegister.Ecx => Ecx,
            _ => Edx,
        });
    }

    /// <summary>Whether this host has an instruction.</summary>
    public static bool HostHas(Mnemonic mnemonic) => mnemonic switch
    {
        Mnemonic.Andn or Mnemonic.Bextr or Mnemonic.Blsi or Mnemonic.Blsmsk or Mnemonic.Blsr or Mnemonic.Tzcnt => Bmi1.IsSupported,
        Mnemonic.Bzhi or Mnemonic.Mulx or Mnemonic.Pdep or Mnemonic.Pext or Mnemonic.Rorx or Mnemonic.Sarx
            or Mnemonic.Shlx or Mnemonic.Shrx => Bmi2.IsSupported,
        Mnemonic.Lzcnt => Lzcnt.IsSupported,
        Mnemonic.Popcnt => Popcnt.IsSupported,
        Mnemonic.Crc32 => Sse42.IsSupported,
        Mnemonic.Adcx or Mnemonic.Adox => (X86Base.CpuId(7, 0).Ebx & (1 << 19)) != 0,
        _ => true,
    };
}
