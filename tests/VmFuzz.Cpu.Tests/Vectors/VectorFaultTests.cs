using Iced.Intel;
using VmFuzz.Arch;
using VmFuzz.Cpu.Microcode.Vectors;
using VmFuzz.Cpu.Tests.Integer;

namespace VmFuzz.Cpu.Tests.Vectors;

/// <summary>When instructions on vector registers fault, of every form (SDM "SIMD Instruction Exception Specification").</summary>
public sealed unsafe class VectorFaultTests
{
    private const ulong PendingX87 = 0x8081;

    // SDM "Exceptions Type 4": their memory operand of 16 bytes may stand anywhere.
    private static readonly Mnemonic[] Unaligned =
    [
        Mnemonic.Movups, Mnemonic.Movupd, Mnemonic.Movdqu, Mnemonic.Lddqu, Mnemonic.Maskmovdqu, Mnemonic.Pcmpestri, Mnemonic.Pcmpestri64,
        Mnemonic.Pcmpestrm, Mnemonic.Pcmpestrm64, Mnemonic.Pcmpistri, Mnemonic.Pcmpistrm,
    ];

    // SDM "Exceptions Type 1".
    private static readonly Mnemonic[] VexAligned =
        [Mnemonic.Vmovaps, Mnemonic.Vmovapd, Mnemonic.Vmovdqa, Mnemonic.Vmovntps, Mnemonic.Vmovntpd, Mnemonic.Vmovntdq, Mnemonic.Vmovntdqa];

    [Fact]
    public void Form_WithoutItsFeature_IsUndefined() => Each(static (code, row, _) =>
    {
        using TestProcessor machine = Machine(CpuModels.With(NativeForms.WithVectors(), CpuFeatures.None, row.Feature));
        machine.AssertFault(Vector.Ud, machine.Step(code));
    });

    [Fact]
    public void Form_OnMmxRegistersWithoutMmx_IsUndefined() => Each(static (code, _, form) =>
    {
        using TestProcessor machine = Machine(CpuModels.With(NativeForms.WithVectors(), CpuFeatures.None, CpuFeatures.Mmx));
        ExecResult result = machine.Step(code);
        Assert.Equal(UsesMmx(form), result == ExecResult.Abort);
    });

    [Fact]
    public void Form_WithALockPrefix_IsUndefined() => Each(static (code, _, form) =>
    {
        // The decoder has no such instruction: the block builder makes #UD of it.
        var decoder = Decoder.Create(64, new ByteArrayCodeReader([0xF0, .. code]));
        Assert.True(decoder.Decode().IsInvalid, form.ToInstructionString());
    });

    [Fact]
    public void Form_WithEmulation_IsUndefined() => Each(static (code, _, _) =>
    {
        using TestProcessor machine = Machine();
        machine.Cpu.State->Cr0 |= Cr0.Em | Cr0.Ts | Cr0.Ne;
        machine.Cpu.State->Fsw |= PendingX87;
        machine.AssertFault(Vector.Ud, machine.Step(code));
    });

    [Fact]
    public void Form_WithoutOsfxsr_IsUndefinedOnXmmRegisters() => Each(static (code, _, form) =>
    {
        using TestProcessor machine = Machine();
        machine.Cpu.State->Cr0 |= Cr0.Ts;
        machine.Cpu.State->Cr4 &= ~Cr4.Osfxsr;
        machine.AssertFault(UsesXmm(form) ? Vector.Ud : Vector.Nm, machine.Step(code));
    });

    [Fact]
    public void Form_AfterATaskSwitch_IsDeviceNotAvailable() => Each(static (code, _, _) =>
    {
        using TestProcessor machine = Machine();
        machine.Cpu.State->Cr0 |= Cr0.Ts | Cr0.Ne;
        machine.Cpu.State->Fsw |= PendingX87;
        machine.AssertFault(Vector.Nm, machine.Step(code));
    });

    [Fact]
    public void Form_WithAPendingX87Exception_IsAnX87FaultOnMmxRegisters() => Each(static (code, _, form) =>
    {
        using TestProcessor machine = Machine();
        machine.Cpu.State->Cr0 |= Cr0.Ne;
        machine.Cpu.State->Fsw |= PendingX87;
        ExecResult result = machine.Step(code);
        if (UsesMmx(form))
        {
            machine.AssertFault(Vector.Mf, result);
        }
        else
        {
            Assert.Equal(ExecResult.Next, result);
        }
    });

    [Fact]
    public void Form_WithMemoryThatIsNotAligned_FaultsWhereItMust()
    {
        int aligned = 0;
        Each((code, _, form) =>
        {
            using TestProcessor machine = Machine();
            machine[Gpr.Rsi] = TestProcessor.Data + 8;
            Instruction ins = machine.Decode(code);
            bool whole = ins.MemorySize.GetSize() == 16 && HasMemory(ins) && !Unaligned.Contains(form.Mnemonic);
            ExecResult result = machine.Execute(ins);
            if (whole)
            {
                aligned++;
                machine.AssertFault(Vector.Gp, result);
            }
            else
            {
                Assert.Equal(ExecResult.Next, result);
            }
        });
        Assert.InRange(aligned, 100, int.MaxValue);
    }

    [Fact]
    public void Form_ThatFaults_ChangesNothing() => Each(static (code, _, form) =>
    {
        using TestProcessor machine = Machine();
        CpuState* s = machine.Cpu.State;
        for (int i = 0; i < 64; i++)
        {
            s->Ymm[i] = (ulong)i + 1;
            s->X87[i / 4] = (ulong)i + 1;
        }

        (s->Fsw, s->Ftw) = (0x1800, 0x1234);
        machine[Gpr.Rsi] = machine[Gpr.Rdi] = 0x8000_0000_0000_0000;
        Instruction ins = machine.Decode(code);
        byte[] before = new Span<byte>(s->X87, (16 + 64) * 8).ToArray();
        ExecResult result = machine.Execute(ins);
        if (HasMemory(ins))
        {
            machine.AssertFault(Vector.Gp, result);
            Assert.True(new Span<byte>(s->X87, (16 + 64) * 8).SequenceEqual(before), form.ToInstructionString());
            Assert.Equal((0x1800UL, 0x1234UL), (s->Fsw, s->Ftw));
        }
    });

    [Theory]
    [InlineData(Cr4.Osxsave, 0UL, 0UL, Vector.Ud)]
    [InlineData(0UL, 2UL, 0UL, Vector.Ud)]
    [InlineData(0UL, 4UL, 0UL, Vector.Ud)]
    [InlineData(0UL, 0UL, Cr0.Ts, Vector.Nm)]
    public void VexForm_WithoutWhatItNeeds_Faults(ulong cr4, ulong xcr0, ulong cr0, byte vector) => Each(
        (code, _, _) =>
        {
            using TestProcessor machine = Machine();
            CpuState* s = machine.Cpu.State;
            (s->Cr4, s->Xcr0, s->Cr0) = (s->Cr4 & ~cr4, s->Xcr0 & ~xcr0, s->Cr0 | cr0);
            machine.AssertFault(vector, machine.Step(code));
        },
        EncodingKind.VEX);

    [Fact]
    public void VexForm_WithEmulationAndWithoutOsfxsr_Executes() => Each(
        static (code, _, form) =>
        {
            using TestProcessor machine = Machine();
            machine.Cpu.State->Cr0 |= Cr0.Em;
            machine.Cpu.State->Cr4 &= ~Cr4.Osfxsr;
            Assert.Equal(ExecResult.Next, machine.Step(code));
        },
        EncodingKind.VEX);

    [Fact]
    public void VexForm_WithoutItsFeature_IsUndefined() => Each(
        static (code, row, _) =>
        {
            using TestProcessor machine = Machine(CpuModels.With(NativeForms.WithVectors(), CpuFeatures.None, row.Feature));
            machine.AssertFault(Vector.Ud, machine.Step(code));
        },
        EncodingKind.VEX);

    [Fact]
    public void VexForm_WithMemoryThatIsNotAligned_FaultsWhereItMust()
    {
        int aligned = 0;
        Each(
            (code, _, form) =>
            {
                using TestProcessor machine = Machine();
                machine[Gpr.Rsi] = TestProcessor.Data + 8;
                ExecResult result = machine.Step(code);
                bool faults = result == ExecResult.Abort;
                aligned += faults ? 1 : 0;
                Assert.Equal(VexAligned.Contains(form.Mnemonic), faults);
            },
            EncodingKind.VEX);
        Assert.InRange(aligned, 20, int.MaxValue);
    }

    // Every form once, with memory at RSI where it can have memory.
    private static void Each(Action<byte[], InstructionRow, OpCodeInfo> check, EncodingKind encoding = EncodingKind.Legacy)
    {
        var random = new SplitMix64(0x5EED_0007);
        int forms = 0;
        foreach (InstructionForm form in InstructionForm.All.Where(form => form.Row is { } row && VectorRows.All.Contains(row) && form.Code.Encoding() == encoding))
        {
            OpCodeInfo info = form.Code.ToOpCode();
            Register memory = RandomForms.HasMemoryForm(info) ? Register.RSI : Register.None;
            Assert.True(RandomForms.TryEncode(info, ref random, out byte[] code, memory, displaces: false), info.ToInstructionString());
            check(code, form.Row!.Value, info);
            forms++;
        }

        Assert.InRange(forms, 300, int.MaxValue);
    }

    private static TestProcessor Machine(CpuModel? model = null)
    {
        var machine = new TestProcessor(TestMode.Long64, model ?? NativeForms.WithVectors());
        machine.Cpu.State->Cr4 |= Cr4.Osfxsr | Cr4.Osxsave;
        machine.Cpu.State->Xcr0 = 7;
        machine[Gpr.Rsi] = machine[Gpr.Rdi] = TestProcessor.Data;
        return machine;
    }

    private static bool HasMemory(in Instruction ins) => ins.MemorySize != MemorySize.Unknown;

    private static bool UsesMmx(OpCodeInfo form) => form.Mnemonic == Mnemonic.Emms
        || Uses(form, OpCodeOperandKind.mm_or_mem, OpCodeOperandKind.mm_reg, OpCodeOperandKind.mm_rm);

    private static bool UsesXmm(OpCodeInfo form) => Uses(form, OpCodeOperandKind.xmm_or_mem, OpCodeOperandKind.xmm_reg, OpCodeOperandKind.xmm_rm);

    private static bool Uses(OpCodeInfo form, params ReadOnlySpan<OpCodeOperandKind> kinds)
    {
        bool uses = false;
        for (int i = 0; i < form.OpCount; i++)
        {
            uses |= kinds.Contains(form.GetOpKind(i));
        }

        return uses;
    }
}
