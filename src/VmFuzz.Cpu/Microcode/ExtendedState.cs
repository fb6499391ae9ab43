using System.Buffers.Binary;
using System.Collections.Immutable;
using Iced.Intel;
using VmFuzz.Arch;

namespace VmFuzz.Cpu.Microcode;

/// <summary>XSAVE, XSAVEOPT and XRSTOR of the standard form, with x87, SSE and AVX state (SDM "Managing State Using the XSAVE Feature Set").</summary>
internal static unsafe class ExtendedState
{
    private const ulong X87 = 1;
    private const ulong Sse = 2;
    private const ulong Avx = 4;
    private const int LegacyBytes = 512;
    private const int HeaderBytes = 64;
    private const int XmmFrom = 160;
    private const int XmmTo = 416;
    private const int HighFrom = LegacyBytes + HeaderBytes;
    private const int HighTo = HighFrom + 256;

    public static readonly ImmutableArray<InstructionRow> Rows =
    [
        new(Mnemonic.Xsave, static (Processor cpu, in Instruction ins) => Save(cpu, ins, wide: false, skipUnused: false), Feature: CpuFeatures.Xsave),
        new(Mnemonic.Xsave64, static (Processor cpu, in Instruction ins) => Save(cpu, ins, wide: true, skipUnused: false), Feature: CpuFeatures.Xsave),
        new(Mnemonic.Xsaveopt, static (Processor cpu, in Instruction ins) => Save(cpu, ins, wide: false, skipUnused: true), Feature: CpuFeatures.Xsave),
        new(Mnemonic.Xsaveopt64, static (Processor cpu, in Instruction ins) => Save(cpu, ins, wide: true, skipUnused: true), Feature: CpuFeatures.Xsave),
        new(Mnemonic.Xrstor, static (Processor cpu, in Instruction ins) => Restore(cpu, ins, wide: false), InstructionTraits.EndsBlock, CpuFeatures.Xsave),
        new(Mnemonic.Xrstor64, static (Processor cpu, in Instruction ins) => Restore(cpu, ins, wide: true), InstructionTraits.EndsBlock, CpuFeatures.Xsave),
    ];

    /// <summary>Bytes of the area for the components of a mask (SDM "XSAVE Area").</summary>
    internal static int AreaBytes(ulong components) => (components & Avx) != 0 ? HighTo : HighFrom;

    // The area, and the components that EDX:EAX and XCR0 ask for.
    private static bool Area(Processor cpu, in Instruction ins, bool write, out ulong linear, out ulong components)
    {
        CpuState* s = cpu.State;
        linear = 0;
        components = s->Xcr0 & (((ulong)(uint)cpu[Gpr.Rdx] << 32) | (uint)cpu[Gpr.Rax]);
        if ((s->Cr4 & Cr4.Osxsave) == 0)
        {
            return cpu.RaiseFault(GuestFault.Ud);
        }

        if ((s->Cr0 & Cr0.Ts) != 0)
        {
            return cpu.RaiseFault(GuestFault.Nm);
        }

        ulong offset = cpu.EffectiveAddress(ins, out SegmentRegister segment);
        return cpu.Linearize(segment, offset, AreaBytes(components), write, out linear)
            && ((linear & 63) == 0 || cpu.RaiseFault(GuestFault.Gp()));
    }

    private static ExecResult Save(Processor cpu, in Instruction ins, bool wide, bool skipUnused)
    {
        if (!Area(cpu, ins, write: true, out ulong linear, out ulong components)
            || !cpu.ReadLinear(linear + LegacyBytes, 8, out ulong header))
        {
            return ExecResult.Abort;
        }

        // What is not written keeps what is there: the image is read, changed and written back part by part.
        ulong used = InUse(cpu);
        ulong saved = skipUnused ? components & used : components;
        Span<byte> image = stackalloc byte[HighTo];
        image.Clear();
        FpuControl.FillLegacyArea(cpu, image, wide);
        StoreHigh(cpu, image);
        int registers = (cpu.Code64 ? 16 : 8) * 16;
        int xmmEnd = XmmFrom + registers;
        int highEnd = HighFrom + registers;
        bool ok = true;
        if ((saved & X87) != 0)
        {
            ok = Probe(cpu, linear, 0, 24) && Probe(cpu, linear, 32, XmmFrom);
        }

        if ((components & (Sse | Avx)) != 0)
        {
            ok = ok && Probe(cpu, linear, 24, 32);
        }

        if ((saved & Sse) != 0)
        {
            ok = ok && Probe(cpu, linear, XmmFrom, xmmEnd);
        }

        if ((saved & Avx) != 0)
        {
            ok = ok && Probe(cpu, linear, HighFrom, highEnd);
        }

        if (!ok || !Probe(cpu, linear, LegacyBytes, LegacyBytes + 8))
        {
            return ExecResult.Abort;
        }

        if ((saved & X87) != 0)
        {
            cpu.WriteBlock(linear, image[..24]);
            cpu.WriteBlock(linear + 32, image[32..XmmFrom]);
        }

        if ((components & (Sse | Avx)) != 0)
        {
            cpu.WriteBlock(linear + 24, image[24..32]);
        }

        if ((saved & Sse) != 0)
        {
            cpu.WriteBlock(linear + XmmFrom, image[XmmFrom..xmmEnd]);
        }

        if ((saved & Avx) != 0)
        {
            cpu.WriteBlock(linear + HighFrom, image[HighFrom..highEnd]);
        }

        cpu.WriteLinear(linear + LegacyBytes, 8, (header & ~components) | (used & components));
        return ExecResult.Next;
    }

    private static ExecResult Restore(Processor cpu, in Instruction ins, bool wide)
    {
        if (!Area(cpu, ins, write: false, out ulong linear, out ulong components))
        {
            return ExecResult.Abort;
        }

        CpuState* s = cpu.State;
        Span<byte> header = stackalloc byte[24];
        Span<byte> image = stackalloc byte[HighTo];
        image.Clear();
        if (!cpu.ReadBlock(linear + LegacyBytes, header) || !cpu.ReadBlock(linear, image[..XmmTo])
            || ((components & Avx) != 0 && !cpu.ReadBlock(linear + HighFrom, image[HighFrom..])))
        {
            return ExecResult.Abort;
        }

        // Bytes 8 to 23 are zero in the standard form; bit 63 of the first eight asks for the compacted one.
        ulong present = BinaryPrimitives.ReadUInt64LittleEndian(header);
        uint mxcsr = BinaryPrimitives.ReadUInt32LittleEndian(image[24..]);
        if ((present & ~s->Xcr0) != 0
            || header[8..].IndexOfAnyExcept((byte)0) >= 0
            || ((components & (Sse | Avx)) != 0 && (mxcsr & ~FpuControl.MxcsrMask) != 0))
        {
            return cpu.Fault(GuestFault.Gp());
        }

        if ((components & X87) != 0)
        {
            if ((present & X87) == 0)
            {
                image[..24].Clear();
                image[32..XmmFrom].Clear();
            }

            FpuControl.LoadX87(cpu, image, wide);
            if ((present & X87) == 0)
            {
                FpuControl.InitializeX87(cpu);
            }
        }

        if ((components & (Sse | Avx)) != 0)
        {
            s->Mxcsr = mxcsr;
        }

        if ((components & Sse) != 0)
        {
            if ((present & Sse) == 0)
            {
                image[XmmFrom..XmmTo].Clear();
            }

            FpuControl.LoadXmm(cpu, image);
        }

        if ((components & Avx) != 0)
        {
            if ((present & Avx) == 0)
            {
                image[HighFrom..].Clear();
            }

            LoadHigh(cpu, image);
        }

        return ExecResult.Next;
    }

    // The upper halves of YMM registers, all that the mode has.
    private static void StoreHigh(Processor cpu, Span<byte> image)
    {
        for (int i = 0; i < (cpu.Code64 ? 32 : 16); i++)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(image[(HighFrom + (i * 8))..], cpu.State->Ymm[((i / 2) * 4) + 2 + (i % 2)]);
        }
    }

    private static void LoadHigh(Processor cpu, ReadOnlySpan<byte> image)
    {
        for (int i = 0; i < (cpu.Code64 ? 32 : 16); i++)
        {
            cpu.State->Ymm[((i / 2) * 4) + 2 + (i % 2)] = BinaryPrimitives.ReadUInt64LittleEndian(image[(HighFrom + (i * 8))..]);
        }
    }

    private static bool Probe(Processor cpu, ulong linear, int from, int to)
    {
        for (int at = from; at < to; at += 8)
        {
            if (!cpu.ProbeLinear(linear + (ulong)at, 8, AccessKind.Write))
            {
                return false;
            }
        }

        return true;
    }

    // XINUSE: a component is in use when it is not as XRSTOR initialises it. MXCSR does not count (SDM "Processor Tracking
    // of XSAVE-Managed State").
    private static ulong InUse(Processor cpu)
    {
        CpuState* s = cpu.State;
        bool x87 = s->Fcw != 0x37F || (s->Fsw | s->Fop | s->Fip | s->Fdp) != 0 || s->Ftw != 0xFFFF
            || new Span<ulong>(s->X87, 16).IndexOfAnyExcept(0UL) >= 0;
        bool sse = false;
        bool avx = false;
        for (int i = 0; i < 16; i++)
        {
            sse |= (s->Ymm[i * 4] | s->Ymm[(i * 4) + 1]) != 0;
            avx |= (s->Ymm[(i * 4) + 2] | s->Ymm[(i * 4) + 3]) != 0;
        }

        return (x87 ? X87 : 0) | (sse ? Sse : 0) | (avx ? Avx : 0);
    }
}
