using System.Reflection.Emit;
using Label = System.Reflection.Emit.Label;

namespace VmFuzz.Cpu.Regions;

// The lazy flags in locals. Their kind is known at compile time behind an instruction that sets them.
internal sealed unsafe partial class RegionCompiler
{
    private bool FlagsAreKnown => _known is not (KnownFlags.Unknown or KnownFlags.Unreached);

    // Parity is left to the ops.
    private bool CanTell(int code) => FlagsAreKnown && code >> 1 != 5;

    /// <summary>Keeps flags of <c>_first</c>, <c>_second</c> and <c>_value</c>: both operands and the result.</summary>
    private void SetFlags(KnownFlags known, int size)
    {
        if (!_needFlags)
        {
            return;
        }

        SetKind(known);
        _il.Emit(OpCodes.Ldloc, _value);
        Sign(size);
        _il.Emit(OpCodes.Stloc, _result);
        if (known == KnownFlags.Logic)
        {
            SetNoOperands();
            return;
        }

        _il.Emit(OpCodes.Ldloc, _first);
        Sign(size);
        _il.Emit(OpCodes.Stloc, _left);
        _il.Emit(OpCodes.Ldloc, _second);
        Sign(size);
        _il.Emit(OpCodes.Stloc, _right);
    }

    /// <summary>Keeps flags of a result and of CF and OF in <c>_more</c>, bits 0 and 1.</summary>
    private void SetGiven(int size)
    {
        if (!_needFlags)
        {
            return;
        }

        SetKind(KnownFlags.Given);
        _il.Emit(OpCodes.Ldloc, _value);
        Sign(size);
        _il.Emit(OpCodes.Stloc, _result);
        SetNoOperands();
        _il.Emit(OpCodes.Ldloc, _more);
        _il.Emit(OpCodes.Stloc, _carry);
    }

    private void SetNoOperands()
    {
        _il.Emit(OpCodes.Ldloc, _result);
        _il.Emit(OpCodes.Stloc, _left);
        Constant(0);
        _il.Emit(OpCodes.Stloc, _right);
    }

    private void SetKind(KnownFlags known)
    {
        _known = known;
        Constant((long)known.Lazy());
        _il.Emit(OpCodes.Stloc, _kind);
    }

    /// <summary>Stores CF, 0 or 1, into a local; flags that stand in RFLAGS leave the instruction to its op.</summary>
    private void CarryInto(LocalBuilder target)
    {
        if (FlagsAreKnown)
        {
            PushCarry(_known);
            _il.Emit(OpCodes.Stloc, target);
            return;
        }

        Label done = _il.DefineLabel();
        Label exit = ExitLabel();
        _il.Emit(OpCodes.Ldloc, _kind);
        Constant((long)LazyKind.Inc);
        _il.Emit(OpCodes.Blt, Defer(() =>
        {
            Label sub = _il.DefineLabel();
            _il.Emit(OpCodes.Ldloc, _kind);
            Constant((long)LazyKind.Explicit);
            _il.Emit(OpCodes.Beq, exit);
            _il.Emit(OpCodes.Ldloc, _kind);
            Constant((long)LazyKind.Sub);
            _il.Emit(OpCodes.Beq, sub);
            PushCarry(KnownFlags.Add);
            _il.Emit(OpCodes.Stloc, target);
            _il.Emit(OpCodes.Br, done);
            _il.MarkLabel(sub);
            PushCarry(KnownFlags.Borrow);
            _il.Emit(OpCodes.Stloc, target);
            _il.Emit(OpCodes.Br, done);
        }));
        PushCarry(KnownFlags.Given);
        _il.Emit(OpCodes.Stloc, target);
        _il.MarkLabel(done);
    }

    /// <summary>Pushes whether a condition code holds, 0 or 1 as a 32-bit number.</summary>
    /// <param name="code">0 to 15: O, NO, B, AE, E, NE, BE, A, S, NS, P, NP, L, GE, LE, G.</param>
    /// <returns>False, and nothing is pushed: the flags are not known well enough.</returns>
    private bool TryCondition(int code)
    {
        if (!CanTell(code))
        {
            return false;
        }

        switch (code >> 1)
        {
            case 0:
                PushOverflow(_known);
                break;
            case 1:
                PushCarry(_known);
                break;
            case 2:
                PushZero();
                break;
            case 3 when _known == KnownFlags.Compare:
                PushCompared(OpCodes.Cgt_Un);
                Not();
                break;
            case 3:
                PushCarry(_known);
                PushZero();
                _il.Emit(OpCodes.Or);
                break;
            case 4:
                PushSign();
                break;
            case 6:
                PushLess();
                break;
            case 7 when _known == KnownFlags.Compare:
                PushCompared(OpCodes.Cgt);
                Not();
                break;
            default:
                PushLess();
                PushZero();
                _il.Emit(OpCodes.Or);
                break;
        }

        _il.Emit(OpCodes.Conv_I4);
        if ((code & 1) != 0)
        {
            _il.Emit(OpCodes.Ldc_I4_0);
            _il.Emit(OpCodes.Ceq);
        }

        return true;
    }

    private void PushLess()
    {
        switch (_known)
        {
            case KnownFlags.Compare:
                PushCompared(OpCodes.Clt);
                break;
            case KnownFlags.Logic:
                PushSign();
                break;
            default:
                PushSign();
                PushOverflow(_known);
                _il.Emit(OpCodes.Xor);
                break;
        }
    }

    private void PushCompared(OpCode compare)
    {
        _il.Emit(OpCodes.Ldloc, _left);
        _il.Emit(OpCodes.Ldloc, _right);
        _il.Emit(compare);
        _il.Emit(OpCodes.Conv_U8);
    }

    private void PushZero()
    {
        if (_known == KnownFlags.Compare)
        {
            PushCompared(OpCodes.Ceq);
            return;
        }

        _il.Emit(OpCodes.Ldloc, _result);
        Constant(0);
        _il.Emit(OpCodes.Ceq);
        _il.Emit(OpCodes.Conv_U8);
    }

    private void PushSign()
    {
        _il.Emit(OpCodes.Ldloc, _result);
        Constant(0);
        _il.Emit(OpCodes.Clt);
        _il.Emit(OpCodes.Conv_U8);
    }

    private void Not()
    {
        Constant(1);
        _il.Emit(OpCodes.Xor);
    }

    // As LazyFlags.Carry; 64 bits wide, 0 or 1.
    private void PushCarry(KnownFlags known)
    {
        switch (known)
        {
            case KnownFlags.Compare:
                PushCompared(OpCodes.Clt_Un);
                break;
            case KnownFlags.Logic:
                Constant(0);
                break;
            case KnownFlags.Add:
                // (a & b) | ((a | b) & ~r)
                Two(OpCodes.And);
                Two(OpCodes.Or);
                _il.Emit(OpCodes.Ldloc, _result);
                _il.Emit(OpCodes.Not);
                _il.Emit(OpCodes.And);
                TopBitOfOr();
                break;
            case KnownFlags.Borrow:
                // (~a & b) | ((~a | b) & r)
                Borrow(OpCodes.And);
                Borrow(OpCodes.Or);
                _il.Emit(OpCodes.Ldloc, _result);
                _il.Emit(OpCodes.And);
                TopBitOfOr();
                break;
            default:
                _il.Emit(OpCodes.Ldloc, _carry);
                Constant(1);
                _il.Emit(OpCodes.And);
                break;
        }
    }

    // As LazyFlags.Overflow; 64 bits wide, 0 or 1.
    private void PushOverflow(KnownFlags known)
    {
        switch (known)
        {
            case KnownFlags.Logic:
                Constant(0);
                break;
            case KnownFlags.Given:
                _il.Emit(OpCodes.Ldloc, _carry);
                _il.Emit(OpCodes.Ldc_I4_1);
                _il.Emit(OpCodes.Shr_Un);
                Constant(1);
                _il.Emit(OpCodes.And);
                break;
            case KnownFlags.Add or KnownFlags.Inc:
                // (a ^ r) & (b ^ r)
                Signs(_left, _result);
                Signs(_right, _result);
                _il.Emit(OpCodes.And);
                TopBit();
                break;
            default:
                // (a ^ b) & (a ^ r)
                Signs(_left, _right);
                Signs(_left, _result);
                _il.Emit(OpCodes.And);
                TopBit();
                break;
        }
    }

    private void Two(OpCode join)
    {
        _il.Emit(OpCodes.Ldloc, _left);
        _il.Emit(OpCodes.Ldloc, _right);
        _il.Emit(join);
    }

    private void Borrow(OpCode join)
    {
        _il.Emit(OpCodes.Ldloc, _left);
        _il.Emit(OpCodes.Not);
        _il.Emit(OpCodes.Ldloc, _right);
        _il.Emit(join);
    }

    private void Signs(LocalBuilder one, LocalBuilder other)
    {
        _il.Emit(OpCodes.Ldloc, one);
        _il.Emit(OpCodes.Ldloc, other);
        _il.Emit(OpCodes.Xor);
    }

    private void TopBitOfOr()
    {
        _il.Emit(OpCodes.Or);
        TopBit();
    }

    private void TopBit()
    {
        _il.Emit(OpCodes.Ldc_I4, 63);
        _il.Emit(OpCodes.Shr_Un);
    }
}
