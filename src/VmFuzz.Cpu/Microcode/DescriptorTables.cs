using System.Collections.Immutable;
using Iced.Intel;
using VmFuzz.Arch;

namespace VmFuzz.Cpu.Microcode;

/// <summary>LGDT to STR, and VERR, VERW, LAR, LSL, ARPL.</summary>
internal static unsafe class DescriptorTables
{
    public static readonly ImmutableArray<InstructionRow> Rows =
    [
        new(Mnemonic.Lgdt, static (Processor cpu, in Instruction ins) => LoadTable(cpu, ins, 2), InstructionTraits.EndsBlock),
        new(Mnemonic.Lidt, static (Processor cpu, in Instruction ins) => LoadTable(cpu, ins, 3), InstructionTraits.EndsBlock),
        new(Mnemonic.Sgdt, static (Processor cpu, in Instruction ins) => StoreTable(cpu, ins, 0), InstructionTraits.EndsBlock),
        new(Mnemonic.Sidt, static (Processor cpu, in Instruction ins) => StoreTable(cpu, ins, 1), InstructionTraits.EndsBlock),
        new(Mnemonic.Sldt, static (Processor cpu, in Instruction ins) => StoreSelector(cpu, ins, 0), InstructionTraits.EndsBlock),
        new(Mnemonic.Str, static (Processor cpu, in Instruction ins) => StoreSelector(cpu, ins, 1), InstructionTraits.EndsBlock),
        new(Mnemonic.Lldt, static (Processor cpu, in Instruction ins) => LoadSelector(cpu, ins, 2), InstructionTraits.EndsBlock),
        new(Mnemonic.Ltr, static (Processor cpu, in Instruction ins) => LoadSelector(cpu, ins, 3), InstructionTraits.EndsBlock),
        new(Mnemonic.Verr, static (Processor cpu, in Instruction ins) => Verify(cpu, ins, write: false)),
        new(Mnemonic.Verw, static (Processor cpu, in Instruction ins) => Verify(cpu, ins, write: true)),
        new(Mnemonic.Lar, static (Processor cpu, in Instruction ins) => Look(cpu, ins, limit: false)),
        new(Mnemonic.Lsl, static (Processor cpu, in Instruction ins) => Look(cpu, ins, limit: true)),
        new(Mnemonic.Arpl, Arpl),
    ];

    private static bool Operand16(in Instruction ins) => ins.Code is Code.Lgdt_m1632_16 or Code.Lidt_m1632_16
        or Code.Sgdt_m1632_16 or Code.Sidt_m1632_16;

    /// <summary>UMIP: SGDT, SIDT, SLDT, STR, SMSW outside level 0.</summary>
    internal static bool UmipForbids(Processor cpu) => cpu.Cpl > 0 && (cpu.State->Cr4 & Cr4.Umip) != 0;

    private static ExecResult LoadTable(Processor cpu, in Instruction ins, uint identity)
    {
        if (cpu.Cpl > 0)
        {
            return cpu.Fault(GuestFault.Gp());
        }

        bool operand16 = Operand16(ins);
        if (TableExits(cpu, ins, operand16, identity))
        {
            return cpu.Exit();
        }

        ulong at = cpu.EffectiveAddress(ins, out SegmentRegister segment);
        ulong mask = Processor.AddressMask(ins);
        bool wide = cpu.Code64;
        if (!cpu.ReadMemory(segment, at, 2, out ulong limit)
            || !cpu.ReadMemory(segment, (at + 2) & mask, wide ? 8 : 4, out ulong based))
        {
            return ExecResult.Abort;
        }

        if (operand16 && !wide)
        {
            based &= 0xFF_FFFF;
        }

        if (wide && !cpu.IsCanonical(based))
        {
            return cpu.Fault(GuestFault.Gp());
        }

        TableState table = new() { Base = based, Limit = limit };
        if (identity == 2)
        {
            cpu.State->Gdtr = table;
        }
        else
        {
            cpu.State->Idtr = table;
        }

        return ExecResult.NextAndLook;
    }

    private static bool TableExits(Processor cpu, in Instruction ins, bool operand16, uint identity) =>
        cpu.NonRoot is { } policy
        && policy.Instruction(
            SensitiveInstruction.GdtrIdtrAccess,
            ins.Length,
            InstructionInformation.Displacement(ins),
            InstructionInformation.GdtrIdtr(ins, operand16, identity));

    private static ExecResult StoreTable(Processor cpu, in Instruction ins, uint identity)
    {
        if (UmipForbids(cpu))
        {
            return cpu.Fault(GuestFault.Gp());
        }

        if (TableExits(cpu, ins, Operand16(ins), identity))
        {
            return cpu.Exit();
        }

        TableState table = identity == 0 ? cpu.State->Gdtr : cpu.State->Idtr;
        ulong at = cpu.EffectiveAddress(ins, out SegmentRegister segment);
        ulong second = (at + 2) & Processor.AddressMask(ins);
        int size = cpu.Code64 ? 8 : 4; // With a 16-bit operand size the upper byte is stored too (32-bit behaviour).

        // SDM "Alignment Requirements by Data Type": four bytes for the whole.
        if (!cpu.ProbeWrite(segment, at, 2, alignment: 4) || !cpu.ProbeWrite(segment, second, size, alignment: 1)
            || !cpu.WriteMemory(segment, at, 2, table.Limit, alignment: 4) || !cpu.WriteMemory(segment, second, size, table.Base, alignment: 1))
        {
            return ExecResult.Abort;
        }

        return ExecResult.Next;
    }

    private static bool SelectorExits(Processor cpu, in Instruction ins, uint identity) =>
        cpu.NonRoot is { } policy
        && policy.Instruction(
            SensitiveInstruction.LdtrTrAccess,
            ins.Length,
            ins.Op0Kind == OpKind.Memory ? InstructionInformation.Displacement(ins) : 0,
            InstructionInformation.LdtrTr(ins, identity));

    private static ExecResult StoreSelector(Processor cpu, in Instruction ins, uint identity)
    {
        if (!cpu.UsesDescriptors)
        {
            return cpu.Fault(GuestFault.Ud);
        }

        if (UmipForbids(cpu))
        {
            return cpu.Fault(GuestFault.Gp());
        }

        if (SelectorExits(cpu, ins, identity))
        {
            return cpu.Exit();
        }

        ulong selector = identity == 0 ? cpu.State->Ldtr.Selector : cpu.State->Tr.Selector;
        return cpu.WriteOperand(ins, 0, selector) ? ExecResult.Next : ExecResult.Abort;
    }

    private static ExecResult LoadSelector(Processor cpu, in Instruction ins, uint identity)
    {
        if (!cpu.UsesDescriptors)
        {
            return cpu.Fault(GuestFault.Ud);
        }

        if (cpu.Cpl > 0)
        {
            return cpu.Fault(GuestFault.Gp());
        }

        if (SelectorExits(cpu, ins, identity))
        {
            return cpu.Exit();
        }

        if (!cpu.ReadOperand(ins, 0, out ulong word))
        {
            return ExecResult.Abort;
        }

        ushort selector = (ushort)word;
        bool ltr = identity == 3;
        if (!ltr && Processor.IsNull(selector))
        {
            cpu.State->Ldtr = Processor.NullSegment(selector);
            return ExecResult.NextAndLook;
        }

        uint error = Processor.SelectorError(selector);
        if ((selector & 4) != 0 || Processor.IsNull(selector))
        {
            return cpu.Fault(GuestFault.Gp(error));
        }

        if (!cpu.ReadDescriptor(selector, Vector.Gp, out Descriptor descriptor))
        {
            return ExecResult.Abort;
        }

        bool kind = ltr
            ? descriptor.Type == Processor.SystemTss32 || (descriptor.Type == Processor.SystemTss16 && !cpu.LongMode)
            : descriptor.Type == Processor.SystemLdt;
        if (descriptor.IsSegment || !kind)
        {
            return cpu.Fault(GuestFault.Gp(error));
        }

        if (!descriptor.Present)
        {
            return cpu.Fault(GuestFault.Np(error));
        }

        SegmentState state = descriptor.ToState(selector);
        if (cpu.LongMode)
        {
            if (!cpu.ReadUpperHalf(selector, descriptor, out ulong upper))
            {
                return ExecResult.Abort;
            }

            state.Base |= upper << 32;
            if (!cpu.IsCanonical(state.Base))
            {
                return cpu.Fault(GuestFault.Gp(error));
            }
        }

        if (!ltr)
        {
            cpu.State->Ldtr = state;
            return ExecResult.NextAndLook;
        }

        // Busy is set in the table and in the register.
        if (!cpu.WriteLinear(cpu.Next(descriptor.Linear, 5), 1, ((descriptor.Raw >> 40) & 0xFF) | 2, AccessMode.System))
        {
            return ExecResult.Abort;
        }

        state.Attributes |= 2;
        cpu.State->Tr = state;
        return ExecResult.NextAndLook;
    }

    private static ExecResult Verify(Processor cpu, in Instruction ins, bool write)
    {
        if (!cpu.UsesDescriptors)
        {
            return cpu.Fault(GuestFault.Ud);
        }

        if (!cpu.ReadOperand(ins, 0, out ulong word) || !Peek(cpu, (ushort)word, out Descriptor descriptor, out bool there))
        {
            return ExecResult.Abort;
        }

        bool good = there && descriptor.IsSegment && (write ? descriptor.IsWritableData : descriptor.IsReadable)
            && ((descriptor.IsCode && descriptor.IsConforming) || Reachable(cpu, (ushort)word, descriptor));
        cpu.FlagsSet(RFlags.Zf, good ? RFlags.Zf : 0);
        return ExecResult.Next;
    }

    private static bool Reachable(Processor cpu, ushort selector, in Descriptor descriptor) =>
        descriptor.Dpl >= cpu.Cpl && descriptor.Dpl >= (selector & 3);

    // Reads a descriptor without faulting on the selector; false is a page fault.
    private static bool Peek(Processor cpu, ushort selector, out Descriptor descriptor, out bool there)
    {
        descriptor = default;
        there = !Processor.IsNull(selector) && cpu.LocateDescriptor(selector, 8, out ulong _);
        if (!there)
        {
            return true;
        }

        cpu.LocateDescriptor(selector, 8, out ulong linear);
        if (!cpu.ReadLinear(linear, 8, out ulong raw, AccessMode.System))
        {
            return false;
        }

        descriptor = new Descriptor(raw, linear);
        return true;
    }

    // Bit n: LAR accepts system type n (SDM LAR, table of segment and gate types); then the same for LSL, and in long mode.
    private const uint LarTypes = 0x1A3E;
    private const uint LslTypes = 0x0A0E;
    private const uint LarTypesLong = 0x1A04;
    private const uint LslTypesLong = 0x0A04;

    private static ExecResult Look(Processor cpu, in Instruction ins, bool limit)
    {
        if (!cpu.UsesDescriptors)
        {
            return cpu.Fault(GuestFault.Ud);
        }

        if (!cpu.ReadOperand(ins, 1, out ulong word) || !Peek(cpu, (ushort)word, out Descriptor descriptor, out bool there))
        {
            return ExecResult.Abort;
        }

        uint types = cpu.LongMode ? (limit ? LslTypesLong : LarTypesLong) : limit ? LslTypes : LarTypes;
        bool good = there && (descriptor.IsSegment || ((types >> descriptor.Type) & 1) != 0)
            && ((descriptor.IsCode && descriptor.IsConforming) || Reachable(cpu, (ushort)word, descriptor));
        cpu.FlagsSet(RFlags.Zf, good ? RFlags.Zf : 0);
        if (good)
        {
            cpu.WriteGpr(ins.Op0Register, limit ? descriptor.Limit : (descriptor.Raw >> 32) & 0x00FF_FF00);
        }

        return ExecResult.Next;
    }

    private static ExecResult Arpl(Processor cpu, in Instruction ins)
    {
        if (!cpu.UsesDescriptors)
        {
            return cpu.Fault(GuestFault.Ud);
        }

        if (!cpu.ReadOperand(ins, 0, out ulong destination))
        {
            return ExecResult.Abort;
        }

        ulong rpl = cpu.ReadGpr(ins.Op1Register) & 3;
        bool adjust = (destination & 3) < rpl;
        if (adjust)
        {
            ulong value = (destination & 0xFFFC) | rpl;
            if (ins.Op0Kind == OpKind.Register)
            {
                ref ulong register = ref cpu[(Gpr)InstructionInformation.Number(ins.Op0Register)];
                register = (register & ~0xFFFFUL) | value;
            }
            else if (!cpu.WriteOperand(ins, 0, value))
            {
                return ExecResult.Abort;
            }
        }

        cpu.FlagsSet(RFlags.Zf, adjust ? RFlags.Zf : 0);
        return ExecResult.Next;
    }
}
