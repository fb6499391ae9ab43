using System.Runtime.Intrinsics;
using Iced.Intel;
using VmFuzz.Arch;

namespace VmFuzz.Cpu.Microcode.Vectors;

/// <summary>Operands of instructions on XMM and MMX registers. A method that returns false has noted a fault.</summary>
internal static unsafe class VectorOperands
{
    private const int XmmBytes = 16;

    /// <summary>Whether vector instructions can execute, by the registers that this one names.</summary>
    public static bool Available(Processor cpu, in Instruction ins)
    {
        bool sse = ins.Op0Register.IsXMM() || ins.Op1Register.IsXMM();
        return (!sse || FpuControl.SseAvailable(cpu)) && (!UsesMmx(ins) || MmxState.Available(cpu));
    }

    /// <summary>The last step of an instruction: one with an MMX register leaves the x87 stack full, its top at R0.</summary>
    public static ExecResult Complete(Processor cpu, in Instruction ins)
    {
        if (UsesMmx(ins))
        {
            MmxState.Enter(cpu);
        }

        return ExecResult.Next;
    }

    /// <summary>Reads a register, an immediate, or memory of the instruction's size; zero-extended.</summary>
    /// <param name="cpu">The processor.</param>
    /// <param name="ins">The instruction.</param>
    /// <param name="operand">Which operand.</param>
    /// <param name="aligned">Whether memory of 16 bytes and more must be aligned.</param>
    /// <param name="value">The value.</param>
    public static bool TryRead(Processor cpu, in Instruction ins, int operand, bool aligned, out Vector128<byte> value)
    {
        value = default;
        switch (ins.GetOpKind(operand))
        {
            case OpKind.Register when IsVector(ins.GetOpRegister(operand)):
                value = Get(cpu, ins.GetOpRegister(operand));
                return true;
            case OpKind.Memory:
                break;
            default:
                bool read = cpu.ReadOperand(ins, operand, out ulong word);
                value = Vector128.CreateScalar(word).AsByte();
                return read;
        }

        Span<byte> image = stackalloc byte[XmmBytes];
        image.Clear();
        if (!TryLoad(cpu, ins, aligned, image))
        {
            return false;
        }

        value = Vector128.Create<byte>(image);
        return true;
    }

    /// <summary>Writes the first operand: a vector register, all of it; a general register; or memory of the instruction's size.</summary>
    public static bool TryWrite(Processor cpu, in Instruction ins, bool aligned, Vector128<byte> value)
    {
        if (ins.Op0Kind == OpKind.Register)
        {
            if (IsVector(ins.Op0Register))
            {
                Set(cpu, ins.Op0Register, value);
                return true;
            }

            return cpu.WriteOperand(ins, 0, value.AsUInt64()[0]);
        }

        Span<byte> image = stackalloc byte[XmmBytes];
        value.CopyTo(image);
        return TryStore(cpu, ins, aligned, image);
    }

    /// <summary>Reads memory of the instruction's size into the low bytes of an image.</summary>
    public static bool TryLoad(Processor cpu, in Instruction ins, bool aligned, Span<byte> image)
    {
        int bytes = ins.MemorySize.GetSize();
        return TryLocate(cpu, ins, bytes, write: false, aligned, out ulong linear) && cpu.ReadBlock(linear, image[..bytes], alignment: CheckedAlignment(bytes));
    }

    /// <summary>Writes the low bytes of an image to memory of the instruction's size.</summary>
    public static bool TryStore(Processor cpu, in Instruction ins, bool aligned, ReadOnlySpan<byte> image)
    {
        int bytes = ins.MemorySize.GetSize();
        return TryLocate(cpu, ins, bytes, write: true, aligned, out ulong linear) && cpu.WriteBlock(linear, image[..bytes], alignment: CheckedAlignment(bytes));
    }

    /// <summary>The value of a vector register; an MMX register is zero-extended.</summary>
    public static Vector128<byte> Get(Processor cpu, Register register) => register.IsMM()
        ? Vector128.CreateScalar(MmxState.Get(cpu, register - Register.MM0)).AsByte()
        : Vector128.Load((byte*)(cpu.State->Ymm + ((register - Register.XMM0) * 4)));

    /// <summary>Sets a vector register, an MMX register to the low half.</summary>
    public static void Set(Processor cpu, Register register, Vector128<byte> value)
    {
        if (register.IsMM())
        {
            MmxState.Set(cpu, register - Register.MM0, value.AsUInt64()[0]);
            return;
        }

        value.Store((byte*)(cpu.State->Ymm + ((register - Register.XMM0) * 4)));
    }

    private static bool UsesMmx(in Instruction ins) => ins.Op0Register.IsMM() || ins.Op1Register.IsMM();

    private static bool IsVector(Register register) => register.IsXMM() || register.IsMM();

    // SDM "Exceptions Type 4", "Type 5": #AC is for accesses of at most eight bytes.
    private static int CheckedAlignment(int bytes) => bytes <= 8 ? bytes : 1;

    private static bool TryLocate(Processor cpu, in Instruction ins, int bytes, bool write, bool aligned, out ulong linear)
    {
        ulong offset = cpu.EffectiveAddress(ins, out SegmentRegister segment);
        return cpu.Linearize(segment, offset, bytes, write, out linear)
            && (!aligned || bytes < XmmBytes || (linear & (ulong)(bytes - 1)) == 0 || cpu.RaiseFault(GuestFault.Gp()));
    }
}
