using System.Reflection.Emit;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using VmFuzz.Cpu.Blocks;

namespace VmFuzz.Cpu.Regions;

/// <summary>A block of a region and what is known of it.</summary>
/// <param name="Address">The block.</param>
internal readonly unsafe record struct RegionBlock(nint Address)
{
    /// <summary>The block.</summary>
    public Block* Block => (Block*)Address;
}

/// <summary>Blocks of one page, compiled into one method.</summary>
/// <remarks>
/// All blocks lie in one page under one virtual address and one mode, so the region is valid for as long as they are: a
/// change of the page's bytes makes them unreachable, and the region with them. Registers, flags and budget live in locals
/// while it runs; whatever it cannot do is done by the op of the instruction, after everything was written back.
/// </remarks>
internal sealed unsafe class Region : IDisposable
{
    private readonly DynamicMethod _method;

    /// <summary>Keeps a compiled method and what it uses.</summary>
    /// <param name="method">The method.</param>
    /// <param name="entries">The blocks that it can be entered at; the place in the list is the number of the entry.</param>
    /// <param name="targets">For each byte of the page the entry there, plus 1; 0 for none. Null when no branch asks.</param>
    public Region(DynamicMethod method, IReadOnlyList<RegionBlock> entries, byte* targets)
    {
        _method = method;
        Entries = entries;
        Targets = targets;
        RuntimeMethodHandle handle = GetMethodDescriptor(method);
        Code = (delegate* managed<CpuState*, Op*, Op*>)handle.GetFunctionPointer();
    }

    /// <summary>The blocks that it can be entered at.</summary>
    public IReadOnlyList<RegionBlock> Entries { get; }

    /// <summary>The compiled method, a handler of heads.</summary>
    public delegate* managed<CpuState*, Op*, Op*> Code { get; }

    private byte* Targets { get; set; }

    /// <summary>Takes the map that a region's indirect branches read: one byte for each byte of a page.</summary>
    public static byte* AllocateTargets() => (byte*)NativeMemory.AllocZeroed(4096);

    /// <summary>Frees the map. The method must not run any more, and no head may name it.</summary>
    public void Dispose()
    {
        NativeMemory.Free(Targets);
        Targets = null;
        GC.KeepAlive(_method);
    }

    // The runtime's own way to the code of a dynamic method, without the indirection of a delegate.
    [UnsafeAccessor(UnsafeAccessorKind.Method, Name = "GetMethodDescriptor")]
    private static extern RuntimeMethodHandle GetMethodDescriptor(DynamicMethod method);
}
