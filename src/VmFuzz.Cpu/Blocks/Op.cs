using System.Runtime.InteropServices;
using Iced.Intel;

namespace VmFuzz.Cpu.Blocks;

// SAFETY: ops and their block lie in the arena of a BlockStore (or in the processor's one scratch block) and are reused only
// by BlockStore.Clear, which the dispatcher calls while no op runs. Slot is the place of the op in its block, so the header
// and the reference instructions are found by arithmetic inside one allocation.
/// <summary>One pre-decoded instruction: a handler and what it needs, 32 bytes.</summary>
[StructLayout(LayoutKind.Explicit, Size = 32)]
internal unsafe struct Op
{
    /// <summary>Executes the op and goes on with the next; null returns to the dispatcher.</summary>
    [FieldOffset(0)]
    public delegate* managed<CpuState*, Op*, Op*> Handler;

    /// <summary>Immediate; in a link the target op.</summary>
    [FieldOffset(8)]
    public long Immediate;

    /// <summary>Displacement of the memory operand; in a link the generation it was made in.</summary>
    [FieldOffset(16)]
    public int Displacement;

    /// <summary>Byte offset of the destination register in the register file.</summary>
    [FieldOffset(20)]
    public byte R0;

    /// <summary>Byte offset of the source register.</summary>
    [FieldOffset(21)]
    public byte R1;

    /// <summary>Byte offset of the base register; the zero slot when there is none.</summary>
    [FieldOffset(22)]
    public byte Base;

    /// <summary>Byte offset of the index register; the zero slot when there is none.</summary>
    [FieldOffset(23)]
    public byte Index;

    /// <summary>Shift of the index, 0 to 3.</summary>
    [FieldOffset(24)]
    public byte Scale;

    /// <summary>Segment of the memory operand.</summary>
    [FieldOffset(25)]
    public byte Segment;

    /// <summary>Instructions of the block from this one on, this one included.</summary>
    [FieldOffset(26)]
    public byte Remaining;

    /// <summary>Instruction length in bytes.</summary>
    [FieldOffset(27)]
    public byte Length;

    /// <summary>Offset of the instruction from the start of the block.</summary>
    [FieldOffset(28)]
    public ushort Offset;

    /// <summary>Place of this op in its block's array; finds the block.</summary>
    [FieldOffset(30)]
    public ushort Slot;
}

/// <summary>The reference form of an instruction of a block: what slow paths execute.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct Reference
{
    /// <summary>The decoded instruction.</summary>
    public Instruction Instruction;

    /// <summary>Index of its row in the instruction table; -1: none, -2: #UD, -3: #GP.</summary>
    public int Row;

    /// <summary>A specialised handler was chosen for it; behind a branch stand its links.</summary>
    public bool Specialised;
}

/// <summary>A decoded block: header, then ops; its reference instructions stand behind them.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct Block
{
    /// <summary>Physical address of the first byte.</summary>
    public ulong Physical;

    /// <summary>RIP of the first instruction.</summary>
    public ulong Rip;

    /// <summary>Mode bits it was decoded for.</summary>
    public ulong Mode;

    /// <summary>Next block in the hash bucket.</summary>
    public Block* NextInBucket;

    /// <summary>Next block of the same page.</summary>
    public Block* NextInPage;

    /// <summary>Reference forms, one an instruction.</summary>
    public Reference* References;

    /// <summary>Instructions.</summary>
    public int Count;

    /// <summary>Bytes of code.</summary>
    public int Bytes;

    /// <summary>Backing page.</summary>
    public int Page;

    /// <summary>Not 0: may be found by look-up.</summary>
    public int Valid;

    /// <summary>The first op.</summary>
    public static Op* First(Block* block) => (Op*)(block + 1);

    /// <summary>The block an op belongs to.</summary>
    public static Block* Of(Op* op) => (Block*)(op - op->Slot) - 1;
}

/// <summary>One entry of the cache that finds a block by RIP without translation.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct JumpEntry
{
    public ulong Rip;
    public ulong Mode;
    public ulong Generation;
    public Op* Target;
}

/// <summary>Mode bits that are part of a block's key.</summary>
internal static class BlockMode
{
    /// <summary>16-bit code when neither of the two next is set.</summary>
    public const ulong Code32 = 1;
    public const ulong Code64 = 2;
    public const ulong CodeMask = 3;

    /// <summary>SS.B, the stack pointer is 32 bits wide.</summary>
    public const ulong Stack32 = 4;

    /// <summary>DS, ES and SS are flat, writable 4 GiB segments.</summary>
    public const ulong Flat = 8;

    /// <summary>The CS limit is neither 4 GiB nor 64 KiB: no links, the dispatcher checks.</summary>
    public const ulong OddLimit = 16;

    /// <summary>The CS limit is 64 KiB.</summary>
    public const ulong Limit64K = 32;

    /// <summary>CPL 3.</summary>
    public const ulong User = 64;

    /// <summary>Blocks of one instruction.</summary>
    public const ulong Single = 128;

    /// <summary>Outside of 64-bit mode the base of CS, 32 bits, stands from this bit on.</summary>
    public const int BaseShift = 32;
}
