using Iced.Intel;
using VmFuzz.Arch;

namespace VmFuzz.Cpu.Microcode;

/// <summary>What the integer families share: sizes, widths, flags, jumps.</summary>
internal static unsafe class Ops
{
    /// <summary>The six flags, as the undefined-flags mask of a row.</summary>
    public const ulong AllFlags = RFlags.Arithmetic;

    /// <summary>The pseudo-register slot of RIP.</summary>
    public static ref ulong Rip(Processor cpu) => ref cpu.State->Gpr[CpuState.RipSlot];

    /// <summary>Offset of the next instruction, cut to the width of the code segment.</summary>
    public static ulong NextRip(in Instruction ins) => ins.CodeSize switch
    {
        CodeSize.Code16 => ins.NextIP16,
        CodeSize.Code32 => ins.NextIP32,
        _ => ins.NextIP,
    };

    /// <summary>Whether the code segment holds the offset (SDM "JMP", "#GP(0) if offset is outside the CS limit").</summary>
    public static bool TargetAllowed(Processor cpu, ulong target) =>
        cpu.Code64 ? cpu.IsCanonical(target) : target <= cpu.State->Cs.Limit;

    /// <summary>Sets RIP, or #GP(0) when the target lies outside the code segment.</summary>
    public static ExecResult JumpTo(Processor cpu, ulong target)
    {
        if (!TargetAllowed(cpu, target))
        {
            return cpu.Fault(GuestFault.Gp());
        }

        Rip(cpu) = target;
        return ExecResult.Jump;
    }

    /// <summary>Reads the low bytes of a general register, zero-extended.</summary>
    public static ulong Read(Processor cpu, Gpr register, int size) => cpu[register] & Processor.MaskOfSize(size);

    /// <summary>Writes the low bytes of a general register; four bytes clear the upper half.</summary>
    public static void Write(Processor cpu, Gpr register, int size, ulong value)
    {
        ref ulong slot = ref cpu[register];
        slot = size switch
        {
            1 => (slot & ~0xFFUL) | (byte)value,
            2 => (slot & ~0xFFFFUL) | (ushort)value,
            4 => (uint)value,
            _ => value,
        };
    }

    /// <summary>Cuts a value to a size in bytes.</summary>
    public static ulong Cut(ulong value, int size) => value & Processor.MaskOfSize(size);

    /// <summary>The most significant bit of a value of the given size.</summary>
    public static bool Msb(ulong value, int size) => ((value >> ((size * 8) - 1)) & 1) != 0;

    /// <summary>CF as 0 or 1.</summary>
    public static ulong Carry(Processor cpu) => LazyFlags.Carry(cpu.State) ? 1UL : 0;

    /// <summary>A flag bit, or 0.</summary>
    public static ulong Bit(bool set, ulong flag) => set ? flag : 0;

    /// <summary>Iced's condition of Jcc, SETcc, CMOVcc as the low four opcode bits.</summary>
    public static int ConditionOf(in Instruction ins) => (int)ins.ConditionCode - 1;

    /// <summary>Flags of a logic result, with CF given.</summary>
    public static void FlagsLogicCarry(Processor cpu, int size, ulong result, bool carry) =>
        cpu.FlagsSet(RFlags.Arithmetic, Processor.ZeroSignParity(size, result) | Bit(carry, RFlags.Cf));

    /// <summary>Flags of INC or DEC: all but CF.</summary>
    public static void FlagsStep(Processor cpu, LazyKind kind, int size, ulong result, ulong left)
    {
        CpuState* s = cpu.State;
        s->LazyCarry = Carry(cpu);
        s->Lazy = kind;
        s->LazyResult = Processor.SignExtend(result, size);
        s->LazyLeft = Processor.SignExtend(left, size);
        s->LazyRight = 1;
    }

    /// <summary>Whether instructions with a VEX prefix exist in the current mode (not in real and virtual-8086 mode).</summary>
    public static bool VexAllowed(Processor cpu) => cpu.Protected && !cpu.Virtual8086;

    /// <summary>#UD.</summary>
    public static ExecResult Undefined(Processor cpu) => cpu.Fault(GuestFault.Ud);

    /// <summary>A row that does nothing.</summary>
    public static ExecResult Nothing(Processor cpu, in Instruction ins) => ExecResult.Next;
}
