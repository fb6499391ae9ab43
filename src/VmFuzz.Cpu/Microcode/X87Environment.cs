using System.Buffers.Binary;
using System.Collections.Immutable;
using Iced.Intel;
using VmFuzz.Arch;

namespace VmFuzz.Cpu.Microcode;

/// <summary>
/// FNSTENV, FLDENV, FNSAVE and FRSTOR, in the layouts of protected and of real mode, 16 and 32 bits (SDM "Saving the x87
/// FPU's State with FSTENV/FNSTENV and FSAVE/FNSAVE"). Selectors of the pointers are zero.
/// </summary>
internal static unsafe class X87Environment
{
    private const int Registers = 8;
    private const int SmallBytes = 14;
    private const int LargeBytes = 28;
    private const ushort AllMasked = 0x3F;
    private const uint OpcodeMask = 0x7FF;

    public static readonly ImmutableArray<InstructionRow> Rows =
    [
        new(Mnemonic.Fnstenv, static (Processor cpu, in Instruction ins) => Save(cpu, ins, registers: 0), Feature: CpuFeatures.Fpu),
        new(Mnemonic.Fnsave, static (Processor cpu, in Instruction ins) => Save(cpu, ins, Registers), Feature: CpuFeatures.Fpu),
        new(Mnemonic.Fldenv, static (Processor cpu, in Instruction ins) => Load(cpu, ins, registers: 0), Feature: CpuFeatures.Fpu),
        new(Mnemonic.Frstor, static (Processor cpu, in Instruction ins) => Load(cpu, ins, Registers), Feature: CpuFeatures.Fpu),
    ];

    private static ExecResult Save(Processor cpu, in Instruction ins, int registers)
    {
        if (!FpuControl.Available(cpu))
        {
            return ExecResult.Abort;
        }

        bool large = IsLarge(ins);
        int environment = large ? LargeBytes : SmallBytes;
        Span<byte> image = stackalloc byte[LargeBytes + (Registers * X87Ops.ExtendedBytes)];
        image = image[..(environment + (registers * X87Ops.ExtendedBytes))];
        image.Clear();
        var stack = new X87Stack(cpu.State);
        Write(cpu, image, large);
        for (int i = 0; i < registers; i++)
        {
            X87Ops.ToImage(stack[i], image[(environment + (i * X87Ops.ExtendedBytes))..]);
        }

        if (!X87Ops.Linear(cpu, ins, image.Length, write: true, out ulong linear) || !cpu.WriteBlock(linear, image, alignment: large ? 4 : 2))
        {
            return ExecResult.Abort;
        }

        if (registers == 0)
        {
            FpuControl.SetControl(cpu, cpu.State->Fcw | AllMasked);
        }
        else
        {
            FpuControl.InitializeX87(cpu);
        }

        return ExecResult.Next;
    }

    private static ExecResult Load(Processor cpu, in Instruction ins, int registers)
    {
        bool large = IsLarge(ins);
        int environment = large ? LargeBytes : SmallBytes;
        Span<byte> image = stackalloc byte[LargeBytes + (Registers * X87Ops.ExtendedBytes)];
        image = image[..(environment + (registers * X87Ops.ExtendedBytes))];
        if (!X87Ops.Start(cpu) || !X87Ops.Linear(cpu, ins, image.Length, write: false, out ulong linear) || !cpu.ReadBlock(linear, image, alignment: large ? 4 : 2))
        {
            return ExecResult.Abort;
        }

        Span<uint> words = stackalloc uint[7];
        for (int i = 0; i < words.Length; i++)
        {
            words[i] = large ? BinaryPrimitives.ReadUInt32LittleEndian(image[(i * 4)..]) : BinaryPrimitives.ReadUInt16LittleEndian(image[(i * 2)..]);
        }

        CpuState* s = cpu.State;
        s->Fsw = (ushort)words[1];
        s->Fip = words[3];
        s->Fdp = words[5];
        if (RealLayout(cpu))
        {
            s->Fip = (ushort)words[3] | ((words[4] & ~(OpcodeMask | 0x800)) << 4);
            s->Fdp = (ushort)words[5] | ((words[6] & ~(OpcodeMask | 0x800)) << 4);
            s->Fop = words[4] & OpcodeMask;
        }
        else if (large)
        {
            s->Fop = (words[4] >> 16) & OpcodeMask;
        }

        var stack = new X87Stack(s);
        for (int i = 0; i < registers; i++)
        {
            stack.Write(i, X87Ops.FromImage(image[(environment + (i * X87Ops.ExtendedBytes))..]));
        }

        stack.LoadTags((ushort)words[2]);
        FpuControl.SetControl(cpu, (ushort)words[0]);
        return ExecResult.Next;
    }

    private static void Write(Processor cpu, Span<byte> image, bool large)
    {
        CpuState* s = cpu.State;
        bool real = RealLayout(cpu);
        uint fip = (uint)s->Fip, fdp = (uint)s->Fdp, fop = (uint)s->Fop;

        // Reserved halves are ones; the real-mode layout splits linear addresses.
        Span<uint> words =
        [
            0xFFFF_0000 | (uint)s->Fcw,
            0xFFFF_0000 | (uint)s->Fsw,
            0xFFFF_0000 | (uint)s->Ftw,
            real ? 0xFFFF_0000 | fip : fip,
            real ? (fip >> 16 << 12) | fop : fop << 16,
            real ? 0xFFFF_0000 | fdp : fdp,
            real ? fdp >> 16 << 12 : 0xFFFF_0000,
        ];
        for (int i = 0; i < words.Length; i++)
        {
            if (large)
            {
                BinaryPrimitives.WriteUInt32LittleEndian(image[(i * 4)..], words[i]);
            }
            else
            {
                BinaryPrimitives.WriteUInt16LittleEndian(image[(i * 2)..], (ushort)words[i]);
            }
        }
    }

    private static bool RealLayout(Processor cpu) => !cpu.Protected || cpu.Virtual8086;

    private static bool IsLarge(in Instruction ins) => ins.MemorySize is MemorySize.FpuEnv28 or MemorySize.FpuState108;
}
