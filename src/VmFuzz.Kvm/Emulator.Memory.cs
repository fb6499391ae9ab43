using Iced.Intel;
using VmFuzz.Arch;
using VmFuzz.Cpu;

namespace VmFuzz.Kvm;

// Operands of the emulator.
internal sealed partial class Emulator
{
    // The linear address of a memory operand, with the limit check of its segment.
    private bool TryLinear(in Instruction ins, int operand, int size, bool write, out ulong linear)
    {
        SegmentRegister segment = SegmentOf(ins, operand);
        SegmentState s = _vcpu.Vmx.GetSegment(segment);
        bool code64 = _vcpu.Vmx.Code64;
        ulong offset = OffsetOf(ins, operand);
        if (code64)
        {
            linear = segment is SegmentRegister.Fs or SegmentRegister.Gs ? offset + s.Base : offset;
            if (IsCanonical(linear) && IsCanonical(linear + (ulong)(size - 1)))
            {
                return true;
            }
        }
        else
        {
            linear = (uint)(offset + s.Base);
            if (Within(s, offset, size, write))
            {
                return true;
            }
        }

        _fault = segment == SegmentRegister.Ss ? GuestFault.Ss() : GuestFault.Gp();
        return false;
    }

    private bool IsCanonical(ulong linear)
    {
        int shift = (_vcpu.Vmx.Cr4 & Cr4.La57) != 0 ? 7 : 16;
        return (ulong)((long)(linear << shift) >> shift) == linear;
    }

    private bool Within(in SegmentState s, ulong offset, int size, bool write)
    {
        ulong last = offset + (ulong)(size - 1);
        if ((_vcpu.Vmx.Cr0 & Cr0.Pe) != 0 && (_vcpu.Vmx.RFlags & RFlags.Vm) == 0)
        {
            bool code = (s.Attributes & 8) != 0;
            bool right = (s.Attributes & 2) != 0;
            if (!s.Usable || (code ? write || !right : write && !right))
            {
                return false;
            }

            if (!code && (s.Attributes & 4) != 0)
            {
                ulong top = (s.Attributes & SegmentAttributes.Db) != 0 ? uint.MaxValue : 0xFFFFUL;
                return offset > s.Limit && last <= top;
            }
        }

        return last <= s.Limit;
    }

    private static SegmentRegister SegmentOf(in Instruction ins, int operand) => ins.GetOpKind(operand) switch
    {
        OpKind.MemoryESDI or OpKind.MemoryESEDI or OpKind.MemoryESRDI => SegmentRegister.Es,
        _ => SegmentOf(ins.MemorySegment),
    };

    private static SegmentRegister SegmentOf(Register register) => (SegmentRegister)(register - Register.ES);

    private static bool IsSegment(in Instruction ins, int operand) =>
        ins.GetOpKind(operand) == OpKind.Register && ins.GetOpRegister(operand).IsSegmentRegister();

    private ulong OffsetOf(in Instruction ins, int operand)
    {
        switch (ins.GetOpKind(operand))
        {
            case OpKind.MemoryESDI:
                return (ushort)_gprs[(int)Gpr.Rdi];
            case OpKind.MemoryESEDI:
                return (uint)_gprs[(int)Gpr.Rdi];
            case OpKind.MemoryESRDI:
                return _gprs[(int)Gpr.Rdi];
            case OpKind.MemorySegSI:
                return (ushort)_gprs[(int)Gpr.Rsi];
            case OpKind.MemorySegESI:
                return (uint)_gprs[(int)Gpr.Rsi];
            case OpKind.MemorySegRSI:
                return _gprs[(int)Gpr.Rsi];
        }

        Register based = ins.MemoryBase;
        ulong address = ins.MemoryDisplacement64;
        if (based is Register.RIP or Register.EIP)
        {
            return based == Register.EIP ? (uint)address : address;
        }

        if (based != Register.None)
        {
            address += ReadRegister(based);
        }

        if (ins.MemoryIndex != Register.None)
        {
            address += ReadRegister(ins.MemoryIndex) * (ulong)ins.MemoryIndexScale;
        }

        return address & Processor.AddressMask(ins);
    }

    /// <summary>Reads memory: fragments by page and by 8 bytes; one without memory behind it asks userspace.</summary>
    /// <param name="linear">The address.</param>
    /// <param name="to">Where the bytes go.</param>
    /// <param name="willWrite">The same instruction writes them back.</param>
    /// <param name="mode">Whose access it is.</param>
    private Step ReadLinear(ulong linear, Span<byte> to, bool willWrite = false, AccessMode mode = AccessMode.Own)
    {
        AccessKind access = willWrite ? AccessKind.Write : AccessKind.Read;
        if (!CanAccess(linear, to.Length, access, mode))
        {
            return Step.Fault;
        }

        while (to.Length > 0)
        {
            int count = Math.Min(Math.Min(to.Length, 8), 4096 - (int)(linear & 0xFFF));
            if (!_vcpu.Paging.TryTranslate(linear, access, mode, out ulong gpa, out _fault))
            {
                return Step.Fault;
            }

            if (!_vcpu.Vm.TryRead(gpa, to[..count]))
            {
                if (_readAt + count > _readFilled)
                {
                    _waits = Waits.Read;
                    _vcpu.KvmRun.ExitReason = KvmExitReason.Mmio;
                    _vcpu.KvmRun.Mmio = new KvmRunMmio { Address = new Gpa(gpa), Length = count, IsWrite = false };
                    _vcpu.KvmRun.Data[..8].Clear();
                    _vcpu.Stats.MmioExits++;
                    return Step.Userspace;
                }

                _readData.AsSpan(_readAt, count).CopyTo(to);
                _readAt += count;
            }

            to = to[count..];
            linear = Advance(linear, count);
        }

        return Step.Done;
    }

    // Whether every page of an access can be reached: no device is asked before a fault of a later page.
    private bool CanAccess(ulong linear, int size, AccessKind access, AccessMode mode)
    {
        int first = 4096 - (int)(linear & 0xFFF);
        if (!_vcpu.Paging.TryTranslate(linear, access, mode, out _, out _fault)
            || (first < size && !_vcpu.Paging.TryTranslate(Advance(linear, first), access, mode, out _, out _fault)))
        {
            return false;
        }

        bool aligned = mode != AccessMode.Own || !ChecksAlignment || size > 8 || (linear & (ulong)(size - 1)) == 0;
        _fault = aligned ? _fault : new GuestFault(Vector.Ac);
        return aligned;
    }

    // SDM "Alignment Check Exception"; vectors have their own rules, which the processor checked.
    private bool ChecksAlignment =>
        _vcpu.Vmx.Cpl == 3 && (_vcpu.Vmx.Cr0 & Cr0.Am) != 0 && (_vcpu.Vmx.RFlags & RFlags.Ac) != 0;

    /// <summary>Notes a write; nothing is written before everything that can fault was done.</summary>
    private Step WriteLinear(ulong linear, ReadOnlySpan<byte> from, AccessMode mode = AccessMode.Own)
    {
        if (!CanAccess(linear, from.Length, AccessKind.Write, mode))
        {
            return Step.Fault;
        }

        while (from.Length > 0)
        {
            int count = Math.Min(Math.Min(from.Length, 8), 4096 - (int)(linear & 0xFFF));
            if (!_vcpu.Paging.TryTranslate(linear, AccessKind.Write, mode, out ulong gpa, out _fault))
            {
                return Step.Fault;
            }

            bool memory = _vcpu.Vm.TryTranslate(gpa, out _, out bool writable, out _);
            from[..count].CopyTo(_writeData.AsSpan(_writeBytes));
            _writes[_writeCount++] = new Fragment(gpa, _writeBytes, count, !(memory && writable));
            _writeBytes += count;
            from = from[count..];
            linear = Advance(linear, count);
        }

        return Step.Done;
    }

    private ulong Advance(ulong linear, int bytes) =>
        _vcpu.Vmx.LongMode ? linear + (ulong)bytes : (uint)(linear + (ulong)bytes);

    internal Step Read(in Instruction ins, int operand, int size, out ulong value, bool willWrite = false)
    {
        value = 0;
        switch (ins.GetOpKind(operand))
        {
            case OpKind.Register:
                value = ReadRegister(ins.GetOpRegister(operand));
                return Step.Done;
            case >= OpKind.MemorySegSI and <= OpKind.Memory:
                if (!TryLinear(ins, operand, size, willWrite, out ulong linear))
                {
                    return Step.Fault;
                }

                Span<byte> bytes = stackalloc byte[8];
                bytes.Clear();
                Step step = ReadLinear(linear, bytes[..size], willWrite);
                value = StateFields.Take(bytes);
                return step;
            default:
                value = ins.GetImmediate(operand) & Mask(size);
                return Step.Done;
        }
    }

    internal Step Write(in Instruction ins, int operand, int size, ulong value)
    {
        if (ins.GetOpKind(operand) == OpKind.Register)
        {
            WriteRegister(ins.GetOpRegister(operand), value);
            return Step.Done;
        }

        if (!TryLinear(ins, operand, size, write: true, out ulong linear))
        {
            return Step.Fault;
        }

        Span<byte> bytes = stackalloc byte[8];
        StateFields.Put(bytes, value);
        return WriteLinear(linear, bytes[..size]);
    }

    internal static int SizeOf(in Instruction ins, int operand) => ins.GetOpKind(operand) == OpKind.Register
        ? ins.GetOpRegister(operand).GetSize()
        : ins.MemorySize.GetSize();

    private ulong ReadRegister(Register register)
    {
        if (register.IsSegmentRegister())
        {
            return _vcpu.Vmx.GetSegment(SegmentOf(register)).Selector;
        }

        ulong full = _gprs[register.GetFullRegister() - Register.RAX];
        return register is >= Register.AH and <= Register.BH ? (byte)(full >> 8) : full & Mask(register.GetSize());
    }

    private void WriteRegister(Register register, ulong value)
    {
        int index = register.GetFullRegister() - Register.RAX;
        ulong old = _gprs[index];
        _gprs[index] = register is >= Register.AH and <= Register.BH
            ? (old & ~0xFF00UL) | ((value & 0xFF) << 8)
            : Merge(old, value, register.GetSize());
    }

    internal static ulong Mask(int size) => size >= 8 ? ulong.MaxValue : (1UL << (size * 8)) - 1;
}
