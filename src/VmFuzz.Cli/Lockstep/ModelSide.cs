using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Machines;

namespace VmFuzz.Cli.Lockstep;

/// <summary>The side of VmFuzz: a flat machine on <c>bare</c> whose processor stops at any count and reports exceptions.</summary>
internal sealed unsafe class ModelSide : IBoundary, IDisposable
{
    private readonly Machine _machine;
    private readonly Processor _cpu;
    private readonly FlatMode _mode;
    private readonly SegmentState[] _segments;
    private bool _segmentsLoaded;
    private ulong _first;
    private ulong _limit;

    /// <summary>Makes a machine.</summary>
    /// <param name="mode">The mode of the code.</param>
    /// <param name="cpu">The processor model, as <c>-cpu</c> names it.</param>
    /// <param name="variants">Rows that replace the product's own; null for none.</param>
    public ModelSide(FlatMode mode, string cpu, MachineVariants? variants = null)
    {
        _mode = mode;
        var options = new MachineOptions
        {
            FlatMode = mode,
            Cpu = cpu,
            Memory = LockstepMemory.Bytes,
            Images = [new MachineImage("code", "lockstep", new byte[] { 0xF4 })],
        };
        _machine = Machine.Create(options, new LiveSource(null), variants);
        _cpu = _machine.Processor;
        _cpu.Boundary = this;
        _cpu.ReportsEvents = true;
        if (mode == FlatMode.Long64)
        {
            _cpu.Segment(SegmentRegister.Fs).Base = LockstepMemory.FsBase;
            _cpu.Segment(SegmentRegister.Gs).Base = LockstepMemory.GsBase;
        }

        _segments = [.. Enumerable.Range(0, 6).Select(i => _cpu.Segment((SegmentRegister)i))];
    }

    /// <summary>The processor.</summary>
    public Processor Processor => _cpu;

    /// <summary>The processor's state.</summary>
    public CpuState* State => _cpu.State;

    /// <summary>Instructions retired since <see cref="Load"/>.</summary>
    public ulong Retired => _cpu.Retired - _first;

    /// <summary>Copies memory from physical address 0 on.</summary>
    public void CopyMemory(Span<byte> destination) => _machine.Memory.TryRead(new Gpa(0), destination);

    /// <summary>Reads memory.</summary>
    public void Read(ulong address, Span<byte> bytes) => _machine.Memory.TryRead(new Gpa(address), bytes);

    /// <summary>Writes memory.</summary>
    public void Write(ulong address, ReadOnlySpan<byte> bytes) => _machine.Memory.TryWrite(new Gpa(address), bytes);

    /// <summary>Whether memory holds these bytes.</summary>
    public bool Holds(ulong address, ReadOnlySpan<byte> bytes)
    {
        for (int at = 0; at < bytes.Length; at += Gpa.PageSize)
        {
            ReadOnlySpan<byte> page = bytes.Slice(at, Math.Min(Gpa.PageSize, bytes.Length - at));
            if (!new ReadOnlySpan<byte>(_machine.Memory.Host((int)((address + (ulong)at) >> 12)), page.Length).SequenceEqual(page))
            {
                return false;
            }
        }

        return true;
    }

    /// <summary>Starts a program: registers, flags, nothing pending.</summary>
    /// <param name="start">The registers.</param>
    /// <param name="program">The program.</param>
    public void Load(in RegisterImage start, LockstepProgram program)
    {
        CpuState* s = _cpu.State;
        s->Activity = 0;
        s->Interruptibility = 0;
        s->PendingDebug = 0;
        s->Cr2 = 0;
        s->Stop = StopKind.None;
        if (_segmentsLoaded || s->Cs.Base != program.CodeBase)
        {
            for (int i = 0; i < _segments.Length; i++)
            {
                (&s->Es)[i] = _segments[i];
            }

            if (_mode == FlatMode.Real16)
            {
                s->Cs.Selector = program.CodeBase >> 4;
                s->Cs.Base = program.CodeBase;
            }

            _cpu.StateChanged();
        }

        _segmentsLoaded = program.LoadsSegments;
        Set(start);
        _first = _cpu.Retired;
    }

    /// <summary>Sets registers and flags.</summary>
    public void Set(in RegisterImage image)
    {
        for (int i = 0; i < 16; i++)
        {
            _cpu.State->Gpr[i] = image.Gpr[i];
        }

        _cpu.Rip = image.Rip;
        _cpu.RFlagsValue = image.Flags;
    }

    /// <summary>The registers as they are.</summary>
    public RegisterImage Read()
    {
        RegisterImage image = default;
        ulong mask = _mode == FlatMode.Long64 ? ulong.MaxValue : uint.MaxValue;
        for (int i = 0; i < (_mode == FlatMode.Long64 ? 16 : 8); i++)
        {
            image.Gpr[i] = _cpu.State->Gpr[i] & mask;
        }

        image.Rip = _cpu.Rip;
        image.Flags = _cpu.RFlagsValue;
        return image;
    }

    /// <summary>Runs until so many instructions have retired since <see cref="Load"/>.</summary>
    public CpuStop RunTo(ulong retired)
    {
        _limit = _first + retired;
        return _cpu.Run();
    }

    /// <inheritdoc/>
    public void Dispose() => _machine.Dispose();

    bool IBoundary.OnBoundary(ulong retired, out ulong nextLimit)
    {
        nextLimit = _limit;
        return retired < _limit;
    }
}
