using System.Numerics;
using System.Runtime.Intrinsics.X86;
using Iced.Intel;
using VmFuzz.Arch;

namespace VmFuzz.Cpu.Tests.Integer;

/// <summary>Register forms of every integer instruction against the host's own processor.</summary>
public sealed unsafe class NativeOracleTests
{
    private const int EncodingsPerCode = 12;
    private const int CasesPerEncoding = 48;

    private static readonly Mnemonic[] Tested =
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
    ];

    [Fact]
    public void Handlers_RandomRegisterForms_AgreeWithHost()
    {
        using NativeThunk? thunk = NativeThunk.TryCreate();
        Assert.SkipWhen(thunk is null, "needs an x64 Linux host that maps executable memory");

        using var machine = new TestProcessor(model: WithCrc32());
        var random = new SplitMix64(0x5EED_0001);
        var failures = new List<string>();
        var covered = new HashSet<Mnemonic>();
        int cases = 0;
        foreach (Code code in Enum.GetValues<Code>())
        {
            OpCodeInfo info = code.ToOpCode();
            if (!info.IsInstruction || !info.Mode64 || RandomForms.IsForeign(info) || Array.IndexOf(Tested, info.Mnemonic) < 0 || !HostHas(info.Mnemonic))
            {
                continue;
            }

            int perCode = failures.Count;
            for (int i = 0; i < EncodingsPerCode && failures.Count == perCode; i++)
            {
                if (!RandomForms.TryEncode(info, ref random, out byte[] bytes))
                {
                    break;
                }

                covered.Add(info.Mnemonic);
                cases += Compare(machine, thunk!, machine.Decode(bytes), bytes, ref random, failures);
            }
        }

        Assert.True(failures.Count == 0, $"{failures.Count} forms differ:\n{string.Join('\n', failures.Take(60))}");
        Assert.DoesNotContain(Tested, m => HostHas(m) && !covered.Contains(m));
        Assert.True(cases > 100_000, $"only {cases} cases");
    }

    private static int Compare(TestProcessor machine, NativeThunk thunk, in Instruction ins, byte[] bytes, ref SplitMix64 random, List<string> failures)
    {
        thunk.Load(bytes);
        int done = 0;
        Assert.True(machine.Cpu.Instructions.TryFind(ins.Mnemonic, out InstructionRow row));
        Span<ulong> before = stackalloc ulong[17];
        for (int n = 0; n < CasesPerEncoding; n++)
        {
            for (int r = 0; r < 16; r++)
            {
                before[r] = RandomForms.Value(ref random);
            }

            before[4] = 0x8000;
            if (ins.Mnemonic is Mnemonic.Div or Mnemonic.Idiv && (n & 3) != 0)
            {
                // Most random dividends overflow: make the high part small or the sign of the low part.
                before[2] = (n & 1) != 0 ? random.Next() & 3 : (ulong)((long)before[0] >> 63);
            }

            before[16] = RFlags.Reserved1 | RFlags.If | (random.Next() & RFlags.Arithmetic);
            for (int r = 0; r < 16; r++)
            {
                machine[(Gpr)r] = before[r];
            }

            machine.Cpu.RFlagsValue = before[16];
            machine.Rip = TestProcessor.Start;
            ulong mask = DefinedFlags(machine, ins, row.UndefinedFlags, out bool resultDefined);
            bool divideError = DivideError(machine, ins);
            ExecResult result = machine.Execute(ins);
            if (divideError != (result == ExecResult.Abort))
            {
                failures.Add($"{Describe(ins, before)}: divide error expected {divideError}");
                return done;
            }

            done++;
            if (divideError || !resultDefined)
            {
                continue;
            }

            before.CopyTo(thunk.State);
            thunk.Run();
            ReadOnlySpan<ulong> native = thunk.State;
            for (int r = 0; r < 16; r++)
            {
                if (r != 4 && native[r] != machine[(Gpr)r])
                {
                    failures.Add($"{Describe(ins, before)}: {(Gpr)r} host {native[r]:X} model {machine[(Gpr)r]:X}");
                    return done;
                }
            }

            ulong model = machine.Cpu.RFlagsValue & (RFlags.Arithmetic | RFlags.Df);
            ulong host = native[16] & (RFlags.Arithmetic | RFlags.Df);
            if (((model ^ host) & mask) != 0)
            {
                failures.Add($"{Describe(ins, before)}: flags host {host:X} model {model:X} mask {mask:X}");
                return done;
            }
        }

        return done;
    }

    private static string Describe(in Instruction ins, ReadOnlySpan<ulong> state) =>
        $"{ins} [{ins.Code}] rax={state[0]:X} rcx={state[1]:X} rdx={state[2]:X} op0={Operand(ins, 0, state)} op1={Operand(ins, 1, state)} fl={state[16]:X}";

    private static string Operand(in Instruction ins, int operand, ReadOnlySpan<ulong> state) =>
        operand < ins.OpCount && ins.GetOpKind(operand) == OpKind.Register
            ? $"{state[ins.GetOpRegister(operand).GetFullRegister() - Register.RAX]:X}" : "-";

    // The tight mask of what the SDM defines for this case; the row's mask holds for any operands.
    private static ulong DefinedFlags(TestProcessor machine, in Instruction ins, ulong undefined, out bool resultDefined)
    {
        resultDefined = !(ins.Mnemonic == Mnemonic.Bswap && Processor.OperandSize(ins, 0) == 2);
        ulong all = RFlags.Arithmetic | RFlags.Df;
        bool rotate = ins.Mnemonic is Mnemonic.Rol or Mnemonic.Ror or Mnemonic.Rcl or Mnemonic.Rcr;
        bool shift = ins.Mnemonic is Mnemonic.Shl or Mnemonic.Sal or Mnemonic.Shr or Mnemonic.Sar or Mnemonic.Shld or Mnemonic.Shrd;
        if (!rotate && !shift)
        {
            return all & ~undefined;
        }

        int size = Processor.OperandSize(ins, 0);
        int last = ins.OpCount - 1;
        int count = (int)(ins.GetOpKind(last) == OpKind.Register ? machine[Gpr.Rcx] : ins.GetImmediate(last)) & (size == 8 ? 63 : 31);
        if (count == 0)
        {
            return all;
        }

        ulong mask = all & ~(shift ? RFlags.Af : 0) & ~(count == 1 ? 0 : RFlags.Of);
        if (count >= size * 8 && ins.Mnemonic is Mnemonic.Shl or Mnemonic.Sal or Mnemonic.Shr)
        {
            mask &= ~RFlags.Cf;
        }

        if (ins.Mnemonic is Mnemonic.Shld or Mnemonic.Shrd && count > size * 8)
        {
            resultDefined = false;
        }

        return mask;
    }

    private static bool DivideError(TestProcessor machine, in Instruction ins)
    {
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

    private static CpuModel WithCrc32()
    {
        CpuModel model = CpuModels.VmFuzz64;
        return model with
        {
            Leaves = [.. model.Leaves.Select(static row => row.Leaf == 1 ? row with { Ecx = row.Ecx | (1U << 20) } : row)],
        };
    }

    internal static bool HostHas(Mnemonic mnemonic) => mnemonic switch
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
