using System.Globalization;
using System.Runtime.InteropServices;

namespace VmFuzz.Cli.Lockstep;

/// <summary>libunicorn, found when the command runs: its functions, or why they are not here.</summary>
// SAFETY: the pointers are exports of a library that stays loaded until the process ends; their signatures are those of its
// header unicorn.h, version 2. Those with variable arguments are only given integers and pointers, which every supported
// calling convention passes as it passes fixed ones.
internal sealed unsafe class UnicornLibrary
{
    /// <summary>What to do about a missing library.</summary>
    public const string HowToInstall = "install Unicorn 2 (Debian: libunicorn2)";

    private static readonly string[] Names = ["libunicorn.so.2", "libunicorn.so", "libunicorn.2.dylib", "libunicorn.dylib", "unicorn.dll"];

    private static readonly Lazy<(UnicornLibrary? Library, string Missing)> Loaded = new(static () => Load(Names));

    private UnicornLibrary(nint library)
    {
        Open = (delegate* unmanaged[Cdecl]<int, int, nint*, int>)NativeLibrary.GetExport(library, "uc_open");
        Close = (delegate* unmanaged[Cdecl]<nint, int>)NativeLibrary.GetExport(library, "uc_close");
        Control = (delegate* unmanaged[Cdecl]<nint, uint, nint, nint, int>)NativeLibrary.GetExport(library, "uc_ctl");
        MapPointer = (delegate* unmanaged[Cdecl]<nint, ulong, nuint, uint, void*, int>)NativeLibrary.GetExport(library, "uc_mem_map_ptr");
        WriteMemory = (delegate* unmanaged[Cdecl]<nint, ulong, void*, nuint, int>)NativeLibrary.GetExport(library, "uc_mem_write");
        ReadRegister = (delegate* unmanaged[Cdecl]<nint, int, void*, int>)NativeLibrary.GetExport(library, "uc_reg_read");
        WriteRegister = (delegate* unmanaged[Cdecl]<nint, int, void*, int>)NativeLibrary.GetExport(library, "uc_reg_write");
        ReadRegisters = (delegate* unmanaged[Cdecl]<nint, int*, void**, int, int>)NativeLibrary.GetExport(library, "uc_reg_read_batch");
        WriteRegisters = (delegate* unmanaged[Cdecl]<nint, int*, void**, int, int>)NativeLibrary.GetExport(library, "uc_reg_write_batch");
        AddHook = (delegate* unmanaged[Cdecl]<nint, nuint*, int, void*, void*, ulong, ulong, int>)NativeLibrary.GetExport(library, "uc_hook_add");
        Start = (delegate* unmanaged[Cdecl]<nint, ulong, ulong, ulong, nuint, int>)NativeLibrary.GetExport(library, "uc_emu_start");
        Stop = (delegate* unmanaged[Cdecl]<nint, int>)NativeLibrary.GetExport(library, "uc_emu_stop");
        AllocateContext = (delegate* unmanaged[Cdecl]<nint, nint*, int>)NativeLibrary.GetExport(library, "uc_context_alloc");
        SaveContext = (delegate* unmanaged[Cdecl]<nint, nint, int>)NativeLibrary.GetExport(library, "uc_context_save");
        RestoreContext = (delegate* unmanaged[Cdecl]<nint, nint, int>)NativeLibrary.GetExport(library, "uc_context_restore");
        FreeContext = (delegate* unmanaged[Cdecl]<nint, int>)NativeLibrary.GetExport(library, "uc_context_free");
        var text = (delegate* unmanaged[Cdecl]<uint*, uint*, uint>)NativeLibrary.GetExport(library, "uc_version");
        uint major, minor;
        uint version = text(&major, &minor);
        Major = (int)major;
        Version = string.Create(CultureInfo.InvariantCulture, $"{major}.{minor}.{(version >> 8) & 0xFF}");
    }

    /// <summary>Its version.</summary>
    public string Version { get; }

    public int Major { get; }

    public delegate* unmanaged[Cdecl]<int, int, nint*, int> Open { get; }

    public delegate* unmanaged[Cdecl]<nint, int> Close { get; }

    public delegate* unmanaged[Cdecl]<nint, uint, nint, nint, int> Control { get; }

    public delegate* unmanaged[Cdecl]<nint, ulong, nuint, uint, void*, int> MapPointer { get; }

    public delegate* unmanaged[Cdecl]<nint, ulong, void*, nuint, int> WriteMemory { get; }

    public delegate* unmanaged[Cdecl]<nint, int, void*, int> ReadRegister { get; }

    public delegate* unmanaged[Cdecl]<nint, int, void*, int> WriteRegister { get; }

    public delegate* unmanaged[Cdecl]<nint, int*, void**, int, int> ReadRegisters { get; }

    public delegate* unmanaged[Cdecl]<nint, int*, void**, int, int> WriteRegisters { get; }

    public delegate* unmanaged[Cdecl]<nint, nuint*, int, void*, void*, ulong, ulong, int> AddHook { get; }

    public delegate* unmanaged[Cdecl]<nint, ulong, ulong, ulong, nuint, int> Start { get; }

    public delegate* unmanaged[Cdecl]<nint, int> Stop { get; }

    public delegate* unmanaged[Cdecl]<nint, nint*, int> AllocateContext { get; }

    public delegate* unmanaged[Cdecl]<nint, nint, int> SaveContext { get; }

    public delegate* unmanaged[Cdecl]<nint, nint, int> RestoreContext { get; }

    public delegate* unmanaged[Cdecl]<nint, int> FreeContext { get; }

    /// <summary>The library of this host, loaded once.</summary>
    /// <param name="missing">Why there is none; empty when there is.</param>
    public static UnicornLibrary? Find(out string missing)
    {
        missing = Loaded.Value.Missing;
        return Loaded.Value.Library;
    }

    /// <summary>Loads the first library of some names that is here.</summary>
    /// <param name="names">The names.</param>
    /// <returns>The library, or why there is none.</returns>
    internal static (UnicornLibrary? Library, string Missing) Load(IEnumerable<string> names)
    {
        if (RuntimeInformation.ProcessArchitecture != Architecture.X64 && RuntimeInformation.ProcessArchitecture != Architecture.Arm64)
        {
            return (null, $"libunicorn is not used on {RuntimeInformation.ProcessArchitecture} hosts");
        }

        foreach (string name in names)
        {
            if (NativeLibrary.TryLoad(name, out nint handle))
            {
                try
                {
                    var library = new UnicornLibrary(handle);
                    return library.Major == 2 ? (library, "") : (null, $"{name} is version {library.Version}; version 2 is needed");
                }
                catch (EntryPointNotFoundException error)
                {
                    return (null, $"{name} is not Unicorn 2: {error.Message}");
                }
            }
        }

        return (null, "libunicorn is not here");
    }
}
