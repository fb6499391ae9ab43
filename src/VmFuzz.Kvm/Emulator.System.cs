using Iced.Intel;
using VmFuzz.Arch;
using VmFuzz.Cpu;

namespace VmFuzz.Kvm;

// System instructions of the emulator: those that touch descriptors in memory that the guest cannot write, such as ROM.
internal sealed partial class Emulator
{
    private const uint SystemTss16 = 1;
    private const uint SystemTss32 = 9;
    private const ulong BusyBit = 1UL << 41;

    private const ulong AccessedBit = 1UL << 40;

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
        bool wide = vmx.LongMode;
        int bytes = wide ? 16 : 8;
        ulong offset = selector & 0xFFF8;
        if (error == 0 || (selector & 4) != 0 || offset + (ulong)bytes - 1 > vmx.Read(VmcsField.GuestGdtrLimit))
        {
            return Raise(GuestFault.Gp(error));
        }

        ulong linear = vmx.Read(VmcsField.GuestGdtrBase) + offset;
        Span<byte> entry = stackalloc byte[16];
        entry.Clear();
        step = ReadLinear(linear, entry[..bytes]);
        if (step != Step.Done)
        {
            return step;
        }

        ulong low = StateFields.Take(entry[..8]);
        ulong high = StateFields.Take(entry[8..]);
        uint attributes = (uint)(low >> 40) & 0xF0FF;
        uint type = attributes & SegmentAttributes.TypeMask;
        if ((attributes & SegmentAttributes.S) != 0 || (type != SystemTss32 && (wide || type != SystemTss16)))
        {
            return Raise(GuestFault.Gp(error));
        }

        if ((attributes & SegmentAttributes.P) == 0)
        {
            return Raise(GuestFault.Np(error));
        }

        Span<byte> busy = stackalloc byte[8];
        StateFields.Put(busy, low | BusyBit);
        step = WriteLinear(linear, busy);
        if (step != Step.Done)
        {
            return step;
        }

        uint limit = ((uint)low & 0xFFFF) | ((uint)(low >> 32) & 0xF_0000);
        ulong based = ((low >> 16) & 0xFF_FFFF) | ((low >> 32) & 0xFF00_0000) | (wide ? high << 32 : 0);
        _loaded = new SegmentState
        {
            Selector = selector,
            Base = based,
            Limit = (attributes & SegmentAttributes.G) != 0 ? (limit << 12) | 0xFFF : limit,
            Attributes = attributes | 2,
        };
        Load(SegmentRegister.Tr);
        return Step.Done;
    }

    // SDM "MOV - Move", loading a data segment or SS in protected mode.
    private Step MoveToSegment(in Instruction ins)
    {
        Step step = Read(ins, 1, 2, out ulong selector);
        SegmentRegister register = (SegmentRegister)(ins.Op0Register - Register.ES);
        if (step != Step.Done || !UsesDescriptors || register == SegmentRegister.Cs)
        {
            return step != Step.Done ? step : register == SegmentRegister.Cs ? Raise(GuestFault.Ud) : Step.Unknown;
        }

        // SDM "Interruptibility state": the next instruction is under MOV SS's shadow.
        _shadow = register == SegmentRegister.Ss ? InterruptibilityState.BlockingByMovSs : 0;
        if ((selector & 0xFFFC) == 0)
        {
            return LoadNull(register, selector & 0xFFFF);
        }

        uint error = (uint)selector & 0xFFFC;
        step = ReadDescriptor(selector, out ulong entry, out ulong linear);
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

        if ((attributes & SegmentAttributes.P) == 0)
        {
            return Raise(register == SegmentRegister.Ss ? GuestFault.Ss(error) : GuestFault.Np(error));
        }

        return Accept(register, selector, entry, linear);
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
        int bytes = ins.OpCount == 0 ? ins.StackPointerIncrement / 2 : 0;
        if (bytes is not (2 or 4 or 8))
        {
            return Step.Unknown;
        }

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
            SetStack((_gprs[(int)Gpr.Rsp] + (ulong)(2 * bytes)) & StackMask);
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

        int cpl = _vcpu.Vmx.Cpl;
        int rpl = (int)selector & 3;
        if (returns && rpl != cpl)
        {
            return rpl < cpl ? Raise(GuestFault.Gp(error)) : Step.Unknown;
        }

        Step step = ReadDescriptor(selector, out ulong entry, out ulong linear);
        if (step != Step.Done)
        {
            return step;
        }

        uint attributes = (uint)(entry >> 40) & 0xF0FF;
        if ((attributes & SegmentAttributes.S) == 0)
        {
            return Step.Unknown; // Gates and task-state segments are not emulated.
        }

        int dpl = (int)(attributes >> SegmentAttributes.DplShift) & 3;
        bool conforming = (attributes & 4) != 0;
        bool wide = _vcpu.Vmx.LongMode && (attributes & SegmentAttributes.L) != 0;
        bool fits = (attributes & 8) != 0 && (conforming ? dpl <= cpl : dpl == cpl && (returns || rpl <= cpl))
            && !(wide && (attributes & SegmentAttributes.Db) != 0);
        if (!fits)
        {
            return Raise(GuestFault.Gp(error));
        }

        if ((attributes & SegmentAttributes.P) == 0)
        {
            return Raise(GuestFault.Np(error));
        }

        step = Accept(SegmentRegister.Cs, (selector & ~3UL) | (uint)cpl, entry, linear);
        bool outside = wide ? !IsCanonical(target) && _vcpu.Rules.Holds(Rule.EmulatorFarTarget) : target > _loaded.Limit;
        if (step == Step.Done && outside)
        {
            return Raise(GuestFault.Gp());
        }

        _next = target;
        return step;
    }

    private bool UsesDescriptors => (_vcpu.Vmx.Cr0 & Cr0.Pe) != 0 && (_vcpu.Vmx.RFlags & RFlags.Vm) == 0;

    private Step ReadDescriptor(ulong selector, out ulong entry, out ulong linear)
    {
        VmxVcpu vmx = _vcpu.Vmx;
        bool local = (selector & 4) != 0;
        SegmentState ldtr = vmx.GetSegment(SegmentRegister.Ldtr);
        ulong limit = local ? ldtr.Limit : vmx.Read(VmcsField.GuestGdtrLimit);
        ulong offset = selector & 0xFFF8;
        linear = (local ? ldtr.Base : vmx.Read(VmcsField.GuestGdtrBase)) + offset;
        entry = 0;
        if ((local && !ldtr.Usable) || offset + 7 > limit)
        {
            return Raise(GuestFault.Gp((uint)selector & 0xFFFC));
        }

        Span<byte> bytes = stackalloc byte[8];
        Step step = ReadLinear(linear, bytes, system: true);
        entry = StateFields.Take(bytes);
        return step;
    }

    // Notes the segment for the commit, and the accessed bit for memory.
    private Step Accept(SegmentRegister register, ulong selector, ulong entry, ulong linear)
    {
        if ((entry & AccessedBit) == 0)
        {
            Span<byte> accessed = stackalloc byte[8];
            StateFields.Put(accessed, entry | AccessedBit);
            Step step = WriteLinear(linear, accessed, system: true);
            if (step != Step.Done)
            {
                return step;
            }
        }

        uint attributes = ((uint)(entry >> 40) & 0xF0FF) | 1;
        uint limit = ((uint)entry & 0xFFFF) | ((uint)(entry >> 32) & 0xF_0000);
        _loaded = new SegmentState
        {
            Selector = selector,
            Base = ((entry >> 16) & 0xFF_FFFF) | ((entry >> 32) & 0xFF00_0000),
            Limit = (attributes & SegmentAttributes.G) != 0 ? (limit << 12) | 0xFFF : limit,
            Attributes = attributes,
        };
        Load(register);
        return Step.Done;
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
