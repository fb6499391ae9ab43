using System.Collections.Immutable;
using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Machines;
using VmFuzz.Replay;
using VmFuzz.Testing;

namespace VmFuzz.Cli.Lockstep;

/// <summary>VmFuzz and Unicorn side by side in one mode.</summary>
/// <remarks>
/// A run goes through Unicorn first, which records the registers before every instruction; VmFuzz then runs in strides, whose
/// ends are compared with the record, so that its decoded blocks run as they do elsewhere. A difference is looked for again
/// with both in step, one instruction at a time.
/// </remarks>
internal sealed class LockstepPair : IDisposable
{
    private const int RunsOfProgram = 12;
    private const int Behind = 16;
    private const byte Hlt = 0xF4;

    // All that is compared: RF is set and cleared beside instructions.
    private const ulong ComparedFlags = RFlags.Defined & ~RFlags.Rf;

    private readonly UnicornLibrary _library;
    private readonly FlatMode _mode;
    private readonly LockstepMemory _layout;
    private readonly ModelSide _model;
    private readonly ProgramMaker _maker;
    private readonly ImmutableArray<KnownFault> _known;
    private readonly byte[] _data = new byte[LockstepMemory.DataBytes];
    private readonly byte[] _stack = new byte[LockstepMemory.StackBytes];
    private readonly RegisterImage[] _entries = new RegisterImage[UnicornSide.LongestTrace + 1];
    private UnicornSide _unicorn;
    private ulong _next;

    /// <summary>Makes both.</summary>
    /// <param name="library">The library.</param>
    /// <param name="mode">The mode.</param>
    /// <param name="cpu">VmFuzz's processor model.</param>
    /// <param name="known">Differences that are explained.</param>
    /// <param name="variants">Rows of VmFuzz's that replace its own; null for none.</param>
    public LockstepPair(UnicornLibrary library, FlatMode mode, string cpu, ImmutableArray<KnownFault> known, MachineVariants? variants = null)
    {
        _library = library;
        _mode = mode;
        _layout = LockstepMemory.Of(mode);
        _known = known;
        Met = new ulong[known.Length];
        _model = new ModelSide(mode, cpu, variants);
        _unicorn = new UnicornSide(library, mode, _model);
        _maker = new ProgramMaker(mode);
        _next = _layout.Code;
    }

    /// <summary>Instructions compared.</summary>
    public ulong Instructions { get; private set; }

    /// <summary>Runs compared.</summary>
    public ulong Runs { get; private set; }

    /// <summary>Programs that ended in an exception, on both sides.</summary>
    public ulong Exceptions { get; private set; }

    /// <summary>How often each known fault was met, in the order of its table.</summary>
    public ulong[] Met { get; }

    /// <summary>Makes the program of a seed and runs it from several states.</summary>
    /// <returns>The first difference that no known fault explains; null when there is none.</returns>
    public LockstepDifference? Run(ulong seed)
    {
        var random = new SplitMix(seed);
        LockstepProgram program = Place(_maker.Make(random));
        Fill(random);
        for (int run = 0; run < RunsOfProgram; run++)
        {
            if (Run(program, StartState(program, random), random) is { } found)
            {
                return new LockstepDifference(seed, run, program, found);
            }
        }

        return null;
    }

    /// <summary>Runs code once, from registers that are all zero but the stack pointer, with memory of zeros.</summary>
    /// <param name="code">The code.</param>
    /// <param name="explained">What the known faults explained, in order.</param>
    public LockstepDifference? Run(ReadOnlySpan<byte> code, List<KnownFault> explained)
    {
        LockstepProgram program = Place(code.ToArray());
        Array.Clear(_data);
        Array.Clear(_stack);
        RegisterImage start = default;
        start.Rip = program.Start;
        start.Flags = RFlags.Reserved1;
        start[(int)Gpr.Rsp] = _layout.StackPointer;
        Restore();
        LockstepCase? found = RunInStep(program, start, explained);
        Runs++;
        Instructions += (ulong)_unicorn.Trace.Length - 1;
        Count(explained);
        return found is null ? null : new LockstepDifference(0, 0, program, found);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _unicorn.Dispose();
        _model.Dispose();
    }

    // Code never changes where it stands; when the place is used up, Unicorn starts anew, without translations.
    private LockstepProgram Place(byte[] code)
    {
        if (_next + (ulong)code.Length + 64 > _layout.CodeEnd)
        {
            _next = _layout.Code;
            _unicorn.Dispose();
            _unicorn = new UnicornSide(_library, _mode, _model);
        }

        var program = new LockstepProgram(_mode, code, _next);
        _next = (_next + (ulong)code.Length + Behind + 15) & ~15UL;

        // A side that takes another path may go on behind the end: there it halts.
        byte[] placed = [.. code, .. Enumerable.Repeat(Hlt, Behind)];
        _model.Write(program.Address, placed);
        _unicorn.WriteCode(program.Address, placed);
        return program;
    }

    private void Fill(SplitMix random)
    {
        foreach (byte[] bytes in (byte[][])[_data, _stack])
        {
            foreach (ref ulong word in System.Runtime.InteropServices.MemoryMarshal.Cast<byte, ulong>(bytes.AsSpan()))
            {
                word = random.Next();
            }
        }

        Restore();
    }

    // Both sides get the memory that was kept.
    private void Restore()
    {
        _model.Write(_layout.Data, _data);
        _model.Write(_layout.Stack, _stack);
        _data.CopyTo(_unicorn.Memory(_layout.Data, _data.Length));
        _stack.CopyTo(_unicorn.Memory(_layout.Stack, _stack.Length));
    }

    private void Keep()
    {
        _unicorn.Memory(_layout.Data, _data.Length).CopyTo(_data);
        _unicorn.Memory(_layout.Stack, _stack.Length).CopyTo(_stack);
    }

    private RegisterImage StartState(LockstepProgram program, SplitMix random)
    {
        RegisterImage start = default;
        bool wide = _mode == FlatMode.Long64;
        for (int i = 0; i < (wide ? 16 : 8); i++)
        {
            start[i] = InstructionMaker.Value(random) & (wide ? ulong.MaxValue : uint.MaxValue);
        }

        start[(int)Gpr.Rsp] = _layout.StackPointer;
        start.Rip = program.Start;
        start.Flags = RFlags.Reserved1 | (random.Next() & RFlags.Arithmetic);
        return start;
    }

    private LockstepCase? Run(LockstepProgram program, in RegisterImage start, SplitMix random)
    {
        Keep();
        _unicorn.Run(start, program);
        int count = Entries(program);
        Runs++;
        Instructions += (ulong)count - 1;
        int stride = random.Below(3) switch { 0 => 1, 1 => 2 + (int)random.Below(14), _ => int.MaxValue };
        if (Agrees(program, start, count, stride) && EndsAlike(count) && SameMemory() is null && SameSelectors())
        {
            Exceptions += _unicorn.End.Kind >= UnicornEndKind.Exception ? 1UL : 0;
            return null;
        }

        Restore();
        var explained = new List<KnownFault>();
        LockstepCase? found = RunInStep(program, start, explained);
        Count(explained);
        if (found is null && explained.Count == 0)
        {
            Restore();
            found = FindInBlocks(program, start);
        }

        return found;
    }

    private void Count(List<KnownFault> explained)
    {
        foreach (KnownFault fault in explained)
        {
            Met[_known.IndexOf(fault)]++;
        }
    }

    // Takes the record over, without what is no instruction of its own.
    private int Entries(LockstepProgram program)
    {
        ReadOnlySpan<RegisterImage> trace = _unicorn.Trace;
        int count = 0;
        for (int i = 0; i < trace.Length; i++)
        {
            if (i == 0 || !program.IsLastLook(trace[i - 1], trace[i]))
            {
                _entries[count++] = trace[i];
            }
        }

        return count;
    }

    private bool Agrees(LockstepProgram program, in RegisterImage start, int count, int stride)
    {
        _model.Load(start, program);
        ulong undefined = 0;
        for (int at = 0; at < count - 1;)
        {
            int stop = (int)Math.Min((long)at + stride, count - 1);
            if (!Extent(program, at, ref stop, ref undefined, out UndefinedRegister free))
            {
                return false;
            }

            if (_model.RunTo((ulong)stop) != CpuStop.Requested)
            {
                return false;
            }

            RegisterImage image = _model.Read();
            ref readonly RegisterImage expected = ref _entries[stop];
            if (RegisterImage.Differences(image, expected, ComparedFlags & ~undefined, free) != 0)
            {
                return false;
            }

            // What is undefined is Unicorn's from here on.
            at = stop;
            if (free.Bits != 0 || (at < count - 1 && program.At(expected.Rip) is { } next && (undefined & next.FlagsRead) != 0))
            {
                _model.Set(expected);
                undefined = 0;
            }
        }

        return true;
    }

    // The end of a run: none, or an exception at the last instruction, which has done nothing.
    private bool EndsAlike(int count) => _unicorn.End.Kind switch
    {
        UnicornEndKind.Error => false,
        UnicornEndKind.Exception or UnicornEndKind.Unmapped => _model.RunTo((ulong)count) == CpuStop.Event && _model.Retired == (ulong)count - 1 && SameException(),
        _ => true,
    };

    private bool SameException() => _model.Processor.ReportedEvent is var raised && raised.Vector == _unicorn.End.Number
        && (raised.Vector != Vector.Pf || _unicorn.End.Kind == UnicornEndKind.Unmapped || raised.Address == _unicorn.Cr2);

    // How far VmFuzz may run: up to the next instruction that reads undefined flags, or behind one that leaves registers undefined.
    private bool Extent(LockstepProgram program, int at, ref int stop, ref ulong undefined, out UndefinedRegister free)
    {
        free = default;
        for (int i = at; i < stop; i++)
        {
            if (program.At(_entries[i].Rip) is not { } facts)
            {
                return false;
            }

            if (i > at && (undefined & facts.FlagsRead) != 0)
            {
                stop = i;
                break;
            }

            undefined = facts.UndefinedAfter(undefined, _entries[i][(int)Gpr.Rcx], _entries[i + 1].Flags, out free);
            if (free.Bits != 0)
            {
                stop = i + 1;
                break;
            }
        }

        return true;
    }

    private bool SameSelectors()
    {
        for (SegmentRegister segment = SegmentRegister.Es; segment <= SegmentRegister.Gs; segment++)
        {
            if (_model.Processor.Segment(segment).Selector != _unicorn.Selector(segment))
            {
                return false;
            }
        }

        return true;
    }

    private ulong? SameMemory() => Different(_layout.Data, LockstepMemory.DataBytes) ?? Different(_layout.Stack, LockstepMemory.StackBytes);

    private ulong? Different(ulong address, int bytes)
    {
        ReadOnlySpan<byte> theirs = _unicorn.Memory(address, bytes);
        if (_model.Holds(address, theirs))
        {
            return null;
        }

        byte[] mine = new byte[bytes];
        _model.Read(address, mine);
        return address + (ulong)theirs.CommonPrefixLength(mine);
    }

    // Both one instruction at a time. A difference that a known fault explains ends with Unicorn's state on both sides.
    private LockstepCase? RunInStep(LockstepProgram program, RegisterImage start, List<KnownFault> explained)
    {
        _model.Load(start, program);
        RegisterImage before = start;
        RegisterImage last = default;
        ulong undefined = 0;
        ulong retired = 0;
        LockstepCase? found = null;
        bool left = false;
        _unicorn.Watcher = place =>
        {
            RegisterImage now = _unicorn.Trace[place];
            bool look = place > 0 && program.IsLastLook(last, now);
            last = now;
            return place == 0 || look || Step(now, LockstepCase.Retired);
        };
        _unicorn.Run(start, program);
        _unicorn.Watcher = null;
        if (left)
        {
            throw new InvalidOperationException($"the program {Convert.ToHexStringLower(program.Code)} left its code");
        }

        if (found is null)
        {
            UnicornEnd end = _unicorn.End;
            if (end.Kind == UnicornEndKind.Completed)
            {
                Step(_unicorn.Trace[^1], LockstepCase.Retired);
            }
            else if (end.Kind != UnicornEndKind.Cut)
            {
                Step(before, end switch
                {
                    { Kind: UnicornEndKind.Error } => $"error {end.Number}",
                    { Kind: UnicornEndKind.Exception, Number: Vector.Pf } => LockstepCase.PageFault(_unicorn.Cr2),
                    _ => LockstepCase.Exception(end.Number),
                });
            }
        }

        return found;

        bool Step(in RegisterImage theirs, string theirEnd)
        {
            if (program.At(before.Rip) is not { } facts)
            {
                left = true;
                return false;
            }

            undefined = facts.UndefinedAfter(undefined, before[(int)Gpr.Rcx], theirs.Flags, out UndefinedRegister free);
            string end = LockstepCase.EndOf(_model.RunTo(++retired), _model.Processor);
            RegisterImage mine = _model.Read();
            ulong? memory = SameMemory();
            ulong flags = ComparedFlags & ~undefined;
            if (!LockstepCase.SameEnd(end, theirEnd) || memory is not null || RegisterImage.Differences(mine, theirs, flags, free) != 0 || !SameSelectors())
            {
                var made = new LockstepCase(facts, before, mine, theirs, flags, end, theirEnd, memory);
                if (_known.FirstOrDefault(fault => fault.Explains(made)) is not { } fault)
                {
                    found = made;
                    return false;
                }

                explained.Add(fault);
                Adopt();
                if (end != theirEnd)
                {
                    return false;
                }
            }

            // Undefined flags are Unicorn's from here on.
            _model.Set(theirs);
            undefined = 0;
            before = theirs;
            return true;
        }
    }

    private void Adopt()
    {
        Keep();
        _model.Write(_layout.Data, _data);
        _model.Write(_layout.Stack, _stack);
    }

    // A difference that is there in strides only: the first count at which it shows.
    private LockstepCase? FindInBlocks(LockstepProgram program, in RegisterImage start)
    {
        _unicorn.Run(start, program);
        int count = Entries(program);
        for (int length = 1; length <= count; length++)
        {
            _model.Write(_layout.Data, _data);
            _model.Write(_layout.Stack, _stack);
            int stop = Math.Min(length, count - 1);
            bool agrees = Agrees(program, start, stop + 1, int.MaxValue) && (length < count || (EndsAlike(count) && SameMemory() is null));
            if (!agrees && program.At(_entries[Math.Max(stop - 1, 0)].Rip) is { } facts)
            {
                return new LockstepCase(
                    facts, _entries[Math.Max(stop - 1, 0)], _model.Read(), _entries[stop], ComparedFlags, "retired in a block", LockstepCase.Retired, SameMemory());
            }
        }

        return null;
    }
}

/// <summary>A difference that nothing explains, and where it was found.</summary>
/// <param name="Seed">Seed of the program.</param>
/// <param name="Run">Which run of it, from 0.</param>
/// <param name="Program">The program.</param>
/// <param name="Case">The instruction.</param>
internal sealed record LockstepDifference(ulong Seed, int Run, LockstepProgram Program, LockstepCase Case);
