using System.Reflection;
using System.Reflection.Emit;
using Iced.Intel;
using Label = System.Reflection.Emit.Label;

namespace VmFuzz.Cpu.Regions;

// Products and quotients of 32 and 64 bits; what ends in #DE, or is rare, is left to the op.
internal sealed unsafe partial class RegionCompiler
{
    private LocalBuilder? _low;

    // Its address is taken, so that it is no register: it is used at once.
    private LocalBuilder Low => _low ??= _il.DeclareLocal(typeof(long));

    /// <summary>IMUL of two operands, or two and an immediate.</summary>
    public bool MultiplySigned(in Instruction instruction)
    {
        int size = Processor.OperandSize(instruction, 0);
        if (instruction.OpCount < 2 || size < 4 || !Plain(instruction, 1))
        {
            return false;
        }

        ProbeOperands(instruction, size, write: false);
        int left = instruction.OpCount == 2 ? 0 : 1;
        LoadOperand(instruction, left, size);
        Sign(size);
        _il.Emit(OpCodes.Stloc, _first);
        LoadOperand(instruction, left + 1, size);
        Sign(size);
        _il.Emit(OpCodes.Stloc, _second);
        if (!_needFlags || size == 4)
        {
            _il.Emit(OpCodes.Ldloc, _first);
            _il.Emit(OpCodes.Ldloc, _second);
            _il.Emit(OpCodes.Mul);
            _il.Emit(OpCodes.Stloc, _value);
        }

        if (_needFlags && size == 4)
        {
            // It does not fit when it is not the sign extension of its half.
            _il.Emit(OpCodes.Ldloc, _value);
            Sign(4);
            _il.Emit(OpCodes.Ldloc, _value);
            Differ();
        }
        else if (_needFlags)
        {
            _il.Emit(OpCodes.Ldloc, _first);
            _il.Emit(OpCodes.Ldloc, _second);
            _il.Emit(OpCodes.Ldloca, Low);
            _il.Emit(OpCodes.Call, WideProduct(typeof(long)));
            _il.Emit(OpCodes.Ldloc, Low);
            _il.Emit(OpCodes.Stloc, _value);
            _il.Emit(OpCodes.Ldloc, _value);
            _il.Emit(OpCodes.Ldc_I4, 63);
            _il.Emit(OpCodes.Shr);
            Differ();
        }

        StoreRegister(instruction.Op0Register, _value);
        SetGiven(size);
        return true;
    }

    /// <summary>MUL: rAX by an operand, into rDX:rAX.</summary>
    public bool Multiply(in Instruction instruction)
    {
        int size = Processor.OperandSize(instruction, 0);
        if (size < 4 || !Plain(instruction, 0))
        {
            return false;
        }

        (Register low, Register high) = Accumulators(size);
        ProbeOperands(instruction, size, write: false);
        LoadRegister(low);
        LoadOperand(instruction, 0, size);
        if (size == 4)
        {
            _il.Emit(OpCodes.Mul);
            _il.Emit(OpCodes.Stloc, _value);
            _il.Emit(OpCodes.Ldloc, _value);
            _il.Emit(OpCodes.Ldc_I4, 32);
            _il.Emit(OpCodes.Shr_Un);
        }
        else
        {
            _il.Emit(OpCodes.Ldloca, Low);
            _il.Emit(OpCodes.Call, WideProduct(typeof(ulong)));
        }

        _il.Emit(OpCodes.Stloc, _second);
        if (size == 8)
        {
            _il.Emit(OpCodes.Ldloc, Low);
            _il.Emit(OpCodes.Stloc, _value);
        }

        StoreRegister(low, _value);
        StoreRegister(high, _second);
        if (_needFlags)
        {
            _il.Emit(OpCodes.Ldloc, _second);
            Constant(0);
            Differ();
        }

        SetGiven(size);
        return true;
    }

    /// <summary>DIV of rDX:rAX whose quotient fits; 64-bit only with rDX 0. Flags stay.</summary>
    public bool Divide(in Instruction instruction)
    {
        int size = Processor.OperandSize(instruction, 0);
        if (size < 4 || !Plain(instruction, 0))
        {
            return false;
        }

        (Register low, Register high) = Accumulators(size);
        Label exit = ExitLabel();
        ProbeOperands(instruction, size, write: false);
        LoadOperand(instruction, 0, size);
        _il.Emit(OpCodes.Stloc, _second);
        LoadRegister(high);
        _il.Emit(OpCodes.Ldloc, _second);
        _il.Emit(OpCodes.Bge_Un, exit);
        LoadRegister(high);
        if (size == 8)
        {
            Constant(0);
            _il.Emit(OpCodes.Bne_Un, exit);
            LoadRegister(low);
        }
        else
        {
            _il.Emit(OpCodes.Ldc_I4, 32);
            _il.Emit(OpCodes.Shl);
            LoadRegister(low);
            _il.Emit(OpCodes.Or);
        }

        _il.Emit(OpCodes.Stloc, _first);
        Quotient(OpCodes.Div_Un, low, high);
        return true;
    }

    /// <summary>IDIV of a dividend that rAX holds alone, by neither 0 nor -1. Flags stay.</summary>
    public bool DivideSigned(in Instruction instruction)
    {
        int size = Processor.OperandSize(instruction, 0);
        if (size < 4 || !Plain(instruction, 0))
        {
            return false;
        }

        (Register low, Register high) = Accumulators(size);
        Label exit = ExitLabel();
        ProbeOperands(instruction, size, write: false);
        LoadOperand(instruction, 0, size);
        Sign(size);
        _il.Emit(OpCodes.Stloc, _second);
        LoadRegister(low);
        Sign(size);
        _il.Emit(OpCodes.Stloc, _first);

        // 0 and -1 are those that become at most 1 when 1 is added.
        _il.Emit(OpCodes.Ldloc, _second);
        Constant(1);
        _il.Emit(OpCodes.Add);
        Constant(1);
        _il.Emit(OpCodes.Ble_Un, exit);
        LoadRegister(high);
        Sign(size);
        _il.Emit(OpCodes.Ldloc, _first);
        _il.Emit(OpCodes.Ldc_I4, 63);
        _il.Emit(OpCodes.Shr);
        _il.Emit(OpCodes.Bne_Un, exit);
        Quotient(OpCodes.Div, low, high);
        return true;
    }

    private void Quotient(OpCode divide, Register low, Register high)
    {
        _il.Emit(OpCodes.Ldloc, _first);
        _il.Emit(OpCodes.Ldloc, _second);
        _il.Emit(divide);
        _il.Emit(OpCodes.Stloc, _value);
        _il.Emit(OpCodes.Ldloc, _first);
        _il.Emit(OpCodes.Ldloc, _value);
        _il.Emit(OpCodes.Ldloc, _second);
        _il.Emit(OpCodes.Mul);
        _il.Emit(OpCodes.Sub);
        _il.Emit(OpCodes.Stloc, _more);
        StoreRegister(low, _value);
        StoreRegister(high, _more);
    }

    // CF and OF, bits 0 and 1 of _more, when the two values on top differ.
    private void Differ()
    {
        _il.Emit(OpCodes.Ceq);
        _il.Emit(OpCodes.Conv_U8);
        Constant(1);
        _il.Emit(OpCodes.Sub);
        Constant(3);
        _il.Emit(OpCodes.And);
        _il.Emit(OpCodes.Stloc, _more);
    }

    private static MethodInfo WideProduct(Type type) => typeof(Math).GetMethod(nameof(Math.BigMul), [type, type, type.MakeByRefType()])!;

    private static (Register Low, Register High) Accumulators(int size) =>
        size == 8 ? (Register.RAX, Register.RDX) : (Register.EAX, Register.EDX);
}
