using System.Collections.Immutable;
using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Memory;

namespace VmFuzz.Machines.Vectors;

/// <summary>
/// A processor and 16 MiB of memory that run instruction vectors one after the other: <see cref="TryLoad"/>,
/// <see cref="Run"/>, then the changes.
/// </summary>
/// <remarks>
/// Each vector finds a fresh machine, or the one that the vector before left. Time is the retired count; ports and
/// addresses behind the memory float (reads give all ones), but a write to port 0xf4 ends the vector.
/// </remarks>
public sealed unsafe class VectorMachine : IBus, IClock, IBoundary, IProcessorObserver, IInputSource, IDisposable
{
    /// <summary>Bytes of memory.</summary>
    public const ulong MemoryBytes = VectorPages.End;

    /// <summary>Linear address of the code where RIP and CS are not given.</summary>
    public const ulong DefaultCode = 0x10000;

    private const ushort ExitPort = 0xF4;
    private const ulong DefaultStack = 0x8000;

    private readonly GuestMemory _memory = new();
    private readonly Processor _cpu;
    private readonly VectorPages _pages;
    private readonly ProcessorSnapshot[] _fresh;
    private readonly bool _keep;
    private readonly byte[] _before = new byte[VectorRegister.ImageBytes];
    private readonly byte[] _after = new byte[VectorRegister.ImageBytes];
    private readonly Action<int> _prepare;

    // Pages that are not zero although they should be when the next vector starts.
    private readonly List<int> _used = [];
    private readonly bool[] _isUsed = new bool[MemoryBytes / Gpa.PageSize];
    private readonly List<VectorPage> _changed = [];
    private bool _started;
    private bool _ownTables;
    private ulong _first;
    private ulong _limit;
    private ulong _deliveries;
    private ulong _most;
    private bool _exited;

    /// <summary>Makes a machine.</summary>
    /// <param name="model">The processor.</param>
    /// <param name="keep">Each vector goes on with the memory and, where it names no mode, the registers of the one before.</param>
    /// <param name="instructions">The instruction rows; those of this build when null.</param>
    public VectorMachine(CpuModel model, bool keep = false, InstructionTable? instructions = null)
    {
        _memory.AddSlot(new Gpa(0), MemoryBytes);
        _pages = new VectorPages(_memory);
        _prepare = Prepare;
        _cpu = new Processor(model, _memory, this, this, this, instructions: instructions) { Boundary = this, Observer = this };
        _keep = keep;
        _fresh = [.. Enum.GetValues<VectorMode>().Select(FreshState)];
    }

    /// <summary>Executes everything with the reference microcode. Nothing shows it but speed.</summary>
    public bool ReferenceOnly
    {
        get => _cpu.ReferenceOnly;
        set => _cpu.ReferenceOnly = value;
    }

    /// <inheritdoc/>
    public ulong Now => _cpu.Retired;

    /// <summary>Puts the start state of a vector into the machine.</summary>
    /// <returns>What is wrong with it; null when nothing is. Then the machine is as after the vector before, or fresh.</returns>
    public string? TryLoad(InstructionVector vector)
    {
        ArgumentNullException.ThrowIfNull(vector);
        if (!_keep)
        {
            ClearMemory();
            return Load(vector);
        }

        var registers = new ProcessorSnapshot(_cpu);
        (bool ownTables, bool reports, int pages) = (_ownTables, _cpu.ReportsEvents, _pages.Count);
        _memory.Commit();
        string? wrong = Load(vector);
        if (wrong is not null)
        {
            _memory.Reset();
            registers.Restore(_cpu);
            (_ownTables, _cpu.ReportsEvents, _pages.Count) = (ownTables, reports, pages);
            return wrong;
        }

        _started = true;
        return null;
    }

    /// <summary>Runs what was loaded.</summary>
    public VectorOutcome Run(ulong max)
    {
        ArgumentOutOfRangeException.ThrowIfZero(max);
        _memory.Commit();
        _cpu.FlushWriteTlb();
        ReadImage(_before);
        _first = _cpu.Retired;
        _limit = _first + max;
        _deliveries = 0;
        _most = max;
        _exited = false;
        CpuStop stop = _cpu.Run();
        ReadImage(_after);
        VectorStop why = stop switch
        {
            CpuStop.Event => VectorStop.Fault,
            CpuStop.Shutdown => VectorStop.Shutdown,
            CpuStop.Unimplemented => VectorStop.Unimplemented,
            _ when _exited => VectorStop.Exit,
            _ when _cpu.State->Activity == 1 => VectorStop.Hlt,
            _ => VectorStop.Max,
        };
        return new VectorOutcome(
            why,
            _cpu.Retired - _first,
            why == VectorStop.Fault ? _cpu.ReportedEvent : default,
            why == VectorStop.Unimplemented ? _cpu.UnimplementedText : "");
    }

    /// <summary>Gives a processor of the same model the registers that were loaded.</summary>
    public void CopyRegisters(Processor to)
    {
        ArgumentNullException.ThrowIfNull(to);
        Span<byte> value = stackalloc byte[4096];
        for (int i = 0; i < ProcessorState.List.Length; i++)
        {
            Span<byte> field = value[..ProcessorState.List[i].Width];
            _cpu.Fields.ReadField(i, field);
            to.Fields.WriteField(i, field);
        }

        to.StateChanged();
    }

    /// <summary>Whether the last run changed a register.</summary>
    /// <param name="register">Index into <see cref="VectorRegister.All"/>.</param>
    /// <param name="value">Its value, when it did.</param>
    public bool TryChange(int register, out VectorValue value)
    {
        VectorRegister row = VectorRegister.All[register];
        int at = row.Offset;
        if (row.Kind == VectorRegisterKind.Stack)
        {
            at += (((int)(_cpu.State->Fsw >> 11) + row.Number) & 7) * 16;
        }

        int width = (row.Bits + 7) / 8;
        value = default;
        bool upper = row.Kind is VectorRegisterKind.Xmm or VectorRegisterKind.Ymm && Differs(at + 16, 16);
        bool shown = row.Kind switch
        {
            VectorRegisterKind.Xmm => !upper && Differs(at, width),
            VectorRegisterKind.Ymm => upper,
            _ => Differs(at, width),
        };
        if (shown)
        {
            Span<byte> bytes = stackalloc byte[32];
            bytes.Clear();
            _after.AsSpan(at, width).CopyTo(bytes);
            value = new VectorValue(
                System.Buffers.Binary.BinaryPrimitives.ReadUInt128LittleEndian(bytes),
                System.Buffers.Binary.BinaryPrimitives.ReadUInt128LittleEndian(bytes[16..]));
        }

        return shown;
    }

    /// <summary>The pages that the last run wrote, by address; those of the machine's own tables are not among them.</summary>
    public IReadOnlyList<VectorPage> WrittenPages()
    {
        _changed.Clear();
        foreach (int page in _memory.DirtyPages)
        {
            ulong frame = (ulong)page << 12;
            ulong address = frame;
            if (_ownTables || _pages.TryLinear(frame, out address))
            {
                _changed.Add(new VectorPage(address, page));
            }
        }

        _changed.Sort(static (one, other) => one.Address.CompareTo(other.Address));
        return _changed;
    }

    /// <summary>Bytes of a page of <see cref="WrittenPages"/> before and after the run.</summary>
    public void ReadPage(in VectorPage page, out ReadOnlySpan<byte> before, out ReadOnlySpan<byte> after)
    {
        before = _memory.Committed(page.Index);
        after = new ReadOnlySpan<byte>(_memory.Host(page.Index), Gpa.PageSize);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _cpu.Dispose();
        _memory.Dispose();
    }

    bool IBoundary.OnBoundary(ulong retired, out ulong nextLimit)
    {
        nextLimit = _limit;
        return retired < _limit;
    }

    // A handler that faults at once retires nothing: deliveries are bounded as instructions are.
    void IProcessorObserver.OnDelivered(in GuestEvent delivered, ulong returnRip)
    {
        if (++_deliveries >= _most)
        {
            _cpu.RequestStop();
        }
    }

    uint IBus.ReadPort(ushort port, int size) => uint.MaxValue;

    void IBus.WritePort(ushort port, int size, uint value)
    {
        if (port == ExitPort)
        {
            _exited = true;
            _cpu.RequestStop();
        }
    }

    ulong IBus.ReadMmio(Gpa address, int size) => ulong.MaxValue;

    void IBus.WriteMmio(Gpa address, int size, ulong value)
    {
    }

    ulong IInputSource.NextDue(int vcpu, ulong retired) => ulong.MaxValue;

    bool IInputSource.TryTake(InputPoint point, in Position at, out Input input)
    {
        input = default;
        return false;
    }

    private bool Differs(int at, int width) => !_before.AsSpan(at, width).SequenceEqual(_after.AsSpan(at, width));

    private void ReadImage(Span<byte> image)
    {
        ReadOnlySpan<StateField> fields = ProcessorState.List;
        int at = 0;
        for (int i = 0; i < fields.Length; i++)
        {
            _cpu.Fields.ReadField(i, image.Slice(at, fields[i].Width));
            at += fields[i].Width;
        }
    }

    // What the run wrote goes back, then what loading wrote becomes zero.
    private void ClearMemory()
    {
        _memory.Reset();
        ReadOnlySpan<byte> zeros = stackalloc byte[Gpa.PageSize];
        foreach (int page in _used)
        {
            _memory.TryWrite(new Gpa((ulong)page << 12), zeros);
            _isUsed[page] = false;
        }

        _used.Clear();
        _pages.Count = 0;
        _memory.Commit();
    }

    private void Prepare(int page)
    {
        if (!_isUsed[page])
        {
            _isUsed[page] = true;
            _used.Add(page);
        }
    }

    private string? Load(InstructionVector vector)
    {
        CpuState* s = _cpu.State;
        VectorMode? mode = vector.Mode ?? (_keep && _started ? null : VectorMode.Long);
        if (mode is { } named)
        {
            if (named == VectorMode.Long && !_cpu.Model.Has(CpuFeatures.LongMode))
            {
                return $"the processor model {_cpu.Model.Name} has no long mode";
            }

            _fresh[(int)named].Restore(_cpu);
            _cpu.ReportsEvents = true;
            _ownTables = named != VectorMode.Long;
        }

        s->Activity = 0;
        SetRegisters(vector);
        return VectorChecks.Broken(_cpu) ?? (mode is { } asked ? VectorChecks.Broken(_cpu, asked) : null)
            ?? (!_ownTables && (s->Cr4 & Cr4.La57) != 0 ? "cr4 has LA57, which needs page tables and cr3" : null)
            ?? Write(vector)
            ?? Settle();
    }

    private void SetRegisters(InstructionVector vector)
    {
        CpuState* s = _cpu.State;
        foreach ((int register, VectorValue value) in vector.Registers)
        {
            VectorRegister row = VectorRegister.All[register];
            switch (row.Kind)
            {
                case VectorRegisterKind.Xmm:
                    *(UInt128*)&s->Ymm[row.Number * 4] = value.Low;
                    break;
                case VectorRegisterKind.Ymm:
                    *(UInt128*)&s->Ymm[row.Number * 4] = value.Low;
                    *(UInt128*)&s->Ymm[(row.Number * 4) + 2] = value.High;
                    break;
                case VectorRegisterKind.Word:
                    _cpu.Fields.TrySetWord((ushort)row.Number, (ulong)value.Low);
                    break;
                default:
                    break;
            }
        }

        // The top of the stack is known only now.
        foreach ((int register, VectorValue value) in vector.Registers)
        {
            VectorRegister row = VectorRegister.All[register];
            if (row.Kind == VectorRegisterKind.Stack)
            {
                *(UInt128*)&s->X87[(((int)(s->Fsw >> 11) + row.Number) & 7) * 2] = value.Low;
            }
        }

        _ownTables |= vector.Has(Cr3);
        _cpu.ReportsEvents &= !vector.Has(IdtBase) && !vector.Has(IdtLimit);
        if (!_cpu.Protected || _cpu.Virtual8086)
        {
            SetRealBases(vector);
        }
    }

    // SDM "20.1.1 Address Translation in Real-Address Mode": the base is the selector times 16.
    private void SetRealBases(InstructionVector vector)
    {
        for (int i = 0; i < 6; i++)
        {
            if (vector.Has(Selectors[i]) && !vector.Has(Selectors[i] + 1))
            {
                ref SegmentState segment = ref _cpu.Segment((SegmentRegister)i);
                segment.Base = segment.Selector << 4;
            }
        }
    }

    private string? Write(InstructionVector vector)
    {
        ulong at = _cpu.Code64 ? _cpu.Rip : _cpu.State->Cs.Base + _cpu.Rip;
        foreach (VectorBytes piece in vector.Memory)
        {
            if (Write(piece) is { } wrong)
            {
                return wrong;
            }
        }

        return vector.Code.IsEmpty ? null : Write(new VectorBytes(_cpu.LongMode ? at : (uint)at, vector.Code));
    }

    private string? Write(in VectorBytes piece)
    {
        ulong last = piece.At + (ulong)piece.Bytes.Length - 1;
        if (last < piece.At || (_ownTables ? last >= MemoryBytes : !_cpu.IsCanonical(piece.At) || !_cpu.IsCanonical(last) || ((piece.At ^ last) >> 63) != 0))
        {
            return _ownTables
                ? $"0x{piece.At:x} and {piece.Bytes.Length} bytes do not lie in the {MemoryBytes >> 20} MiB of memory"
                : $"0x{piece.At:x} and {piece.Bytes.Length} bytes are not canonical addresses";
        }

        ReadOnlySpan<byte> bytes = piece.Bytes.Span;
        for (ulong at = piece.At; bytes.Length > 0;)
        {
            ulong page = _ownTables ? at & ~0xFFFUL : _pages.Map(at, _prepare);
            if (page == VectorPages.NoFrame)
            {
                return $"there is no room for the page of 0x{at:x}; give fewer pages";
            }

            int count = Math.Min(bytes.Length, Gpa.PageSize - (int)(at & 0xFFF));
            _prepare((int)(page >> 12));
            _memory.TryWrite(new Gpa(page + (at & 0xFFF)), bytes[..count]);
            bytes = bytes[count..];
            at += (ulong)count;
        }

        return null;
    }

    // What is derived from registers and memory.
    private string? Settle()
    {
        CpuState* s = _cpu.State;
        bool pae = (s->Cr0 & Cr0.Pg) != 0 && (s->Cr4 & Cr4.Pae) != 0 && !_cpu.LongMode;
        if (pae && !_cpu.TryLoadPdptes(s->Cr3))
        {
            return "the page-directory-pointer entries at cr3 have reserved bits";
        }

        _cpu.FlushTlb();
        _cpu.StateChanged();
        return null;
    }

    private static readonly int Cr3 = VectorRegister.Find("cr3");
    private static readonly int IdtBase = VectorRegister.Find("idtr.base");
    private static readonly int IdtLimit = VectorRegister.Find("idtr.limit");

    // In the order of SegmentRegister; the base is the next row.
    private static readonly ImmutableArray<int> Selectors =
    [
        .. ((string[])["es.sel", "cs.sel", "ss.sel", "ds.sel", "fs.sel", "gs.sel"]).Select(static name => VectorRegister.Find(name)),
    ];

    // src/docs/exec.md lists these.
    private ProcessorSnapshot FreshState(VectorMode mode)
    {
        _cpu.Reset();
        CpuState* s = _cpu.State;
        bool real = mode == VectorMode.Real;
        bool small = mode is VectorMode.Real or VectorMode.Protected16;
        s->Gpr[(int)Gpr.Rdx] = 0;
        s->Gpr[(int)Gpr.Rsp] = DefaultStack;
        s->Gpr[CpuState.RipSlot] = small ? 0 : DefaultCode;
        s->Cr0 = Cr0.Et | Cr0.Ne;
        s->Cr4 = (Cr4.Osfxsr | Cr4.Osxmmexcpt) & _cpu.Cr4Mask;
        s->Fcw = 0x37F;
        s->Ftw = 0xFFFF;
        s->Gdtr = default;
        s->Idtr = default;
        s->Ldtr = new SegmentState { Attributes = SegmentAttributes.Unusable };
        uint wide = small ? 0u : SegmentAttributes.Db | SegmentAttributes.G;
        uint limit = small ? 0xFFFF : uint.MaxValue;
        for (int i = 0; i < 6; i++)
        {
            _cpu.Segment((SegmentRegister)i) = new SegmentState { Selector = real ? 0u : 0x10, Limit = limit, Attributes = 0x93 | wide };
        }

        s->Cs = new SegmentState
        {
            Selector = real ? DefaultCode >> 4 : 8,
            Base = small ? DefaultCode : 0,
            Limit = limit,
            Attributes = 0x9B | (mode == VectorMode.Long ? SegmentAttributes.L | SegmentAttributes.G : wide),
        };
        s->Cr0 |= real ? 0 : Cr0.Pe;
        if (mode == VectorMode.Long)
        {
            s->Cr0 |= Cr0.Pg | Cr0.Wp;
            s->Cr3 = VectorPages.First;
            s->Cr4 |= Cr4.Pae;
            s->Efer = Efer.Lme | Efer.Lma;
        }

        _cpu.StateChanged();
        return new ProcessorSnapshot(_cpu);
    }
}

/// <summary>A page of <see cref="VectorMachine.WrittenPages"/>.</summary>
/// <param name="Address">Where the vector sees it.</param>
/// <param name="Index">Number of its frame.</param>
public readonly record struct VectorPage(ulong Address, int Index);
