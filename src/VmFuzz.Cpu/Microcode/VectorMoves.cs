using System.Buffers.Binary;
using System.Collections.Immutable;
using Iced.Intel;
using VmFuzz.Arch;

namespace VmFuzz.Cpu.Microcode;

/// <summary>Moves and bitwise logic of SSE and SSE2 on XMM registers. The upper halves of YMM registers stay.</summary>
internal static unsafe class VectorMoves
{
    private static readonly ImmutableArray<Code> Aligned =
    [
        Code.Movaps_xmm_xmmm128, Code.Movaps_xmmm128_xmm, Code.Movapd_xmm_xmmm128, Code.Movapd_xmmm128_xmm,
        Code.Movdqa_xmm_xmmm128, Code.Movdqa_xmmm128_xmm, Code.Movntps_m128_xmm, Code.Movntpd_m128_xmm, Code.Movntdq_m128_xmm,
    ];

    private static readonly ImmutableArray<Code> Unaligned =
    [
        Code.Movups_xmm_xmmm128, Code.Movups_xmmm128_xmm, Code.Movupd_xmm_xmmm128, Code.Movupd_xmmm128_xmm,
        Code.Movdqu_xmm_xmmm128, Code.Movdqu_xmmm128_xmm,
    ];

    // What a scalar move leaves in the rest of an XMM register.
    private static readonly ImmutableArray<(Code Form, int Bytes, bool Clears)> Scalar =
    [
        (Code.Movd_xmm_rm32, 4, true), (Code.Movq_xmm_rm64, 8, true), (Code.Movd_rm32_xmm, 4, true), (Code.Movq_rm64_xmm, 8, true),
        (Code.Movq_xmm_xmmm64, 8, true), (Code.Movq_xmmm64_xmm, 8, true),
        (Code.Movss_xmm_xmmm32, 4, false), (Code.Movss_xmmm32_xmm, 4, false), (Code.Movsd_xmm_xmmm64, 8, false), (Code.Movsd_xmmm64_xmm, 8, false),
    ];

    // Halves: quadword of the source and of the destination.
    private static readonly ImmutableArray<(Code Form, int From, int To)> Halves =
    [
        (Code.Movlps_xmm_m64, 0, 0), (Code.Movlpd_xmm_m64, 0, 0), (Code.Movhps_xmm_m64, 0, 1), (Code.Movhpd_xmm_m64, 0, 1),
        (Code.Movlps_m64_xmm, 0, 0), (Code.Movlpd_m64_xmm, 0, 0), (Code.Movhps_m64_xmm, 1, 0), (Code.Movhpd_m64_xmm, 1, 0),
        (Code.Movhlps_xmm_xmm, 1, 0), (Code.Movlhps_xmm_xmm, 0, 1),
    ];

    private static readonly ImmutableArray<(Code Form, Func<UInt128, UInt128, UInt128> Operation)> Logic =
    [
        .. new[] { Code.Andps_xmm_xmmm128, Code.Andpd_xmm_xmmm128, Code.Pand_xmm_xmmm128 }.Select(static c => (c, (Func<UInt128, UInt128, UInt128>)(static (a, b) => a & b))),
        .. new[] { Code.Andnps_xmm_xmmm128, Code.Andnpd_xmm_xmmm128, Code.Pandn_xmm_xmmm128 }.Select(static c => (c, (Func<UInt128, UInt128, UInt128>)(static (a, b) => ~a & b))),
        .. new[] { Code.Orps_xmm_xmmm128, Code.Orpd_xmm_xmmm128, Code.Por_xmm_xmmm128 }.Select(static c => (c, (Func<UInt128, UInt128, UInt128>)(static (a, b) => a | b))),
        .. new[] { Code.Xorps_xmm_xmmm128, Code.Xorpd_xmm_xmmm128, Code.Pxor_xmm_xmmm128 }.Select(static c => (c, (Func<UInt128, UInt128, UInt128>)(static (a, b) => a ^ b))),
    ];

    public static readonly ImmutableArray<InstructionRow> Rows =
    [
        .. Aligned.Select(static form => Row(form, static (Processor cpu, in Instruction ins) => Whole(cpu, ins, aligned: true))),
        .. Unaligned.Select(static form => Row(form, static (Processor cpu, in Instruction ins) => Whole(cpu, ins, aligned: false))),
        .. Scalar.Select(static row => Row(row.Form, (Processor cpu, in Instruction ins) => Part(cpu, ins, row.Bytes, row.Clears))),
        .. Halves.Select(static row => Row(row.Form, (Processor cpu, in Instruction ins) => Half(cpu, ins, row.From, row.To))),
        .. Logic.Select(static row => Row(row.Form, (Processor cpu, in Instruction ins) => Bitwise(cpu, ins, row.Operation))),
    ];

    private static InstructionRow Row(Code form, ExecHandler handler) => new(
        form.Mnemonic(), handler, InstructionTraits.None, form.CpuidFeatures()[0] == CpuidFeature.SSE ? CpuFeatures.Sse : CpuFeatures.Sse2, Form: form);

    private static ExecResult Whole(Processor cpu, in Instruction ins, bool aligned) =>
        FpuControl.SseAvailable(cpu) && Read(cpu, ins, 1, 16, aligned, out UInt128 value) && Write(cpu, ins, 16, aligned, value)
            ? ExecResult.Next
            : ExecResult.Abort;

    private static ExecResult Part(Processor cpu, in Instruction ins, int bytes, bool clears)
    {
        if (!FpuControl.SseAvailable(cpu) || !Read(cpu, ins, 1, bytes, aligned: false, out UInt128 value))
        {
            return ExecResult.Abort;
        }

        // Between registers MOVSS and MOVSD change their part only; loads clear the rest.
        if (!clears && ins.Op0Kind == OpKind.Register && ins.Op1Kind == OpKind.Register)
        {
            ref ulong low = ref cpu.State->Ymm[Index(ins.Op0Register) * 4];
            low = bytes == 8 ? (ulong)value : (low & ~(ulong)uint.MaxValue) | (uint)value;
            return ExecResult.Next;
        }

        return Write(cpu, ins, bytes, aligned: false, value) ? ExecResult.Next : ExecResult.Abort;
    }

    private static ExecResult Half(Processor cpu, in Instruction ins, int from, int to)
    {
        if (!FpuControl.SseAvailable(cpu) || !Read(cpu, ins, 1, ins.Op1Kind == OpKind.Register ? 16 : 8, aligned: false, out UInt128 value))
        {
            return ExecResult.Abort;
        }

        ulong half = (ulong)(value >> (from * 64));
        if (ins.Op0Kind == OpKind.Register)
        {
            cpu.State->Ymm[(Index(ins.Op0Register) * 4) + to] = half;
            return ExecResult.Next;
        }

        return Write(cpu, ins, 8, aligned: false, half) ? ExecResult.Next : ExecResult.Abort;
    }

    private static ExecResult Bitwise(Processor cpu, in Instruction ins, Func<UInt128, UInt128, UInt128> operation)
    {
        if (!FpuControl.SseAvailable(cpu) || !Read(cpu, ins, 1, 16, aligned: true, out UInt128 right) || !Read(cpu, ins, 0, 16, aligned: true, out UInt128 left))
        {
            return ExecResult.Abort;
        }

        SetXmm(cpu, ins.Op0Register, operation(left, right));
        return ExecResult.Next;
    }

    private static bool Read(Processor cpu, in Instruction ins, int operand, int bytes, bool aligned, out UInt128 value)
    {
        value = default;
        if (ins.GetOpKind(operand) == OpKind.Register)
        {
            Register register = ins.GetOpRegister(operand);
            if (register.IsGPR())
            {
                bool read = cpu.ReadOperand(ins, operand, out ulong general);
                value = general;
                return read;
            }

            ulong* xmm = cpu.State->Ymm + (Index(register) * 4);
            value = bytes switch
            {
                16 => new UInt128(xmm[1], xmm[0]),
                8 => xmm[0],
                _ => (uint)xmm[0],
            };
            return true;
        }

        Span<byte> image = stackalloc byte[16];
        image.Clear();
        if (!Linear(cpu, ins, bytes, write: false, aligned, out ulong linear)
            || !cpu.ReadBlock(linear, image[..bytes], alignment: CheckedAlignment(bytes)))
        {
            return false;
        }

        value = BinaryPrimitives.ReadUInt128LittleEndian(image);
        return true;
    }

    private static bool Write(Processor cpu, in Instruction ins, int bytes, bool aligned, UInt128 value)
    {
        if (ins.Op0Kind == OpKind.Register)
        {
            if (ins.Op0Register.IsGPR())
            {
                return cpu.WriteOperand(ins, 0, (ulong)value);
            }

            SetXmm(cpu, ins.Op0Register, value);
            return true;
        }

        Span<byte> image = stackalloc byte[16];
        BinaryPrimitives.WriteUInt128LittleEndian(image, value);
        return Linear(cpu, ins, bytes, write: true, aligned, out ulong linear)
            && cpu.WriteBlock(linear, image[..bytes], alignment: CheckedAlignment(bytes));
    }

    // SDM "Exceptions Type 4", "Type 5": #AC is for accesses of at most eight bytes.
    private static int CheckedAlignment(int bytes) => bytes <= 8 ? bytes : 1;

    private static bool Linear(Processor cpu, in Instruction ins, int bytes, bool write, bool aligned, out ulong linear)
    {
        ulong offset = cpu.EffectiveAddress(ins, out SegmentRegister segment);
        return cpu.Linearize(segment, offset, bytes, write, out linear)
            && (!aligned || (linear & 15) == 0 || cpu.RaiseFault(GuestFault.Gp()));
    }

    private static int Index(Register register) => register - Register.XMM0;

    private static void SetXmm(Processor cpu, Register register, UInt128 value)
    {
        ulong* xmm = cpu.State->Ymm + (Index(register) * 4);
        xmm[0] = (ulong)value;
        xmm[1] = (ulong)(value >> 64);
    }
}
