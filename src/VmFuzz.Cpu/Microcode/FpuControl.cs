using System.Buffers.Binary;
using System.Collections.Immutable;
using Iced.Intel;
using VmFuzz.Arch;

namespace VmFuzz.Cpu.Microcode;

/// <summary>x87 control, MXCSR, FXSAVE and FXRSTOR.</summary>
internal static unsafe class FpuControl
{
    internal const ulong MxcsrMask = 0xFFFF;

    public static readonly ImmutableArray<InstructionRow> Rows =
    [
        new(Mnemonic.Fninit, Fninit, InstructionTraits.None, CpuFeatures.Fpu),
        new(Mnemonic.Fnclex, Fnclex, InstructionTraits.None, CpuFeatures.Fpu),
        new(Mnemonic.Fnstcw, static (Processor cpu, in Instruction ins) => Store(cpu, ins, cpu.State->Fcw), InstructionTraits.None, CpuFeatures.Fpu),
        new(Mnemonic.Fnstsw, static (Processor cpu, in Instruction ins) => Store(cpu, ins, cpu.State->Fsw), InstructionTraits.None, CpuFeatures.Fpu),
        new(Mnemonic.Fldcw, Fldcw, InstructionTraits.None, CpuFeatures.Fpu),
        new(Mnemonic.Fneni, Nothing, InstructionTraits.None, CpuFeatures.Fpu),
        new(Mnemonic.Fndisi, Nothing, InstructionTraits.None, CpuFeatures.Fpu),
        new(Mnemonic.Fnsetpm, Nothing, InstructionTraits.None, CpuFeatures.Fpu),
        new(Mnemonic.Wait, Wait),
        new(Mnemonic.Ldmxcsr, Ldmxcsr, InstructionTraits.EndsBlock, CpuFeatures.Sse),
        new(Mnemonic.Stmxcsr, Stmxcsr, InstructionTraits.None, CpuFeatures.Sse),
        new(Mnemonic.Vldmxcsr, static (Processor cpu, in Instruction ins) => Vectors.VexOperands.Available(cpu) ? LoadMxcsr(cpu, ins) : ExecResult.Abort, InstructionTraits.EndsBlock, CpuFeatures.Avx),
        new(Mnemonic.Vstmxcsr, static (Processor cpu, in Instruction ins) => Vectors.VexOperands.Available(cpu) ? StoreMxcsr(cpu, ins) : ExecResult.Abort, InstructionTraits.None, CpuFeatures.Avx),
        new(Mnemonic.Fxsave, Fxsave, InstructionTraits.None, CpuFeatures.Fxsr),
        new(Mnemonic.Fxsave64, Fxsave, InstructionTraits.None, CpuFeatures.Fxsr),
        new(Mnemonic.Fxrstor, Fxrstor, InstructionTraits.EndsBlock, CpuFeatures.Fxsr),
        new(Mnemonic.Fxrstor64, Fxrstor, InstructionTraits.EndsBlock, CpuFeatures.Fxsr),
    ];

    // SDM "Device Not Available Exception": EM or TS.
    private static bool Available(Processor cpu) =>
        (cpu.State->Cr0 & (Cr0.Em | Cr0.Ts)) == 0 || cpu.RaiseFault(GuestFault.Nm);

    // For SSE: EM or OSFXSR clear is #UD, then TS is #NM.
    internal static bool SseAvailable(Processor cpu)
    {
        if ((cpu.State->Cr0 & Cr0.Em) != 0 || (cpu.State->Cr4 & Cr4.Osfxsr) == 0)
        {
            return cpu.RaiseFault(GuestFault.Ud);
        }

        return (cpu.State->Cr0 & Cr0.Ts) == 0 || cpu.RaiseFault(GuestFault.Nm);
    }

    /// <summary>#MF when an unmasked x87 exception is pending. Without CR0.NE nothing happens: FERR# is not modelled.</summary>
    internal static bool NoPendingError(Processor cpu) =>
        (cpu.State->Fsw & 0x80) == 0 || (cpu.State->Cr0 & Cr0.Ne) == 0 || cpu.RaiseFault(new GuestFault(Vector.Mf));

    // ES and B follow the unmasked exception flags.
    private static void UpdateSummary(Processor cpu)
    {
        CpuState* s = cpu.State;
        bool pending = (s->Fsw & ~s->Fcw & 0x3F) != 0;
        s->Fsw = pending ? s->Fsw | 0x8080 : s->Fsw & ~0x8080UL;
    }

    private static ExecResult Nothing(Processor cpu, in Instruction ins) => Available(cpu) ? ExecResult.Next : ExecResult.Abort;

    private static ExecResult Fninit(Processor cpu, in Instruction ins)
    {
        if (!Available(cpu))
        {
            return ExecResult.Abort;
        }

        InitializeX87(cpu);
        return ExecResult.Next;
    }

    /// <summary>SDM "FINIT/FNINIT": control, status, tags and pointers; the registers stay.</summary>
    internal static void InitializeX87(Processor cpu)
    {
        CpuState* s = cpu.State;
        s->Fcw = 0x37F;
        s->Fsw = 0;
        s->Ftw = 0xFFFF;
        s->Fop = 0;
        s->Fip = 0;
        s->Fdp = 0;
    }

    private static ExecResult Fnclex(Processor cpu, in Instruction ins)
    {
        if (!Available(cpu))
        {
            return ExecResult.Abort;
        }

        cpu.State->Fsw &= ~0x80FFUL;
        return ExecResult.Next;
    }

    private static ExecResult Store(Processor cpu, in Instruction ins, ulong value) =>
        Available(cpu) && cpu.WriteOperand(ins, 0, value) ? ExecResult.Next : ExecResult.Abort;

    private static ExecResult Fldcw(Processor cpu, in Instruction ins)
    {
        if (!Available(cpu) || !NoPendingError(cpu) || !cpu.ReadOperand(ins, 0, out ulong value))
        {
            return ExecResult.Abort;
        }

        cpu.State->Fcw = (value & 0x1F3F) | 0x40;
        UpdateSummary(cpu);
        return ExecResult.Next;
    }

    private static ExecResult Wait(Processor cpu, in Instruction ins)
    {
        if ((cpu.State->Cr0 & (Cr0.Mp | Cr0.Ts)) == (Cr0.Mp | Cr0.Ts))
        {
            return cpu.Fault(GuestFault.Nm);
        }

        return NoPendingError(cpu) ? ExecResult.Next : ExecResult.Abort;
    }

    private static ExecResult Ldmxcsr(Processor cpu, in Instruction ins) => SseAvailable(cpu) ? LoadMxcsr(cpu, ins) : ExecResult.Abort;

    private static ExecResult LoadMxcsr(Processor cpu, in Instruction ins)
    {
        if (!cpu.ReadOperand(ins, 0, out ulong value))
        {
            return ExecResult.Abort;
        }

        if ((value & ~MxcsrMask) != 0)
        {
            return cpu.Fault(GuestFault.Gp());
        }

        cpu.State->Mxcsr = value;
        return ExecResult.Next;
    }

    private static ExecResult Stmxcsr(Processor cpu, in Instruction ins) => SseAvailable(cpu) ? StoreMxcsr(cpu, ins) : ExecResult.Abort;

    private static ExecResult StoreMxcsr(Processor cpu, in Instruction ins) =>
        cpu.WriteOperand(ins, 0, cpu.State->Mxcsr) ? ExecResult.Next : ExecResult.Abort;

    private static bool Area(Processor cpu, in Instruction ins, bool write, out ulong linear)
    {
        linear = 0;
        if (!Available(cpu))
        {
            return false;
        }

        ulong offset = cpu.EffectiveAddress(ins, out SegmentRegister segment);
        return cpu.Linearize(segment, offset, 512, write, out linear)
            && ((linear & 15) == 0 || cpu.RaiseFault(GuestFault.Gp()));
    }

    private static ExecResult Fxsave(Processor cpu, in Instruction ins)
    {
        if (!Area(cpu, ins, write: true, out ulong linear))
        {
            return ExecResult.Abort;
        }

        // Bytes 464 to 511 belong to software and stay as they are.
        Span<byte> image = stackalloc byte[416];
        image.Clear();
        FillLegacyArea(cpu, image, ins.Mnemonic == Mnemonic.Fxsave64);
        return cpu.WriteBlock(linear, image) ? ExecResult.Next : ExecResult.Abort;
    }

    /// <summary>The first 416 bytes of an FXSAVE image (SDM "Layout of FXSAVE and FXRSTOR Memory Region").</summary>
    internal static void FillLegacyArea(Processor cpu, Span<byte> image, bool wide)
    {
        StoreX87(cpu, image, wide);
        StoreMxcsr(cpu, image);
        StoreXmm(cpu, image);
    }

    /// <summary>Stores the x87 part of an FXSAVE image: bytes 0 to 23 and 32 to 159.</summary>
    internal static void StoreX87(Processor cpu, Span<byte> image, bool wide)
    {
        CpuState* s = cpu.State;
        BinaryPrimitives.WriteUInt16LittleEndian(image, (ushort)s->Fcw);
        BinaryPrimitives.WriteUInt16LittleEndian(image[2..], (ushort)s->Fsw);
        image[4] = AbridgedTag(s->Ftw);
        BinaryPrimitives.WriteUInt16LittleEndian(image[6..], (ushort)s->Fop);
        BinaryPrimitives.WriteUInt64LittleEndian(image[8..], wide ? s->Fip : (uint)s->Fip);
        BinaryPrimitives.WriteUInt64LittleEndian(image[16..], wide ? s->Fdp : (uint)s->Fdp);
        int top = (int)(s->Fsw >> 11) & 7;
        for (int i = 0; i < 8; i++)
        {
            int register = (top + i) & 7;
            BinaryPrimitives.WriteUInt64LittleEndian(image[(32 + (i * 16))..], s->X87[register * 2]);
            BinaryPrimitives.WriteUInt16LittleEndian(image[(40 + (i * 16))..], (ushort)s->X87[(register * 2) + 1]);
        }
    }

    /// <summary>Stores MXCSR and its mask: bytes 24 to 31 of an FXSAVE image.</summary>
    internal static void StoreMxcsr(Processor cpu, Span<byte> image)
    {
        BinaryPrimitives.WriteUInt32LittleEndian(image[24..], (uint)cpu.State->Mxcsr);
        BinaryPrimitives.WriteUInt32LittleEndian(image[28..], (uint)MxcsrMask);
    }

    /// <summary>Stores XMM registers, all that the mode has: bytes 160 to 415 of an FXSAVE image.</summary>
    internal static void StoreXmm(Processor cpu, Span<byte> image)
    {
        CpuState* s = cpu.State;
        int count = cpu.Code64 ? 16 : 8;
        for (int i = 0; i < count; i++)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(image[(160 + (i * 16))..], s->Ymm[i * 4]);
            BinaryPrimitives.WriteUInt64LittleEndian(image[(168 + (i * 16))..], s->Ymm[(i * 4) + 1]);
        }
    }

    private static ExecResult Fxrstor(Processor cpu, in Instruction ins)
    {
        if (!Area(cpu, ins, write: false, out ulong linear))
        {
            return ExecResult.Abort;
        }

        Span<byte> image = stackalloc byte[416];
        if (!cpu.ReadBlock(linear, image))
        {
            return ExecResult.Abort;
        }

        uint mxcsr = BinaryPrimitives.ReadUInt32LittleEndian(image[24..]);
        if ((mxcsr & ~MxcsrMask) != 0)
        {
            return cpu.Fault(GuestFault.Gp());
        }

        CpuState* s = cpu.State;
        s->Mxcsr = mxcsr;
        LoadX87(cpu, image, ins.Mnemonic == Mnemonic.Fxrstor64);
        LoadXmm(cpu, image);
        return ExecResult.Next;
    }

    /// <summary>Loads the XMM part of an FXSAVE image.</summary>
    internal static void LoadXmm(Processor cpu, ReadOnlySpan<byte> image)
    {
        CpuState* s = cpu.State;
        int count = cpu.Code64 ? 16 : 8;
        for (int i = 0; i < count; i++)
        {
            s->Ymm[i * 4] = BinaryPrimitives.ReadUInt64LittleEndian(image[(160 + (i * 16))..]);
            s->Ymm[(i * 4) + 1] = BinaryPrimitives.ReadUInt64LittleEndian(image[(168 + (i * 16))..]);
        }
    }

    /// <summary>Loads the x87 part of an FXSAVE image.</summary>
    internal static void LoadX87(Processor cpu, ReadOnlySpan<byte> image, bool wide)
    {
        CpuState* s = cpu.State;
        s->Fcw = (BinaryPrimitives.ReadUInt16LittleEndian(image) & 0x1F3FUL) | 0x40;
        s->Fsw = BinaryPrimitives.ReadUInt16LittleEndian(image[2..]);
        s->Fop = BinaryPrimitives.ReadUInt16LittleEndian(image[6..]) & 0x7FFUL;
        ulong fip = BinaryPrimitives.ReadUInt64LittleEndian(image[8..]);
        ulong fdp = BinaryPrimitives.ReadUInt64LittleEndian(image[16..]);
        s->Fip = wide ? fip : (uint)fip;
        s->Fdp = wide ? fdp : (uint)fdp;
        int top = (int)(s->Fsw >> 11) & 7;
        ulong tags = 0;
        for (int i = 0; i < 8; i++)
        {
            int register = (top + i) & 7;
            ulong low = BinaryPrimitives.ReadUInt64LittleEndian(image[(32 + (i * 16))..]);
            ulong high = BinaryPrimitives.ReadUInt16LittleEndian(image[(40 + (i * 16))..]);
            s->X87[register * 2] = low;
            s->X87[(register * 2) + 1] = high;
            bool full = (image[4] & (1 << register)) != 0;
            tags |= (full ? TagOf(low, high) : 3UL) << (register * 2);
        }

        s->Ftw = tags;
        UpdateSummary(cpu);
    }

    private static byte AbridgedTag(ulong tags)
    {
        int abridged = 0;
        for (int i = 0; i < 8; i++)
        {
            abridged |= ((tags >> (i * 2)) & 3) != 3 ? 1 << i : 0;
        }

        return (byte)abridged;
    }

    // SDM "x87 FPU Tag Word": 0 valid, 1 zero, 2 special.
    private static ulong TagOf(ulong significand, ulong signExponent) => (signExponent & 0x7FFF) switch
    {
        0x7FFF => 2,
        0 => significand == 0 ? 1UL : 2,
        _ => significand >> 63 != 0 ? 0UL : 2,
    };
}
