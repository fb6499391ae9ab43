using System.Globalization;
using System.Runtime.InteropServices;
using VmFuzz.Cpu;
using VmFuzz.Machines;

namespace VmFuzz.Cli.Lockstep;

/// <summary>One Unicorn engine for x86 code of one size: memory, registers, runs.</summary>
/// <remarks>Every failure of the library that a user cannot cause is an <see cref="InvalidOperationException"/>.</remarks>
internal sealed unsafe class UnicornEngine : IDisposable
{
    /// <summary>UC_ERR_OK.</summary>
    public const int Ok = 0;

    private const int ArchX86 = 4;
    private const int CpuModelControl = 7;
    private const int OneArgument = 1 << 26;
    private const int Write = 1 << 30;

    // Broadwell, the newest of its models whose integer features are also all of VmFuzz's.
    private const int Broadwell = 20;
    private const uint AllRights = 7;

    private readonly UnicornLibrary _library;
    private nint _engine;
    private nint _context;

    /// <summary>Opens an engine.</summary>
    public UnicornEngine(UnicornLibrary library, FlatMode mode)
    {
        _library = library;
        nint engine;
        Check(library.Open(ArchX86, mode switch { FlatMode.Real16 => 2, FlatMode.Protected32 => 4, _ => 8 }, &engine), "uc_open");
        _engine = engine;
        Check(library.Control(engine, CpuModelControl | OneArgument | Write, Broadwell, 0), "uc_ctl");
    }

    /// <summary>The library's handle of the engine.</summary>
    public nint Handle => _engine;

    public UnicornLibrary Library => _library;

    /// <summary>Maps memory of the host, which outlives the engine, as memory of the guest.</summary>
    public void Map(ulong address, void* host, ulong bytes) =>
        Check(_library.MapPointer(_engine, address, (nuint)bytes, AllRights, host), "uc_mem_map_ptr");

    /// <summary>Reads a register of at most 64 bits.</summary>
    public ulong Read(int register)
    {
        ulong value = 0;
        Check(_library.ReadRegister(_engine, register, &value), "uc_reg_read");
        return value;
    }

    /// <summary>Writes a register of at most 64 bits.</summary>
    public void Set(int register, ulong value) => Check(_library.WriteRegister(_engine, register, &value), "uc_reg_write");

    // Writes GDTR, IDTR, LDTR or TR.
    private void SetTable(int register, ulong @base, uint limit)
    {
        var table = new TableRegister { Base = @base, Limit = limit };
        Check(_library.WriteRegister(_engine, register, &table), "uc_reg_write");
    }

    /// <summary>Puts the engine into a mode: tables, segment and control registers of a processor of VmFuzz's.</summary>
    public void SetSystem(FlatMode mode, CpuState* s)
    {
        if (mode == FlatMode.Long64)
        {
            Set(UnicornNumbers.Cr4, s->Cr4);
            Set(UnicornNumbers.Cr3, s->Cr3);
        }

        Set(UnicornNumbers.Cr0, s->Cr0);
        if (mode == FlatMode.Real16)
        {
            return;
        }

        SetTable(UnicornNumbers.Gdtr, s->Gdtr.Base, (uint)s->Gdtr.Limit);
        for (int i = 0; i < UnicornNumbers.Segments.Length; i++)
        {
            Set(UnicornNumbers.Segments[i], (&s->Es)[i].Selector);
        }

        if (mode == FlatMode.Long64)
        {
            Set(UnicornNumbers.FsBase, s->Fs.Base);
            Set(UnicornNumbers.GsBase, s->Gs.Base);
        }
    }

    /// <summary>Calls a function of the library's calling convention at events of a kind.</summary>
    public void Hook(int kind, void* callback, void* user)
    {
        nuint hook;
        Check(_library.AddHook(_engine, &hook, kind, callback, user, 1, 0), "uc_hook_add");
    }

    /// <summary>Keeps the state of the processor for <see cref="Restore"/>.</summary>
    public void Save()
    {
        nint context;
        Check(_library.AllocateContext(_engine, &context), "uc_context_alloc");
        _context = context;
        Check(_library.SaveContext(_engine, context), "uc_context_save");
    }

    /// <summary>Puts the state of <see cref="Save"/> back, with what no register shows: the exception that was raised last.</summary>
    public void Restore() => Check(_library.RestoreContext(_engine, _context), "uc_context_restore");

    /// <summary>Runs from a linear address to another.</summary>
    /// <param name="from">The first instruction.</param>
    /// <param name="until">Where to stop.</param>
    /// <param name="count">Instructions at most; 0 for any number.</param>
    /// <returns>The library's error, <see cref="Ok"/> when there is none.</returns>
    public int Run(ulong from, ulong until, ulong count = 0) => _library.Start(_engine, from, until, 0, (nuint)count);

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_engine != 0)
        {
            if (_context != 0)
            {
                _library.FreeContext(_context);
            }

            _library.Close(_engine);
            _engine = 0;
        }
    }

    private static void Check(int error, string function)
    {
        if (error != Ok)
        {
            throw new InvalidOperationException(string.Create(CultureInfo.InvariantCulture, $"{function} of libunicorn failed with error {error}"));
        }
    }

    // uc_x86_mmr of x86.h.
    [StructLayout(LayoutKind.Sequential)]
    private struct TableRegister
    {
        public ushort Selector;
        public ulong Base;
        public uint Limit;
        public uint Flags;
    }
}

/// <summary>Numbers of registers and of kinds of hooks in the library's headers.</summary>
internal static class UnicornNumbers
{
    public const int Cs = 11;
    public const int Cr0 = 50;
    public const int Cr2 = 52;
    public const int Cr3 = 53;
    public const int Cr4 = 54;
    public const int Gdtr = 243;
    public const int FsBase = 250;
    public const int GsBase = 251;

    public const int HookInterrupt = 1;
    public const int HookCode = 4;

    /// <summary>ES, CS, SS, DS, FS, GS.</summary>
    public static readonly int[] Segments = [28, Cs, 49, 17, 32, 33];

    /// <summary>In the order of <see cref="RegisterImage"/>.</summary>
    public static readonly int[] Wide = [35, 38, 40, 37, 44, 36, 43, 39, 106, 107, 108, 109, 110, 111, 112, 113, 41, 25];

    /// <summary>The same for 16- and 32-bit code, without R8 to R15.</summary>
    public static readonly int[] Narrow = [19, 22, 24, 21, 30, 20, 29, 23, 26, 25];
}
