using System.Collections.Immutable;
using Iced.Intel;
using VmFuzz.Arch;

namespace VmFuzz.Cpu.Microcode;

/// <summary>INT n, INT3, INTO, INT1, BOUND and the instructions that are always undefined.</summary>
internal static unsafe class Interrupts
{
    public static readonly ImmutableArray<InstructionRow> Rows =
    [
        new(Mnemonic.Int, static (Processor cpu, in Instruction ins) => Software(cpu, ins, ins.Immediate8, EventType.SoftwareInterrupt), InstructionTraits.EndsBlock),
        new(Mnemonic.Int3, static (Processor cpu, in Instruction ins) => Software(cpu, ins, Vector.Bp, EventType.SoftwareException), InstructionTraits.EndsBlock),
        new(Mnemonic.Int1, static (Processor cpu, in Instruction ins) => Software(cpu, ins, Vector.Db, EventType.PrivilegedSoftwareException), InstructionTraits.EndsBlock),
        new(Mnemonic.Into, Into, InstructionTraits.EndsBlock),
        new(Mnemonic.Bound, Bound),
        new(Mnemonic.Ud0, Undefined, InstructionTraits.EndsBlock),
        new(Mnemonic.Ud1, Undefined, InstructionTraits.EndsBlock),
        new(Mnemonic.Ud2, Undefined, InstructionTraits.EndsBlock),
    ];

    internal static ExecResult Undefined(Processor cpu, in Instruction ins) => cpu.Fault(GuestFault.Ud);

    private static ExecResult Software(Processor cpu, in Instruction ins, byte vector, EventType type)
    {
        GuestEvent raised = new(vector, type, InstructionLength: (byte)ins.Length);

        // When a fault on the way was delivered instead, the instruction did not complete.
        return cpu.DeliverEvent(raised) && !cpu.DeliveredAnother ? ExecResult.Jump : ExecResult.Abort;
    }

    private static ExecResult Into(Processor cpu, in Instruction ins) =>
        LazyFlags.Overflow(cpu.State) ? Software(cpu, ins, Vector.Of, EventType.SoftwareException) : ExecResult.Next;

    private static ExecResult Bound(Processor cpu, in Instruction ins)
    {
        int size = Processor.GprSize(ins.Op0Register);
        ulong at = cpu.EffectiveAddress(ins, out SegmentRegister segment);
        ulong second = (at + (ulong)size) & Processor.AddressMask(ins);
        if (!cpu.ReadMemory(segment, at, size, out ulong low) || !cpu.ReadMemory(segment, second, size, out ulong high))
        {
            return ExecResult.Abort;
        }

        long index = Processor.SignExtend(cpu.ReadGpr(ins.Op0Register), size);
        bool inside = index >= Processor.SignExtend(low, size) && index <= Processor.SignExtend(high, size);
        return inside ? ExecResult.Next : cpu.Fault(new GuestFault(Vector.Br));
    }
}
