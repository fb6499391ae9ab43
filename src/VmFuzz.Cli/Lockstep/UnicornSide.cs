using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Machines;

namespace VmFuzz.Cli.Lockstep;

/// <summary>The side of Unicorn: an engine with its own memory that records the registers before every instruction it executes.</summary>
// SAFETY: memory, trace and the block that the hooks are given are native memory of this object, freed after the engine is
// closed; the hooks are called only while Run runs.
internal sealed unsafe class UnicornSide : IDisposable
{
    /// <summary>Most instructions of a run.</summary>
    public const int LongestTrace = 4096;

    private readonly UnicornEngine _engine;
    private readonly FlatMode _mode;
    private readonly byte* _memory;
    private readonly Recording* _recording;
    private readonly int[] _registers;
    private bool _segmentsLoaded;

    /// <summary>Opens an engine in the state that a machine is in, and copies its memory.</summary>
    public UnicornSide(UnicornLibrary library, FlatMode mode, ModelSide model)
    {
        _mode = mode;
        _registers = mode == FlatMode.Long64 ? UnicornNumbers.Wide : UnicornNumbers.Narrow;
        _memory = (byte*)NativeMemory.AlignedAlloc((nuint)LockstepMemory.Bytes, 4096);
        _recording = (Recording*)NativeMemory.AllocZeroed((nuint)sizeof(Recording));
        _recording->Images = (RegisterImage*)NativeMemory.AllocZeroed(LongestTrace + 1, (nuint)sizeof(RegisterImage));
        model.CopyMemory(new Span<byte>(_memory, (int)LockstepMemory.Bytes));
        _engine = new UnicornEngine(library, mode);
        _engine.Map(0, _memory, LockstepMemory.Bytes);
        _engine.SetSystem(mode, model.State);
        _engine.Save();
        _recording->ReadRegisters = library.ReadRegisters;
        _recording->Stop = library.Stop;
        _recording->Count = _registers.Length - 2;
        for (int i = 0; i < _registers.Length; i++)
        {
            _recording->Numbers[i] = _registers[i];
            _recording->Places[i] = (ulong)((ulong*)&_recording->Scratch + (i < _recording->Count ? i : RegisterImage.Words - _registers.Length + i));
        }

        _engine.Hook(UnicornNumbers.HookCode, (delegate* unmanaged[Cdecl]<nint, ulong, uint, Recording*, void>)&OnCode, _recording);
        _engine.Hook(UnicornNumbers.HookInterrupt, (delegate* unmanaged[Cdecl]<nint, uint, Recording*, void>)&OnInterrupt, _recording);
    }

    /// <summary>Registers before each instruction of the last run.</summary>
    public ReadOnlySpan<RegisterImage> Trace => new(_recording->Images, _recording->Used);

    /// <summary>How the last run ended.</summary>
    public UnicornEnd End { get; private set; }

    /// <summary>Called with the place in the trace before each instruction; false ends the run. Null calls nothing.</summary>
    public Func<int, bool>? Watcher { get; set; }

    /// <summary>Its memory.</summary>
    public Span<byte> Memory(ulong address, int bytes) => new(_memory + address, bytes);

    /// <summary>A segment register's selector.</summary>
    public ulong Selector(SegmentRegister segment) => _engine.Read(UnicornNumbers.Segments[(int)segment]) & 0xFFFF;

    /// <summary>CR2.</summary>
    public ulong Cr2 => _engine.Read(UnicornNumbers.Cr2);

    /// <summary>Puts code where none has been executed.</summary>
    public void WriteCode(ulong address, ReadOnlySpan<byte> code) => code.CopyTo(Memory(address, code.Length));

    /// <summary>Runs a program from its first byte to its end, or to its first exception.</summary>
    /// <param name="start">The registers.</param>
    /// <param name="program">The program.</param>
    public void Run(in RegisterImage start, LockstepProgram program)
    {
        (ulong codeBase, ulong end) = (program.CodeBase, program.End);
        GCHandle watcher = Watcher is null ? default : GCHandle.Alloc(Watcher);
        _recording->Watcher = watcher.IsAllocated ? GCHandle.ToIntPtr(watcher) : 0;
        if (_segmentsLoaded || End.Kind >= UnicornEndKind.Exception)
        {
            // Or, behind an exception, the next exception becomes a double fault.
            _engine.Restore();
        }

        _segmentsLoaded = program.LoadsSegments;
        SetRegisters(start, codeBase);
        _recording->CodeBase = codeBase;
        _recording->Used = 0;
        _recording->Interrupt = -1;
        _recording->Full = 0;
        int error = _engine.Run(codeBase + start.Rip, end);
        if (watcher.IsAllocated)
        {
            watcher.Free();
        }

        ReadScratch();
        End = _recording->Full != 0 ? UnicornEnd.Cut
            : _recording->Interrupt >= 0 ? UnicornEnd.Exception((byte)_recording->Interrupt)
            : error == UnicornEngine.Ok && (_recording->Scratch.Rip != end - codeBase) ? UnicornEnd.Lost
            : UnicornEnd.OfError(error);
        if (End.Kind == UnicornEndKind.Completed)
        {
            RegisterImage last = _recording->Scratch;
            last.Rip = end - codeBase;
            _recording->Images[_recording->Used++] = last;
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _engine.Dispose();
        NativeMemory.AlignedFree(_memory);
        NativeMemory.Free(_recording->Images);
        NativeMemory.Free(_recording);
    }

    private void SetRegisters(in RegisterImage image, ulong codeBase)
    {
        RegisterImage copy = image;
        ulong* words = (ulong*)&copy;
        int count = _recording->Count;
        void** places = stackalloc void*[RegisterImage.Words];
        for (int i = 0; i < count; i++)
        {
            places[i] = words + i;
        }

        fixed (int* numbers = _registers)
        {
            _engine.Library.WriteRegisters(_engine.Handle, numbers, places, count);
        }

        _engine.Set(_registers[^1], image.Flags);
        if (_mode == FlatMode.Real16)
        {
            _engine.Set(UnicornNumbers.Cs, codeBase >> 4);
        }
    }

    private void ReadScratch() =>
        _recording->ReadRegisters(_engine.Handle, _recording->Numbers, (void**)_recording->Places, _registers.Length);

    [UnmanagedCallersOnly(CallConvs = [typeof(CallConvCdecl)])]
    private static void OnCode(nint engine, ulong address, uint size, Recording* recording)
    {
        if (recording->Interrupt >= 0)
        {
            recording->Stop(engine);
            return;
        }

        if (recording->Used >= LongestTrace)
        {
            recording->Full = 1;
            recording->Stop(engine);
            return;
        }

        recording->ReadRegisters(engine, recording->Numbers, (void**)recording->Places, recording->Count + 2);
        RegisterImage* image = recording->Images + recording->Used++;
        *image = recording->Scratch;
        image->Rip = address - recording->CodeBase;
        if (recording->Watcher != 0 && !((Func<int, bool>)GCHandle.FromIntPtr(recording->Watcher).Target!)(recording->Used - 1))
        {
            recording->Full = 1;
            recording->Stop(engine);
        }
    }

    // Execution goes on with the same instruction, before which the run is stopped.
    [UnmanagedCallersOnly(CallConvs = [typeof(CallConvCdecl)])]
    private static void OnInterrupt(nint engine, uint number, Recording* recording) => recording->Interrupt = (int)number;

    // What the hooks are given.
    private struct Recording
    {
        public RegisterImage Scratch;
        public RegisterImage* Images;
        public delegate* unmanaged[Cdecl]<nint, int*, void**, int, int> ReadRegisters;
        public delegate* unmanaged[Cdecl]<nint, int> Stop;
        public ulong CodeBase;
        public nint Watcher;
        public int Used;
        public int Count;
        public int Interrupt;
        public int Full;
        public fixed int Numbers[RegisterImage.Words];
        public fixed ulong Places[RegisterImage.Words];
    }
}

/// <summary>How a run in Unicorn ended.</summary>
internal enum UnicornEndKind
{
    /// <summary>At the program's end.</summary>
    Completed,

    /// <summary>It was longer than is recorded; the last recorded instruction was not executed.</summary>
    Cut,

    /// <summary>The last recorded instruction raised an exception.</summary>
    Exception,

    /// <summary>The last recorded instruction accesses what the library has no memory for, which it finds before a page fault.</summary>
    Unmapped,

    /// <summary>The library gave up at the last recorded instruction.</summary>
    Error,
}

/// <summary>How a run in Unicorn ended.</summary>
/// <param name="Kind">How.</param>
/// <param name="Number">The exception's vector, or the library's error.</param>
internal readonly record struct UnicornEnd(UnicornEndKind Kind, int Number)
{
    // Of unicorn.h.
    private const int InvalidInstruction = 10;
    private const int ReadUnmapped = 6;
    private const int WriteUnmapped = 7;

    public static UnicornEnd Lost => new(UnicornEndKind.Error, 0);

    public static UnicornEnd Cut => new(UnicornEndKind.Cut, 0);

    public static UnicornEnd Exception(byte vector) => new(UnicornEndKind.Exception, vector);

    public static UnicornEnd OfError(int error) => error switch
    {
        UnicornEngine.Ok => default,
        InvalidInstruction => Exception(Vector.Ud),
        ReadUnmapped or WriteUnmapped => new UnicornEnd(UnicornEndKind.Unmapped, Vector.Pf),
        _ => new UnicornEnd(UnicornEndKind.Error, error),
    };
}
