using VmFuzz.Arch;

namespace VmFuzz.Cpu;

/// <summary>A segment or gate descriptor as read from its table (SDM "Segment Descriptors").</summary>
/// <param name="Raw">The low eight bytes.</param>
/// <param name="Linear">Linear address it was read from.</param>
internal readonly record struct Descriptor(ulong Raw, ulong Linear)
{
    /// <summary>Base address, 32 bits.</summary>
    public ulong Base => ((Raw >> 16) & 0xFF_FFFF) | ((Raw >> 32) & 0xFF00_0000);

    /// <summary>Limit in bytes.</summary>
    public uint Limit
    {
        get
        {
            uint raw = (uint)(Raw & 0xFFFF) | (uint)((Raw >> 32) & 0xF_0000);
            return (Attributes & SegmentAttributes.G) != 0 ? (raw << 12) | 0xFFF : raw;
        }
    }

    /// <summary>Attributes in the layout of <see cref="SegmentAttributes"/>.</summary>
    public uint Attributes => (uint)(Raw >> 40) & 0xF0FF;

    /// <summary>Type, four bits.</summary>
    public int Type => (int)(Raw >> 40) & 15;

    /// <summary>Code or data.</summary>
    public bool IsSegment => (Raw & (1UL << 44)) != 0;

    /// <summary>Code segment.</summary>
    public bool IsCode => IsSegment && (Type & 8) != 0;

    /// <summary>Conforming code segment.</summary>
    public bool IsConforming => (Type & 4) != 0;

    /// <summary>Data segment that can be written.</summary>
    public bool IsWritableData => IsSegment && (Type & 10) == 2;

    /// <summary>Data or readable code.</summary>
    public bool IsReadable => IsSegment && (Type & 10) != 8;

    /// <summary>Privilege level.</summary>
    public int Dpl => (int)(Raw >> 45) & 3;

    /// <summary>Present.</summary>
    public bool Present => (Raw & (1UL << 47)) != 0;

    /// <summary>64-bit code.</summary>
    public bool Long => (Attributes & SegmentAttributes.L) != 0;

    /// <summary>Default size.</summary>
    public bool Big => (Attributes & SegmentAttributes.Db) != 0;

    /// <summary>A gate's target selector.</summary>
    public ushort GateSelector => (ushort)(Raw >> 16);

    /// <summary>A gate's target offset, without the upper half of a 16-byte gate.</summary>
    public ulong GateOffset => (Raw & 0xFFFF) | ((Raw >> 32) & 0xFFFF_0000);

    /// <summary>The segment register that this descriptor gives.</summary>
    public SegmentState ToState(ushort selector) =>
        new() { Base = Base, Limit = Limit, Attributes = Attributes, Selector = selector };
}

// Descriptor tables and segment loads (SDM "Protected-Mode Memory Management", MOV, LDS and so on).
public sealed unsafe partial class Processor
{
    internal const int SystemTss16 = 1;
    internal const int SystemLdt = 2;
    internal const int SystemCallGate16 = 4;
    internal const int SystemTaskGate = 5;
    internal const int SystemTss32 = 9;
    internal const int SystemCallGate32 = 12;

    /// <summary>Protected mode without virtual-8086 mode: selectors name descriptors.</summary>
    internal bool UsesDescriptors => Protected && !Virtual8086;

    internal int Iopl => (int)(_state->Flags >> 12) & 3;

    internal static uint SelectorError(ushort selector) => selector & 0xFFFCu;

    internal static bool IsNull(ushort selector) => (selector & 0xFFFC) == 0;

    /// <summary>Finds a descriptor in GDT or LDT; false when it is outside the table.</summary>
    internal bool LocateDescriptor(ushort selector, int bytes, out ulong linear)
    {
        CpuState* s = _state;
        uint index = selector & 0xFFF8u;
        if ((selector & 4) != 0)
        {
            linear = Next(s->Ldtr.Base, (int)index);
            return s->Ldtr.Usable && (s->Ldtr.Attributes & SegmentAttributes.P) != 0 && index + (uint)bytes - 1 <= s->Ldtr.Limit;
        }

        linear = Next(s->Gdtr.Base, (int)index);
        return index + (uint)bytes - 1 <= s->Gdtr.Limit;
    }

    /// <summary>Reads a descriptor; outside the table the vector is raised with the selector.</summary>
    internal bool ReadDescriptor(ushort selector, byte vector, out Descriptor descriptor)
    {
        descriptor = default;
        if (!LocateDescriptor(selector, 8, out ulong linear))
        {
            return RaiseFault(new GuestFault(vector, SelectorError(selector)));
        }

        if (!ReadLinear(linear, 8, out ulong raw, AccessMode.System))
        {
            return false;
        }

        descriptor = new Descriptor(raw, linear);
        return true;
    }

    /// <summary>Reads the upper half of a 16-byte system descriptor; its type field must be 0.</summary>
    internal bool ReadUpperHalf(ushort selector, in Descriptor descriptor, out ulong upper)
    {
        upper = 0;
        if (!LocateDescriptor(selector, 16, out _))
        {
            return RaiseFault(GuestFault.Gp(SelectorError(selector)));
        }

        if (!ReadLinear(Next(descriptor.Linear, 8), 8, out upper, AccessMode.System))
        {
            return false;
        }

        return ((upper >> 40) & 0x1F) == 0 || RaiseFault(GuestFault.Gp(SelectorError(selector)));
    }

    /// <summary>Sets the accessed bit in memory and in the copy.</summary>
    internal bool MarkAccessed(ref Descriptor descriptor)
    {
        if ((descriptor.Raw & (1UL << 40)) != 0)
        {
            return true;
        }

        ulong raw = descriptor.Raw | (1UL << 40);
        if (!WriteLinear(Next(descriptor.Linear, 5), 1, (raw >> 40) & 0xFF, AccessMode.System))
        {
            return false;
        }

        descriptor = descriptor with { Raw = raw };
        return true;
    }

    /// <summary>A register that holds a null selector; SS keeps its privilege level.</summary>
    internal static SegmentState NullSegment(ushort selector, int dpl = 0) => new()
    {
        Selector = selector,
        Attributes = SegmentAttributes.Unusable | ((uint)dpl << SegmentAttributes.DplShift),
    };

    /// <summary>A segment register of real or virtual-8086 mode.</summary>
    internal SegmentState RealSegment(in SegmentState old, ushort selector)
    {
        if (Virtual8086)
        {
            return V86Segment(selector);
        }

        // SDM "Real-Address Mode": a load changes the base only; limit and rights stay as they were.
        SegmentState state = old;
        state.Base = (ulong)selector << 4;
        state.Selector = selector;
        if (!state.Usable)
        {
            state.Attributes = 0x93;
            state.Limit = 0xFFFF;
        }

        return state;
    }

    internal static SegmentState V86Segment(ushort selector) =>
        new() { Base = (ulong)selector << 4, Limit = 0xFFFF, Attributes = 0xF3, Selector = selector };

    /// <summary>Makes every check of a load of SS, DS, ES, FS or GS; the caller commits the result.</summary>
    internal bool CheckSegmentLoad(SegmentRegister register, ushort selector, out SegmentState state)
    {
        if (!UsesDescriptors)
        {
            state = RealSegment(Segment(register), selector);
            return true;
        }

        return register == SegmentRegister.Ss
            ? CheckStackSegment(selector, Cpl, Vector.Gp, Code64, out state)
            : CheckDataSegment(selector, Vector.Gp, out state);
    }

    // The vector is #GP for loads and #TS for task switches.
    private bool CheckDataSegment(ushort selector, byte vector, out SegmentState state)
    {
        if (IsNull(selector))
        {
            state = NullSegment(selector);
            return true;
        }

        state = default;
        if (!ReadDescriptor(selector, vector, out Descriptor descriptor))
        {
            return false;
        }

        if (!descriptor.IsReadable)
        {
            return RaiseFault(new GuestFault(vector, SelectorError(selector)));
        }

        bool conforming = descriptor.IsCode && descriptor.IsConforming;
        if (!conforming && ((selector & 3) > descriptor.Dpl || Cpl > descriptor.Dpl))
        {
            return RaiseFault(new GuestFault(vector, SelectorError(selector)));
        }

        if (!descriptor.Present)
        {
            return RaiseFault(GuestFault.Np(SelectorError(selector)));
        }

        if (!MarkAccessed(ref descriptor))
        {
            return false;
        }

        state = descriptor.ToState(selector);
        return true;
    }

    /// <summary>Checks a stack segment for a privilege level.</summary>
    /// <param name="selector">The selector.</param>
    /// <param name="cpl">The privilege level it is for.</param>
    /// <param name="vector">#GP for loads and returns, #TS for stacks from a TSS.</param>
    /// <param name="nullAllowed">Whether 64-bit code below level 3 loads it.</param>
    /// <param name="state">The register's new state.</param>
    internal bool CheckStackSegment(ushort selector, int cpl, byte vector, bool nullAllowed, out SegmentState state)
    {
        state = default;
        if (IsNull(selector))
        {
            if (!nullAllowed || cpl == 3 || (selector & 3) != cpl)
            {
                return RaiseFault(new GuestFault(vector, 0));
            }

            state = NullSegment(selector, cpl);
            return true;
        }

        if (!ReadDescriptor(selector, vector, out Descriptor descriptor))
        {
            return false;
        }

        if ((selector & 3) != cpl || !descriptor.IsWritableData || descriptor.Dpl != cpl)
        {
            return RaiseFault(new GuestFault(vector, SelectorError(selector)));
        }

        if (!descriptor.Present)
        {
            return RaiseFault(GuestFault.Ss(SelectorError(selector)));
        }

        if (!MarkAccessed(ref descriptor))
        {
            return false;
        }

        state = descriptor.ToState(selector);
        return true;
    }

    /// <summary>Loads a segment register with all checks (MOV, POP, LDS and so on).</summary>
    public bool LoadSegment(SegmentRegister register, ushort selector)
    {
        if (!CheckSegmentLoad(register, selector, out SegmentState state))
        {
            return false;
        }

        Segment(register) = state;
        return true;
    }

    /// <summary>Whether an instruction offset fits a code segment; a canonical address for 64-bit code.</summary>
    internal bool OffsetInCode(in SegmentState code, ulong offset) =>
        LongMode && (code.Attributes & SegmentAttributes.L) != 0 ? IsCanonical(offset) : offset <= code.Limit;

    /// <summary>The code segment's state for a descriptor at a privilege level: RPL of the selector is the level.</summary>
    internal static SegmentState CodeState(in Descriptor descriptor, ushort selector, int cpl) =>
        descriptor.ToState((ushort)((selector & 0xFFFC) | cpl));

    /// <summary>Drops data segments that the new, outer privilege level may not use (RET and IRET).</summary>
    internal void DropInnerSegments(int cpl)
    {
        DropInner(ref _state->Es, cpl);
        DropInner(ref _state->Ds, cpl);
        DropInner(ref _state->Fs, cpl);
        DropInner(ref _state->Gs, cpl);
    }

    private static void DropInner(ref SegmentState segment, int cpl)
    {
        bool conformingCode = (segment.Attributes & 0xC) == 0xC;
        if (segment.Usable && !conformingCode && segment.Dpl < cpl)
        {
            segment = NullSegment(0);
        }
        else if (!segment.Usable)
        {
            segment.Selector = 0;
        }
    }

    /// <summary>Reads SS:ESP (or RSP in long mode) of an inner level from the TSS (SDM "Task-State Segment").</summary>
    internal bool ReadTssStack(int dpl, int ist, out ulong rsp, out ushort ss)
    {
        CpuState* s = _state;
        ss = 0;
        rsp = 0;
        uint error = SelectorError((ushort)s->Tr.Selector);
        if (LongMode)
        {
            uint at = ist != 0 ? 36u + ((uint)(ist - 1) * 8) : 4u + ((uint)dpl * 8);
            if (at + 7 > s->Tr.Limit)
            {
                return RaiseFault(GuestFault.Ts(error));
            }

            return ReadLinear(s->Tr.Base + at, 8, out rsp, AccessMode.System)
                && (IsCanonical(rsp) || RaiseFault(GuestFault.Ss()));
        }

        bool wide = (s->Tr.Attributes & 8) != 0;
        uint offset = wide ? 4u + ((uint)dpl * 8) : 2u + ((uint)dpl * 4);
        int size = wide ? 4 : 2;
        if (offset + (uint)size + 1 > s->Tr.Limit)
        {
            return RaiseFault(GuestFault.Ts(error));
        }

        if (!ReadLinear((uint)(s->Tr.Base + offset), size, out rsp, AccessMode.System)
            || !ReadLinear((uint)(s->Tr.Base + offset + (uint)size), 2, out ulong selector, AccessMode.System))
        {
            return false;
        }

        ss = (ushort)selector;
        return true;
    }
}
