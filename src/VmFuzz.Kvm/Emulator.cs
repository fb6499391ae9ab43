using Iced.Intel;
using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Vmx;

namespace VmFuzz.Kvm;

/// <summary>
/// The hypervisor's instruction emulator, for accesses that the guest cannot make itself: MMIO, ROM, string I/O. Works
/// on a copy of the registers and commits everything at the end, so that an instruction that must wait for userspace
/// or faults has changed nothing. Its own code: the processor's microcode is not used.
/// </summary>
internal sealed partial class Emulator
{
    private readonly Vcpu _vcpu;
    private readonly byte[] _code = new byte[15];
    private readonly ByteArrayCodeReader _reader;
    private readonly byte[] _readData = new byte[64];
    private readonly byte[] _writeData = new byte[64];
    private readonly Fragment[] _writes = new Fragment[12];
    private Instruction _instruction;
    private GprFile _gprs;
    private ulong _flags;
    private ulong _next;
    private bool _stays;
    private int _readFilled;
    private int _readAt;
    private int _writeCount;
    private int _writeBytes;
    private int _writeNext;
    private Waits _waits;
    private GuestFault _fault;
    private bool _ioDone;
    private int _ioSize;
    private uint _length;

    public Emulator(Vcpu vcpu)
    {
        _vcpu = vcpu;
        _reader = new ByteArrayCodeReader(_code);
    }

    /// <summary>What userspace must do before the instruction goes on.</summary>
    private enum Waits : byte
    {
        Nothing,
        PortIn,
        PortOut,
        StringIn,
        StringOut,
        Read,
        Write,
    }

    /// <summary>How a step of the emulation ended.</summary>
    internal enum Step : byte
    {
        Done,
        Fault,
        Userspace,
        Unknown,
    }

    private readonly record struct Fragment(ulong Gpa, int Offset, int Length, bool Mmio);

    internal Vcpu Vcpu => _vcpu;

    internal ref GprFile Gprs => ref _gprs;

    /// <summary>What was read from MMIO is there to be read once more, in the same order.</summary>
    internal void ReadAgain() => _readAt = 0;

    /// <summary>Whether an access waits for its userspace (S09).</summary>
    public bool HasPending => _waits != Waits.Nothing;

    /// <summary>IN or OUT without memory operand.</summary>
    public ExitOutcome StartPort(IoQualification io, uint length)
    {
        _length = length;
        _waits = io.IsIn ? Waits.PortIn : Waits.PortOut;
        Present(io.Port, io.Size, !io.IsIn, _vcpu.Rax);
        return ExitOutcome.ToUserspace;
    }

    /// <summary>Emulates the instruction at RIP.</summary>
    /// <returns>Over 0: go on in the guest; 0: to userspace.</returns>
    public int Emulate()
    {
        _readFilled = 0;
        _ioDone = false;
        if (!Fetch())
        {
            _vcpu.Queue(_fault);
            return 1;
        }

        return Attempt();
    }

    /// <summary>Goes on with what waits, now that userspace has answered.</summary>
    /// <returns>Over 0: done; 0: to userspace once more.</returns>
    public int Complete()
    {
        Waits waits = _waits;
        _waits = Waits.Nothing;
        Span<byte> data = _vcpu.KvmRun.Data;
        switch (waits)
        {
            case Waits.PortIn:
                _vcpu.Rax = Merge(_vcpu.Rax, StateFields.Take(data[.._ioSize]), _ioSize);
                _vcpu.Retire(_length);
                return 1;
            case Waits.PortOut:
                _vcpu.Retire(_length);
                return 1;
            case Waits.StringIn:
                _ioDone = true;
                return Attempt();
            case Waits.StringOut:
                return Commit();
            case Waits.Read:
                int count = _vcpu.KvmRun.Mmio.Length;
                data[..count].CopyTo(_readData.AsSpan(_readFilled));
                _readFilled += count;
                return Attempt();
            default:
                return SendWrites();
        }
    }

    internal void Clear() => _waits = Waits.Nothing;

    private int Attempt()
    {
        VcpuRegs regs = _vcpu.Vmx.GetRegs();
        _gprs = regs.Gprs;
        _flags = regs.RFlags;
        _next = Wrap(regs.Rip + (ulong)_instruction.Length);
        _stays = false;
        _readAt = 0;
        _writeCount = 0;
        _writeBytes = 0;
        _loadsSegment = false;
        _shadow = 0;
        switch (Execute(_instruction))
        {
            case Step.Done:
                _writeNext = 0;
                return SendWrites();
            case Step.Fault:
                _vcpu.Queue(_fault);
                return 1;
            case Step.Userspace:
                return 0;
            default:
                return Fail();
        }
    }

    // handle_emulation_failure. A program that may touch MMIO can change its instruction between the exit and the fetch.
    private int Fail()
    {
        _vcpu.Stats.EmulationFailures++;
        if (_vcpu.Vmx.Cpl > 0 && _vcpu.Rules.Holds(Rule.EmulatorUserFailure))
        {
            _vcpu.Queue(GuestFault.Ud);
            return 1;
        }

        _vcpu.KvmRun.SetInternalError(KvmInternalError.Emulation,
            $"the emulator does not know {_instruction.Code} at RIP 0x{_vcpu.Rip:x}",
            StateFields.Take(_code.AsSpan(0, 8)), StateFields.Take(_code.AsSpan(8)));
        return 0;
    }

    // MMIO fragments one by one, then memory and registers at once.
    private int SendWrites()
    {
        while (_writeNext < _writeCount)
        {
            Fragment f = _writes[_writeNext++];
            if (f.Mmio)
            {
                _vcpu.KvmRun.ExitReason = KvmExitReason.Mmio;
                _vcpu.KvmRun.Mmio = new KvmRunMmio { Address = new Gpa(f.Gpa), Length = f.Length, IsWrite = true };
                _writeData.AsSpan(f.Offset, f.Length).CopyTo(_vcpu.KvmRun.Data);
                _vcpu.Stats.MmioExits++;
                _waits = Waits.Write;
                return 0;
            }
        }

        return Commit();
    }

    private int Commit()
    {
        for (int i = 0; i < _writeCount; i++)
        {
            Fragment f = _writes[i];
            if (!f.Mmio)
            {
                _vcpu.Vm.TryWrite(f.Gpa, _writeData.AsSpan(f.Offset, f.Length));
            }
        }

        ulong before = _vcpu.Vmx.RFlags;
        ulong rip = _vcpu.Rip;
        for (int i = 0; i < 16; i++)
        {
            if (_gprs[i] != _vcpu[(Gpr)i])
            {
                _vcpu[(Gpr)i] = _gprs[i];
            }
        }

        if (_loadsSegment)
        {
            _vcpu.Vmx.SetSegment(_loadedRegister, _loaded);
        }

        if (_flags != before)
        {
            _vcpu.Vmx.RFlags = _flags;
        }

        _vcpu.Rip = _stays ? rip : _next;
        _vcpu.Stats.Emulated++;
        ulong shadow = _shadow != 0 || _vcpu.Rules.Holds(Rule.EmulatorShadow) ? _shadow : _vcpu.Vmx.InterruptShadow;
        _vcpu.FinishInstruction(before, shadow, _stays, _instruction.FlowControl != FlowControl.Next);
        return 1;
    }

    private void Present(ushort port, int size, bool isOut, ulong value)
    {
        KvmRun run = _vcpu.KvmRun;
        run.ExitReason = KvmExitReason.Io;
        run.Io = new KvmRunIo { Out = isOut, Size = size, Port = port, Count = 1 };
        _ioSize = size;
        if (isOut)
        {
            StateFields.Put(run.Data[..size], value);
        }

        _vcpu.Stats.IoExits++;
    }

    // Bytes of the instruction, as far as they can be fetched; a fault counts only when it lies within the instruction.
    private bool Fetch()
    {
        VmxVcpu vmx = _vcpu.Vmx;
        bool code64 = vmx.Code64;
        SegmentState cs = vmx.GetSegment(SegmentRegister.Cs);
        ulong rip = vmx.Rip;
        ulong linear = code64 ? rip : (uint)(rip + cs.Base);
        int got = 0;
        _fault = default;
        while (got < 15)
        {
            ulong at = code64 ? linear + (ulong)got : (uint)(linear + (ulong)got);
            if (!_vcpu.Paging.TryTranslate(at, AccessKind.Fetch, AccessMode.Own, out ulong gpa, out _fault))
            {
                break;
            }

            int count = Math.Min(15 - got, 4096 - (int)(at & 0xFFF));
            if (!_vcpu.Vm.TryRead(gpa, _code.AsSpan(got, count)))
            {
                _code.AsSpan(got, count).Fill(0xFF);
            }

            got += count;
        }

        _code.AsSpan(got).Clear();
        if (got == 0)
        {
            return false;
        }

        int bits = code64 ? 64 : (cs.Attributes & SegmentAttributes.Db) != 0 ? 32 : 16;
        _reader.Position = 0;
        Decoder decoder = Decoder.Create(bits, _reader, rip);
        decoder.Decode(out _instruction);
        if (_instruction.Length > got && got < 15)
        {
            return false;
        }

        if (_instruction.IsInvalid)
        {
            _fault = GuestFault.Ud;
            return false;
        }

        return true;
    }

    private ulong Wrap(ulong rip) => _vcpu.Vmx.Code64 ? rip : (uint)rip;

    private static ulong Merge(ulong old, ulong value, int size) => size switch
    {
        1 => (old & ~0xFFUL) | (byte)value,
        2 => (old & ~0xFFFFUL) | (ushort)value,
        4 => (uint)value,
        _ => value,
    };
}
