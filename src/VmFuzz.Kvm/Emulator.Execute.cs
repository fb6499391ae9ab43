using System.Numerics;
using Iced.Intel;
using VmFuzz.Arch;
using VmFuzz.Cpu;

namespace VmFuzz.Kvm;

// What the rows of EmulatorTable execute.
internal sealed partial class Emulator
{
    private Step Execute(in Instruction ins) =>
        KnowsOperands(ins) && _vcpu.Vm.Options.Emulator.Find(ins.Mnemonic) is { } execute ? execute(this, ins) : Step.Unknown;

    // Registers are general ones, segments, and vectors for the few moves of those; another processor may have written
    // anything over the instruction since it left the guest.
    private static bool KnowsOperands(in Instruction ins)
    {
        for (int i = 0; i < ins.OpCount; i++)
        {
            if (ins.GetOpKind(i) == OpKind.Register)
            {
                Register register = ins.GetOpRegister(i);
                if (!register.IsGPR() && !register.IsSegmentRegister() && !register.IsXMM())
                {
                    return false;
                }
            }
        }

        return true;
    }

    internal Step Move(in Instruction ins, bool signExtend)
    {
        if (IsSegment(ins, 0))
        {
            return MoveToSegment(ins);
        }

        int size = SizeOf(ins, 0);
        int from = ins.Op1Kind is OpKind.Register ? ins.Op1Register.GetSize() : ins.Op1Kind == OpKind.Memory ? ins.MemorySize.GetSize() : size;
        Step step = Read(ins, 1, from, out ulong value);
        if (step != Step.Done)
        {
            return step;
        }

        return Write(ins, 0, size, signExtend ? (ulong)Extend(value, from) : value);
    }

    internal Step TwoOperands(in Instruction ins)
    {
        bool writes = ins.Mnemonic is not (Mnemonic.Cmp or Mnemonic.Test);
        int size = SizeOf(ins, 0);
        Step step = Read(ins, 0, size, out ulong left, writes);
        if (step != Step.Done)
        {
            return step;
        }

        step = Read(ins, 1, size, out ulong right);
        if (step != Step.Done)
        {
            return step;
        }

        ulong carry = _flags & RFlags.Cf;
        ulong result;
        switch (ins.Mnemonic)
        {
            case Mnemonic.Add:
                result = Add(left, right, 0, size);
                break;
            case Mnemonic.Adc:
                result = Add(left, right, carry, size);
                break;
            case Mnemonic.Sub or Mnemonic.Cmp:
                result = Subtract(left, right, 0, size);
                break;
            case Mnemonic.Sbb:
                result = Subtract(left, right, carry, size);
                break;
            case Mnemonic.And or Mnemonic.Test:
                result = Logic(left & right, size);
                break;
            case Mnemonic.Or:
                result = Logic(left | right, size);
                break;
            default:
                result = Logic(left ^ right, size);
                break;
        }

        return writes ? Write(ins, 0, size, result) : Step.Done;
    }

    internal Step OneOperand(in Instruction ins)
    {
        int size = SizeOf(ins, 0);
        Step step = Read(ins, 0, size, out ulong value, willWrite: true);
        if (step != Step.Done)
        {
            return step;
        }

        ulong carry = _flags & RFlags.Cf;
        ulong result;
        switch (ins.Mnemonic)
        {
            case Mnemonic.Inc:
                result = Add(value, 1, 0, size);
                _flags = (_flags & ~RFlags.Cf) | carry;
                break;
            case Mnemonic.Dec:
                result = Subtract(value, 1, 0, size);
                _flags = (_flags & ~RFlags.Cf) | carry;
                break;
            case Mnemonic.Neg:
                result = Subtract(0, value, 0, size);
                break;
            default:
                result = ~value & Mask(size);
                break;
        }

        return Write(ins, 0, size, result);
    }

    internal Step Exchange(in Instruction ins)
    {
        int size = SizeOf(ins, 0);
        int first = ins.Op0Kind == OpKind.Memory || ins.Mnemonic == Mnemonic.Xadd ? 0 : 1;
        Step step = Read(ins, first, size, out ulong old, willWrite: true);
        if (step != Step.Done)
        {
            return step;
        }

        Read(ins, 1 - first, size, out ulong other);
        ulong stored = ins.Mnemonic == Mnemonic.Xadd ? Add(old, other, 0, size) : other;

        if (ins.GetOpKind(first) == OpKind.Memory)
        {
            // Memory first: the register may be part of its address.
            step = Write(ins, first, size, stored);
            return step != Step.Done ? step : Write(ins, 1 - first, size, old);
        }

        // The source first: XADD of a register with itself leaves the sum.
        Write(ins, 1 - first, size, old);
        return Write(ins, first, size, stored);
    }

    internal Step CompareExchange(in Instruction ins)
    {
        int size = SizeOf(ins, 0);
        Step step = Read(ins, 0, size, out ulong old, willWrite: true);
        if (step != Step.Done)
        {
            return step;
        }

        ulong accumulator = _gprs[0] & Mask(size);
        Subtract(accumulator, old, 0, size);
        Read(ins, 1, size, out ulong replacement);

        // The destination first: the accumulator may be part of its address.
        step = Write(ins, 0, size, accumulator == old ? replacement : old);
        if (accumulator != old)
        {
            _gprs[0] = Merge(_gprs[0], old, size);
        }

        return step;
    }

    internal Step BitTest(in Instruction ins)
    {
        // With a register index the bit string reaches beyond the operand; only the immediate form is known for memory.
        if (ins.Op1Kind == OpKind.Register)
        {
            return Step.Unknown;
        }

        int size = SizeOf(ins, 0);
        bool writes = ins.Mnemonic != Mnemonic.Bt;
        Step step = Read(ins, 0, size, out ulong value, writes);
        if (step != Step.Done)
        {
            return step;
        }

        ulong bit = 1UL << (int)(ins.GetImmediate(1) & (ulong)((size * 8) - 1));
        _flags = (value & bit) != 0 ? _flags | RFlags.Cf : _flags & ~RFlags.Cf;
        ulong changed = ins.Mnemonic switch
        {
            Mnemonic.Bts => value | bit,
            Mnemonic.Btr => value & ~bit,
            _ => value ^ bit,
        };
        return writes ? Write(ins, 0, size, changed) : Step.Done;
    }

    internal Step Push(in Instruction ins)
    {
        int size = -ins.StackPointerIncrement;
        Step step = Read(ins, 0, size, out ulong value);
        if (step != Step.Done)
        {
            return step;
        }

        ulong top = (_gprs[(int)Gpr.Rsp] - (ulong)size) & StackMask;
        Span<byte> bytes = stackalloc byte[8];
        StateFields.Put(bytes, value);
        step = WriteStack(top, bytes[..size]);
        SetStack(top);
        return step;
    }

    // SDM "PUSHA/PUSHAD - Push All General-Purpose Registers".
    internal Step PushAll(in Instruction ins)
    {
        int size = -ins.StackPointerIncrement / 8;
        ulong top = _gprs[(int)Gpr.Rsp] & StackMask;
        Span<byte> bytes = stackalloc byte[8];
        for (int i = 0; i < 8; i++)
        {
            top = (top - (ulong)size) & StackMask;
            StateFields.Put(bytes, _gprs[i]);
            Step step = WriteStack(top, bytes[..size]);
            if (step != Step.Done)
            {
                return step;
            }
        }

        SetStack(top);
        return Step.Done;
    }

    internal Step Pop(in Instruction ins)
    {
        int size = ins.StackPointerIncrement;
        bool selector = IsSegment(ins, 0);
        ulong top = _gprs[(int)Gpr.Rsp] & StackMask;
        Span<byte> bytes = stackalloc byte[8];
        bytes.Clear();

        // em_pop_sreg: of a selector two bytes are read, whatever the operand size.
        Step step = ReadStack(top, bytes[..(selector ? 2 : size)]);
        if (step != Step.Done)
        {
            return step;
        }

        SetStack((top + (ulong)size) & StackMask);
        ulong value = StateFields.Take(bytes);
        return selector ? LoadSelector(SegmentOf(ins.Op0Register), value) : Write(ins, 0, size, value);
    }

    private ulong StackMask => _vcpu.Vmx.Code64 ? ulong.MaxValue
        : (_vcpu.Vmx.GetSegment(SegmentRegister.Ss).Attributes & SegmentAttributes.Db) != 0 ? uint.MaxValue : 0xFFFFUL;

    private Step WriteStack(ulong offset, ReadOnlySpan<byte> bytes) =>
        TryStack(offset, bytes.Length, write: true, out ulong linear) ? WriteLinear(linear, bytes) : Step.Fault;

    private Step ReadStack(ulong offset, Span<byte> bytes) =>
        TryStack(offset, bytes.Length, write: false, out ulong linear) ? ReadLinear(linear, bytes) : Step.Fault;

    // SDM "Stack-Segment Fault (#SS)": beyond the limit, or not canonical.
    private bool TryStack(ulong offset, int size, bool write, out ulong linear)
    {
        SegmentState ss = _vcpu.Vmx.GetSegment(SegmentRegister.Ss);
        bool code64 = _vcpu.Vmx.Code64;
        linear = code64 ? offset : (uint)(offset + ss.Base);
        bool inside = code64 ? IsCanonical(linear) && IsCanonical(linear + (ulong)(size - 1)) : Within(ss, offset, size, write);
        _fault = inside ? _fault : GuestFault.Ss();
        return inside;
    }

    private void SetStack(ulong value)
    {
        ulong mask = StackMask;
        _gprs[(int)Gpr.Rsp] = mask == 0xFFFF ? (_gprs[(int)Gpr.Rsp] & ~0xFFFFUL) | value : value;
    }

    // One iteration of a string instruction; a REP that is not over stays at its RIP.
    internal Step StringStep(in Instruction ins)
    {
        bool rep = ins.HasRepPrefix || ins.HasRepnePrefix;
        ulong mask = AddressMaskOf(ins);
        if (rep && (_gprs[(int)Gpr.Rcx] & mask) == 0)
        {
            return Step.Done;
        }

        Step step = StringAccess(ins, mask, out bool ends);
        if (step is not Step.Done || !rep)
        {
            return step;
        }

        return EndIteration(mask, ends);
    }

    private Step EndIteration(ulong mask, bool ends)
    {
        ulong count = (_gprs[(int)Gpr.Rcx] - 1) & mask;
        SetMasked(Gpr.Rcx, count, mask);
        _stays = count != 0 && !ends;
        return Step.Done;
    }

    private Step StringAccess(in Instruction ins, ulong mask, out bool ends)
    {
        ends = false;
        int size;
        Step step;
        switch (ins.Mnemonic)
        {
            case Mnemonic.Insb or Mnemonic.Insw or Mnemonic.Insd:
                return PortToMemory(ins, mask);
            case Mnemonic.Outsb or Mnemonic.Outsw or Mnemonic.Outsd:
                return MemoryToPort(ins, mask);
            case Mnemonic.Movsb or Mnemonic.Movsw or Mnemonic.Movsd or Mnemonic.Movsq:
                size = ins.MemorySize.GetSize();
                step = Read(ins, 1, size, out ulong moved);
                step = step == Step.Done ? Write(ins, 0, size, moved) : step;
                Advance(Gpr.Rsi, size, mask, step);
                Advance(Gpr.Rdi, size, mask, step);
                return step;
            case Mnemonic.Stosb or Mnemonic.Stosw or Mnemonic.Stosd or Mnemonic.Stosq:
                size = ins.MemorySize.GetSize();
                step = Write(ins, 0, size, _gprs[0]);
                Advance(Gpr.Rdi, size, mask, step);
                return step;
            case Mnemonic.Lodsb or Mnemonic.Lodsw or Mnemonic.Lodsd or Mnemonic.Lodsq:
                size = ins.MemorySize.GetSize();
                step = Read(ins, 1, size, out ulong loaded);
                if (step == Step.Done)
                {
                    _gprs[0] = Merge(_gprs[0], loaded, size);
                }

                Advance(Gpr.Rsi, size, mask, step);
                return step;
            case Mnemonic.Scasb or Mnemonic.Scasw or Mnemonic.Scasd or Mnemonic.Scasq:
                size = ins.MemorySize.GetSize();
                step = Read(ins, 1, size, out ulong scanned);
                if (step == Step.Done)
                {
                    Subtract(_gprs[0] & Mask(size), scanned, 0, size);
                }

                Advance(Gpr.Rdi, size, mask, step);
                break;
            default:
                size = ins.MemorySize.GetSize();
                step = Read(ins, 0, size, out ulong first);
                ulong second = 0;
                step = step == Step.Done ? Read(ins, 1, size, out second) : step;
                if (step == Step.Done)
                {
                    Subtract(first, second, 0, size);
                }

                Advance(Gpr.Rsi, size, mask, step);
                Advance(Gpr.Rdi, size, mask, step);
                break;
        }

        bool zero = (_flags & RFlags.Zf) != 0;
        ends = ins.HasRepnePrefix ? zero : !zero;
        return step;
    }

    private Step PortToMemory(in Instruction ins, ulong mask)
    {
        int size = ins.MemorySize.GetSize();
        if (!TryLinear(ins, 0, size, write: true, out ulong linear))
        {
            return Step.Fault;
        }

        // The destination is checked before the port is read: a device must not lose a value to a fault.
        if (!CanAccess(linear, size, AccessKind.Write, AccessMode.Own))
        {
            return Step.Fault;
        }

        if (!_ioDone)
        {
            _waits = Waits.StringIn;
            Present((ushort)_gprs[(int)Gpr.Rdx], size, false, 0);
            return Step.Userspace;
        }

        Step step = WriteLinear(linear, _vcpu.KvmRun.Data[..size]);
        Advance(Gpr.Rdi, size, mask, step);
        return step;
    }

    private Step MemoryToPort(in Instruction ins, ulong mask)
    {
        int size = ins.MemorySize.GetSize();
        Step step = Read(ins, 1, size, out ulong value);
        if (step != Step.Done)
        {
            return step;
        }

        Advance(Gpr.Rsi, size, mask, step);
        if (ins.HasRepPrefix || ins.HasRepnePrefix)
        {
            EndIteration(mask, ends: false);
        }

        _waits = Waits.StringOut;
        Present((ushort)_gprs[(int)Gpr.Rdx], size, true, value);
        return Step.Userspace;
    }

    private void Advance(Gpr register, int size, ulong mask, Step step)
    {
        if (step == Step.Done)
        {
            ulong delta = (_flags & RFlags.Df) != 0 ? (ulong)-size : (ulong)size;
            SetMasked(register, (_gprs[(int)register] + delta) & mask, mask);
        }
    }

    private void SetMasked(Gpr register, ulong value, ulong mask) =>
        _gprs[(int)register] = mask == 0xFFFF ? (_gprs[(int)register] & ~0xFFFFUL) | value : value;

    private static ulong AddressMaskOf(in Instruction ins)
    {
        for (int i = 0; i < ins.OpCount; i++)
        {
            switch (ins.GetOpKind(i))
            {
                case OpKind.MemorySegSI or OpKind.MemoryESDI:
                    return 0xFFFF;
                case OpKind.MemorySegESI or OpKind.MemoryESEDI:
                    return uint.MaxValue;
                case OpKind.MemorySegRSI or OpKind.MemoryESRDI:
                    return ulong.MaxValue;
            }
        }

        return ulong.MaxValue;
    }

    internal unsafe Step VectorMove(in Instruction ins)
    {
        _vcpu.Vmx.LoadGuestFpu();
        int memory = ins.Op0Kind == OpKind.Memory ? 0 : 1;
        Register register = ins.GetOpRegister(1 - memory);
        if (ins.GetOpKind(memory) != OpKind.Memory || register is < Register.XMM0 or > Register.XMM15)
        {
            return Step.Unknown;
        }

        bool write = memory == 0;
        if (!TryLinear(ins, memory, 16, write, out ulong linear))
        {
            return Step.Fault;
        }

        Span<byte> lane = new((byte*)_vcpu.Processor.State->Ymm + ((register - Register.XMM0) * 32), 16);
        if (write)
        {
            return WriteLinear(linear, lane);
        }

        Span<byte> bytes = stackalloc byte[16];
        Step step = ReadLinear(linear, bytes);
        if (step == Step.Done)
        {
            bytes.CopyTo(lane);
        }

        return step;
    }

    private ulong Add(ulong left, ulong right, ulong carry, int size)
    {
        ulong mask = Mask(size);
        ulong result = (left + right + carry) & mask;
        ulong carries = (left & right) | ((left | right) & ~result);
        ulong overflow = (left ^ result) & (right ^ result);
        SetFlags(result, carries, overflow, left ^ right ^ result, size);
        return result;
    }

    internal ulong Subtract(ulong left, ulong right, ulong borrow, int size)
    {
        ulong mask = Mask(size);
        ulong result = (left - right - borrow) & mask;
        ulong borrows = (~left & right) | ((~left | right) & result);
        ulong overflow = (left ^ right) & (left ^ result);
        SetFlags(result, borrows, overflow, left ^ right ^ result, size);
        return result;
    }

    private ulong Logic(ulong result, int size)
    {
        SetFlags(result & Mask(size), 0, 0, 0, size);
        return result & Mask(size);
    }

    private void SetFlags(ulong result, ulong carries, ulong overflow, ulong half, int size)
    {
        int top = (size * 8) - 1;
        ulong flags = _flags & ~RFlags.Arithmetic;
        flags |= (carries >> top) & 1;
        flags |= ((overflow >> top) & 1) << 11;
        flags |= ((result >> top) & 1) << 7;
        flags |= result == 0 ? RFlags.Zf : 0;
        flags |= (half & 0x10) != 0 ? RFlags.Af : 0;
        flags |= (BitOperations.PopCount((byte)result) & 1) == 0 ? RFlags.Pf : 0;
        _flags = flags;
    }

    private static long Extend(ulong value, int size) => size switch
    {
        1 => (sbyte)value,
        2 => (short)value,
        4 => (int)value,
        _ => (long)value,
    };
}
