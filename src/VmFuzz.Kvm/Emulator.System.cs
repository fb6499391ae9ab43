using Iced.Intel;
using VmFuzz.Arch;
using VmFuzz.Cpu;

namespace VmFuzz.Kvm;

// System instructions of the emulator: those that touch descriptors in memory that the guest cannot write, such as ROM.
internal sealed partial class Emulator
{
    private const uint SystemTss16 = 1;
    private const uint SystemTss32 = 9;
    private const ulong AccessedBit = 1UL << 40;
    private const ulong BusyBit = 1UL << 41;
    private const ulong PresentBit = 1UL << 47;

    private SegmentState _loaded;
    private SegmentRegister _loadedRegister;
    private bool _loadsSegment;
    private ulong _shadow;

    // SDM "LTR - Load Task Register".
    internal Step LoadTaskRegister(in Instruction ins)
    {
        VmxVcpu vmx = _vcpu.Vmx;
        if ((vmx.Cr0 & Cr0.Pe) == 0 || (vmx.RFlags & RFlags.Vm) != 0)
        {
            return Raise(GuestFault.Ud);
        }

        if (vmx.Cpl != 0)
        {
            return Raise(GuestFault.Gp());
        }

        Step step = Read(ins, 0, 2, out ulong selector);
        if (step != Step.Done)
        {
            return step;
        }

        selector &= 0xFFFF;
        uint error = (uint)selector & 0xFFFC;
        if (error == 0 || (selector & 4) != 0)
        {
            return Raise(GuestFault.Gp(error));
        }

        step = ReadDescriptor(selector, out ulong entry, out ulong linear);
        if (step != Step.Done)
        {
            return step;
        }

        bool wide = vmx.LongMode;
        uint type = (uint)(entry >> 40) & (SegmentAttributes.TypeMask | SegmentAttributes.S);
        if (type != SystemTss32 && (wide || type != SystemTss16))
        {
            return Raise(GuestFault.Gp(error));
        }

        if ((entry & PresentBit) == 0)
        {
            return Raise(GuestFault.Np(error));
        }

        _loaded = Parse(selector, entry | BusyBit);
        step = wide ? ReadUpperBase(selector, linear) : Step.Done;
        step = step == Step.Done ? SetBits(linear, entry, BusyBit) : step;
        if (step != Step.Done)
        {
            return step;
        }

        Load(SegmentRegister.Tr);
        return Step.Done;
    }

    // The upper half of a 16-byte descriptor: bits 63:32 of the base, and a type that must be 0.
    private Step ReadUpperBase(ulong selector, ulong linear)
    {
        uint error = (uint)selector & 0xFFFC;
        if ((selector & 0xFFF8) + 15 > _vcpu.Vmx.Read(VmcsField.GuestGdtrLimit))
        {
            return Raise(GuestFault.Gp(error));
        }

        Span<byte> bytes = stackalloc byte[8];
        Step step = ReadLinear(Advance(linear, 8), bytes, mode: AccessMode.System);
        if (step != Step.Done)
        {
            return step;
        }

        ulong upper = StateFields.Take(bytes);
        _loaded.Base |= upper << 32;
        return ((upper >> 40) & 0x1F) == 0 && IsCanonical(_loaded.Base) ? Step.Done : Raise(GuestFault.Gp(error));
    }

    // SDM "MOV - Move", loading a data segment or SS.
    private Step MoveToSegment(in Instruction ins)
    {
        SegmentRegister register = SegmentOf(ins.Op0Register);
        if (register == SegmentRegister.Cs)
        {
            return Raise(GuestFault.Ud);
        }

        Step step = Read(ins, 1, 2, out ulong selector);
        return step == Step.Done ? LoadSelector(register, selector & 0xFFFF) : step;
    }

    // The checks of MOV and POP to DS, ES, FS, GS and SS.
    private Step LoadSelector(SegmentRegister register, ulong selector)
    {
        // SDM "Interruptibility state": the next instruction is under MOV SS's shadow.
        _shadow = register == SegmentRegister.Ss ? InterruptibilityState.BlockingByMovSs : 0;
        if (!UsesDescriptors)
        {
            return LoadParagraph(register, selector);
        }

        if ((selector & 0xFFFC) == 0)
        {
            return LoadNull(register, selector);
        }

        uint error = (uint)selector & 0xFFFC;
        Step step = ReadDescriptor(selector, out ulong entry, out ulong linear);
        if (step != Step.Done)
        {
            return step;
        }

        uint attributes = (uint)(entry >> 40) & 0xF0FF;
        int dpl = (int)(attributes >> SegmentAttributes.DplShift) & 3;
        int rpl = (int)selector & 3;
        int cpl = _vcpu.Vmx.Cpl;
        bool code = (attributes & 8) != 0;
        bool fits = (attributes & SegmentAttributes.S) != 0 && (register == SegmentRegister.Ss
            ? !code && (attributes & 2) != 0 && rpl == cpl && dpl == cpl
            : code ? (attributes & 2) != 0 && ((attributes & 4) != 0 || dpl >= Math.Max(rpl, cpl)) : dpl >= Math.Max(rpl, cpl));
        if (!fits)
        {
            return Raise(GuestFault.Gp(error));
        }

        if ((entry & PresentBit) == 0)
        {
            return Raise(register == SegmentRegister.Ss ? GuestFault.Ss(error) : GuestFault.Np(error));
        }

        return Accept(register, selector, entry, linear);
    }

    // SDM "Real-Address Mode Operation": the base is the selector times 16; limit and rights stay.
    private Step LoadParagraph(SegmentRegister register, ulong selector)
    {
        SegmentState old = _vcpu.Vmx.GetSegment(register);
        _loaded = new SegmentState
        {
            Selector = selector,
            Base = selector << 4,
            Limit = old.Usable ? old.Limit : 0xFFFF,
            Attributes = old.Usable ? old.Attributes : 0x93,
        };
        Load(register);
        return Step.Done;
    }

    // A null selector makes a data segment unusable; SS takes one in 64-bit code below level 3 only, and keeps its level.
    private Step LoadNull(SegmentRegister register, ulong selector)
    {
        int cpl = _vcpu.Vmx.Cpl;
        bool stack = register == SegmentRegister.Ss;
        if (stack && (!_vcpu.Vmx.Code64 || cpl == 3 || (int)(selector & 3) != cpl))
        {
            return Raise(GuestFault.Gp());
        }

        LoadUnusable(register, selector, stack ? cpl : 0);
        return Step.Done;
    }

    internal void LoadUnusable(SegmentRegister register, ulong selector, int dpl)
    {
        _loaded = new SegmentState
        {
            Selector = selector,
            Attributes = SegmentAttributes.Unusable | ((uint)dpl << SegmentAttributes.DplShift),
        };
        _shadow = register == SegmentRegister.Ss ? InterruptibilityState.BlockingByMovSs : 0;
        Load(register);
    }

    // SDM "RET - Return From Procedure" and "JMP - Jump", far, to a code segment of the same privilege.
    internal Step FarReturn(in Instruction ins)
    {
        int release = ins.OpCount == 0 ? 0 : ins.Immediate16;
        int bytes = (ins.StackPointerIncrement - release) / 2;
        Span<byte> frame = stackalloc byte[16];
        frame.Clear();
        for (int i = 0; i < 2; i++)
        {
            Step step = ReadStack((_gprs[(int)Gpr.Rsp] + (ulong)(i * bytes)) & StackMask, frame.Slice(i * 8, bytes));
            if (step != Step.Done)
            {
                return step;
            }
        }

        Step loaded = LoadCode(StateFields.Take(frame[8..]) & 0xFFFF, StateFields.Take(frame[..8]), returns: true);
        if (loaded == Step.Done)
        {
            SetStack((_gprs[(int)Gpr.Rsp] + (ulong)((2 * bytes) + release)) & StackMask);
        }

        return loaded;
    }

    internal Step FarJump(in Instruction ins)
    {
        if (ins.Op0Kind is not (OpKind.FarBranch16 or OpKind.FarBranch32))
        {
            return Step.Unknown;
        }

        ulong target = ins.Op0Kind == OpKind.FarBranch16 ? ins.FarBranch16 : ins.FarBranch32;
        return LoadCode(ins.FarBranchSelector, target, returns: false);
    }

    private Step LoadCode(ulong selector, ulong target, bool returns)
    {
        if (!UsesDescriptors)
        {
            return Step.Unknown;
        }

        uint error = (uint)selector & 0xFFFC;
        if (error == 0)
        {
            return Raise(GuestFault.Gp());
        }

        Step step = ReadDescriptor(selector, out ulong entry, out ulong linear);
        if (step != Step.Done)
        {
            return step;
        }

        uint attributes = (uint)(entry >> 40) & 0xF0FF;
        bool segment = (attributes & SegmentAttributes.S) != 0;
        if (!segment && !returns)
        {
            return Step.Unknown; // Gates and task-state segments are not emulated.
        }

        int cpl = _vcpu.Vmx.Cpl;
        int rpl = (int)selector & 3;
        int dpl = (int)(attributes >> SegmentAttributes.DplShift) & 3;
        bool conforming = (attributes & 4) != 0;
        bool wide = _vcpu.Vmx.LongMode && (attributes & SegmentAttributes.L) != 0;
        bool reachable = returns
            ? rpl >= cpl && (conforming ? dpl <= rpl : dpl == rpl)
            : conforming ? dpl <= cpl : dpl == cpl && rpl <= cpl;
        if (!segment || (attributes & 8) == 0 || !reachable || (wide && (attributes & SegmentAttributes.Db) != 0))
        {
            return Raise(GuestFault.Gp(error));
        }

        if ((entry & PresentBit) == 0)
        {
            return Raise(GuestFault.Np(error));
        }

        if (returns && rpl != cpl)
        {
            return Step.Unknown; // Nor are returns to an outer level.
        }

        selector = (selector & ~3UL) | (uint)cpl;
        target = wide ? target : (uint)target;
        bool outside = wide
            ? !IsCanonical(target) && _vcpu.Rules.Holds(Rule.EmulatorFarTarget)
            : target > Parse(selector, entry).Limit;
        if (outside)
        {
            return Raise(GuestFault.Gp());
        }

        _next = target;
        return Accept(SegmentRegister.Cs, selector, entry, linear);
    }

    private bool UsesDescriptors => (_vcpu.Vmx.Cr0 & Cr0.Pe) != 0 && (_vcpu.Vmx.RFlags & RFlags.Vm) == 0;

    private Step ReadDescriptor(ulong selector, out ulong entry, out ulong linear)
    {
        VmxVcpu vmx = _vcpu.Vmx;
        bool local = (selector & 4) != 0;
        SegmentState ldtr = vmx.GetSegment(SegmentRegister.Ldtr);
        ulong limit = local ? ldtr.Limit : vmx.Read(VmcsField.GuestGdtrLimit);
        ulong offset = selector & 0xFFF8;
        linear = local ? ldtr.Base : vmx.Read(VmcsField.GuestGdtrBase);
        linear = Advance(linear, (int)offset);
        entry = 0;
        if ((local && !ldtr.Usable) || offset + 7 > limit)
        {
            return Raise(GuestFault.Gp((uint)selector & 0xFFFC));
        }

        Span<byte> bytes = stackalloc byte[8];
        Step step = ReadLinear(linear, bytes, mode: AccessMode.System);
        entry = StateFields.Take(bytes);
        return step;
    }

    // Notes the segment for the commit, and the accessed bit for memory.
    private Step Accept(SegmentRegister register, ulong selector, ulong entry, ulong linear)
    {
        Step step = (entry & AccessedBit) == 0 ? SetBits(linear, entry, AccessedBit) : Step.Done;
        if (step != Step.Done)
        {
            return step;
        }

        _loaded = Parse(selector, entry | AccessedBit);
        Load(register);
        return Step.Done;
    }

    // A bit of the type, which is the byte at 5: what else shares the descriptor's pages is not touched.
    private Step SetBits(ulong linear, ulong entry, ulong bits) =>
        WriteLinear(Advance(linear, 5), [(byte)((entry | bits) >> 40)], AccessMode.System);

    private static SegmentState Parse(ulong selector, ulong entry)
    {
        uint attributes = (uint)(entry >> 40) & 0xF0FF;
        uint limit = ((uint)entry & 0xFFFF) | ((uint)(entry >> 32) & 0xF_0000);
        return new SegmentState
        {
            Selector = selector,
            Base = ((entry >> 16) & 0xFF_FFFF) | ((entry >> 32) & 0xFF00_0000),
            Limit = (attributes & SegmentAttributes.G) != 0 ? (limit << 12) | 0xFFF : limit,
            Attributes = attributes,
        };
    }

    private void Load(SegmentRegister register)
    {
        _loadedRegister = register;
        _loadsSegment = true;
    }

    private Step Raise(in GuestFault fault)
    {
        _fault = fault;
        return Step.Fault;
    }
}
