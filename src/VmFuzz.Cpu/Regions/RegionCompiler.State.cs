using System.Reflection.Emit;
using Iced.Intel;
using VmFuzz.Cpu.Blocks;
using Label = System.Reflection.Emit.Label;

namespace VmFuzz.Cpu.Regions;

// The state in locals: loaded at the start, written back at the one exit.
internal sealed unsafe partial class RegionCompiler
{
    private readonly LocalBuilder?[] _gpr = new LocalBuilder?[16];
    private readonly bool[] _written = new bool[16];
    private LocalBuilder _budget = null!, _rip = null!, _exitOp = null!, _context = null!;
    private LocalBuilder _kind = null!, _result = null!, _left = null!, _right = null!, _carry = null!;
    private LocalBuilder _first = null!, _second = null!, _value = null!, _more = null!;
    private LocalBuilder _address = null!, _entry = null!, _host = null!, _place = null!;

    private void DeclareLocals()
    {
        LocalBuilder Wide() => _il.DeclareLocal(typeof(long));
        _budget = Wide();
        _rip = Wide();
        _exitOp = Wide();
        _context = Wide();
        _kind = Wide();
        _result = Wide();
        _left = Wide();
        _right = Wide();
        _carry = Wide();
        _first = Wide();
        _second = Wide();
        _value = Wide();
        _more = Wide();
        _address = Wide();
        _entry = Wide();
        _host = Wide();
        _place = _il.DeclareLocal(typeof(int));
    }

    private (LocalBuilder Local, int Offset)[] Always() =>
    [
        (_budget, StateLayout.Budget),
        (_kind, StateLayout.Lazy),
        (_result, StateLayout.LazyResult),
        (_left, StateLayout.LazyLeft),
        (_right, StateLayout.LazyRight),
        (_carry, StateLayout.LazyCarry),
    ];

    private List<int> EmitStart()
    {
        foreach ((LocalBuilder local, int offset) in Always())
        {
            LoadField(offset);
            _il.Emit(OpCodes.Stloc, local);
        }

        LoadField(StateLayout.TlbContext);
        _il.Emit(OpCodes.Stloc, _context);
        for (int i = 0; i < _gpr.Length; i++)
        {
            if (_gpr[i] is { } local)
            {
                LoadField(i * sizeof(ulong));
                _il.Emit(OpCodes.Stloc, local);
            }
        }

        List<int> entries = [.. Enumerable.Range(0, _labels.Length).Where(_flow.IsEntry)];
        _il.Emit(OpCodes.Ldarg_1);
        Constant(StateLayout.Entry);
        _il.Emit(OpCodes.Conv_I);
        _il.Emit(OpCodes.Add);
        _il.Emit(OpCodes.Ldind_I4);
        _il.Emit(OpCodes.Switch, [.. entries.Select(i => _labels[i])]);
        _il.Emit(OpCodes.Br, _labels[entries[0]]);
        return entries;
    }

    private void EmitExit()
    {
        _il.MarkLabel(_exit);
        foreach ((LocalBuilder local, int offset) in Always())
        {
            StoreField(offset, local);
        }

        StoreField(StateLayout.Rip, _rip);
        for (int i = 0; i < _gpr.Length; i++)
        {
            if (_written[i])
            {
                StoreField(i * sizeof(ulong), _gpr[i]!);
            }
        }

        Label nothing = _il.DefineLabel();
        _il.Emit(OpCodes.Ldloc, _exitOp);
        _il.Emit(OpCodes.Brfalse, nothing);
        _il.Emit(OpCodes.Ldarg_0);
        _il.Emit(OpCodes.Ldloc, _exitOp);
        _il.Emit(OpCodes.Conv_I);
        _il.Emit(OpCodes.Ldloc, _exitOp);
        _il.Emit(OpCodes.Conv_I);
        _il.Emit(OpCodes.Ldind_I); // The handler is the first field of an op.
        _il.Emit(OpCodes.Tailcall);
        _il.EmitCalli(OpCodes.Calli, System.Reflection.CallingConventions.Standard, typeof(Op*), [typeof(CpuState*), typeof(Op*)], null);
        _il.Emit(OpCodes.Ret);
        _il.MarkLabel(nothing);
        Constant(0);
        _il.Emit(OpCodes.Conv_I);
        _il.Emit(OpCodes.Ret);
    }

    private void LoadField(int offset)
    {
        FieldAddress(offset);
        _il.Emit(OpCodes.Ldind_I8);
    }

    private void StoreField(int offset, LocalBuilder local)
    {
        FieldAddress(offset);
        _il.Emit(OpCodes.Ldloc, local);
        _il.Emit(OpCodes.Stind_I8);
    }

    private void FieldAddress(int offset)
    {
        _il.Emit(OpCodes.Ldarg_0);
        _il.Emit(OpCodes.Ldc_I4, offset);
        _il.Emit(OpCodes.Conv_I);
        _il.Emit(OpCodes.Add);
    }

    private void Constant(long value) => _il.Emit(OpCodes.Ldc_I8, value);

    private LocalBuilder Gpr(int number) => _gpr[number] ??= _il.DeclareLocal(typeof(long));

    /// <summary>Pushes a general register, zero-extended.</summary>
    private void LoadRegister(Register register)
    {
        int offset = Processor.GprOffset(register);
        _il.Emit(OpCodes.Ldloc, Gpr(offset >> 3));
        if ((offset & 1) != 0)
        {
            _il.Emit(OpCodes.Ldc_I4_8);
            _il.Emit(OpCodes.Shr_Un);
        }

        Cut(Processor.GprSize(register));
    }

    /// <summary>Stores a local into a general register: 32 bits clear the upper half, 8 and 16 leave the rest.</summary>
    private void StoreRegister(Register register, LocalBuilder value)
    {
        int offset = Processor.GprOffset(register);
        int size = Processor.GprSize(register);
        LocalBuilder target = Gpr(offset >> 3);
        _written[offset >> 3] = true;
        if (size < 4)
        {
            int shift = (offset & 1) * 8;
            _il.Emit(OpCodes.Ldloc, target);
            Constant(~((size == 1 ? 0xFFL : 0xFFFFL) << shift));
            _il.Emit(OpCodes.And);
            _il.Emit(OpCodes.Ldloc, value);
            Cut(size);
            if (shift != 0)
            {
                _il.Emit(OpCodes.Ldc_I4_8);
                _il.Emit(OpCodes.Shl);
            }

            _il.Emit(OpCodes.Or);
        }
        else
        {
            _il.Emit(OpCodes.Ldloc, value);
            Cut(size);
        }

        _il.Emit(OpCodes.Stloc, target);
    }

    /// <summary>Cuts what is on top to a width, zero-extended to 64 bits.</summary>
    private void Cut(int size)
    {
        if (size != 8)
        {
            _il.Emit(size switch { 1 => OpCodes.Conv_U1, 2 => OpCodes.Conv_U2, _ => OpCodes.Conv_U4 });
            _il.Emit(OpCodes.Conv_U8);
        }
    }

    /// <summary>Sign-extends what is on top from a width to 64 bits.</summary>
    private void Sign(int size)
    {
        if (size != 8)
        {
            _il.Emit(size switch { 1 => OpCodes.Conv_I1, 2 => OpCodes.Conv_I2, _ => OpCodes.Conv_I4 });
            _il.Emit(OpCodes.Conv_I8);
        }
    }
}
