using System.Runtime.Intrinsics;
using Iced.Intel;
using VmFuzz.Arch;

namespace VmFuzz.Cpu.Microcode.Vectors;

/// <summary>Operands of instructions with a VEX prefix on XMM and YMM registers. A method that returns false has noted a fault.</summary>
internal static unsafe class VexOperands
{
    // XCR0: state of XMM registers and of the upper halves of YMM registers.
    private const ulong States = 6;

    /// <summary>SDM "VEX-encoded instructions": #UD by mode, CR4.OSXSAVE and XCR0, then #NM.</summary>
    public static bool Available(Processor cpu)
    {
        if (!Ops.VexAllowed(cpu) || (cpu.State->Cr4 & Cr4.Osxsave) == 0 || (cpu.State->Xcr0 & States) != States)
        {
            return cpu.RaiseFault(GuestFault.Ud);
        }

        return (cpu.State->Cr0 & Cr0.Ts) == 0 || cpu.RaiseFault(GuestFault.Nm);
    }

    /// <summary>Reads a register, an immediate, or memory of the instruction's size; zero-extended.</summary>
    public static bool TryRead(Processor cpu, in Instruction ins, int operand, bool aligned, out Vector256<byte> value)
    {
        value = default;
        switch (ins.GetOpKind(operand))
        {
            case OpKind.Register when ins.GetOpRegister(operand).IsVectorRegister():
                value = Get(cpu, ins.GetOpRegister(operand));
                return true;
            case OpKind.Memory:
                Span<byte> image = stackalloc byte[Vector256<byte>.Count];
                image.Clear();
                bool loaded = VectorOperands.TryLoad(cpu, ins, aligned, image);
                value = Vector256.Create<byte>(image);
                return loaded;
            default:
                bool read = cpu.ReadOperand(ins, operand, out ulong word);
                value = Vector256.CreateScalar(word).AsByte();
                return read;
        }
    }

    /// <summary>Writes the first operand: a vector register with zeros above it, a general register, or memory.</summary>
    public static bool TryWrite(Processor cpu, in Instruction ins, bool aligned, Vector256<byte> value)
    {
        if (ins.Op0Kind != OpKind.Register)
        {
            Span<byte> image = stackalloc byte[Vector256<byte>.Count];
            value.CopyTo(image);
            return VectorOperands.TryStore(cpu, ins, aligned, image);
        }

        if (!ins.Op0Register.IsVectorRegister())
        {
            return cpu.WriteOperand(ins, 0, value.AsUInt64()[0]);
        }

        Set(cpu, ins.Op0Register, value);
        return true;
    }

    /// <summary>The value of a register; an XMM register is zero-extended.</summary>
    public static Vector256<byte> Get(Processor cpu, Register register)
    {
        ulong* at = cpu.State->Ymm + (Number(register) * 4);
        return register.IsYMM() ? Vector256.Load((byte*)at) : Vector128.Load((byte*)at).ToVector256();
    }

    /// <summary>Sets a register; above an XMM register are zeros then.</summary>
    public static void Set(Processor cpu, Register register, Vector256<byte> value) =>
        (register.IsYMM() ? value : value.GetLower().ToVector256()).Store((byte*)(cpu.State->Ymm + (Number(register) * 4)));

    private static int Number(Register register) => register.IsYMM() ? register - Register.YMM0 : register - Register.XMM0;
}
