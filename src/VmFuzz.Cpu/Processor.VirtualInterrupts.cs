using VmFuzz.Arch;

namespace VmFuzz.Cpu;

// Virtual interrupts (SDM "Interrupt and Exception Handling in Virtual-8086 Mode", "Protected-Mode Virtual Interrupts").
public sealed unsafe partial class Processor
{
    /// <summary>The flag that CLI and STI change: IF, VIF, or 0 where they are #GP(0).</summary>
    internal ulong OwnInterruptFlag
    {
        get
        {
            ulong cr4 = _state->Cr4;
            if (!Protected)
            {
                return RFlags.If;
            }

            return Virtual8086
                ? Iopl == 3 ? RFlags.If : (cr4 & Cr4.Vme) != 0 ? RFlags.Vif : 0
                : Cpl <= Iopl ? RFlags.If : Cpl == 3 && (cr4 & Cr4.Pvi) != 0 ? RFlags.Vif : 0;
        }
    }

    /// <summary>Virtual-8086 mode with an IOPL below 3: PUSHF, POPF, INT n and IRET are #GP(0), or work on VIF.</summary>
    internal bool IsSensitive => Virtual8086 && Iopl < 3;

    /// <summary>Whether a sensitive instruction of an operand size is carried out with VIF.</summary>
    internal bool UsesVif(int size) => size == 2 && (_state->Cr4 & Cr4.Vme) != 0;

    /// <summary>FLAGS as the 8086 program sees them: IF is VIF and IOPL is 3.</summary>
    internal ulong VirtualFlags
    {
        get
        {
            ulong flags = RFlagsValue & ~(RFlags.Vm | RFlags.Rf | RFlags.If);
            return flags | RFlags.Iopl | ((flags & RFlags.Vif) != 0 ? RFlags.If : 0);
        }
    }

    /// <summary>Whether the program may load FLAGS; if not, #GP(0) is noted: the monitor has to see TF, and IF while VIP is set.</summary>
    internal bool CheckVirtualFlags(ulong flags)
    {
        bool pending = (flags & RFlags.If) != 0 && (_state->Flags & RFlags.Vip) != 0;
        return (!pending && (flags & RFlags.Tf) == 0) || RaiseFault(GuestFault.Gp());
    }

    /// <summary>Loads FLAGS for the program: IF goes to VIF, IF and IOPL stay.</summary>
    internal void LoadVirtualFlags(ulong flags)
    {
        const ulong Changed = RFlags.Arithmetic | RFlags.Tf | RFlags.Df | RFlags.Nt;
        ulong kept = RFlagsValue & ~(Changed | RFlags.Vif | RFlags.Rf);
        RFlagsValue = kept | (flags & Changed) | ((flags & RFlags.If) != 0 ? RFlags.Vif : 0);
    }

    // SDM "Software Interrupt Handling Methods While in Virtual-8086 Mode".
    private bool DeliverInVirtual8086(in GuestEvent raised, ulong returnRip)
    {
        if ((_state->Cr4 & Cr4.Vme) != 0)
        {
            if (!ReadRedirection(raised.Vector, out bool protectedMode))
            {
                return false;
            }

            if (!protectedMode)
            {
                return Redirect(raised.Vector, returnRip);
            }
        }

        return Iopl == 3 ? DeliverProtected(raised, returnRip) : RaiseFault(GuestFault.Gp());
    }

    // The interrupt redirection bit map: 32 bytes below the I/O permission bit map.
    private bool ReadRedirection(byte vector, out bool protectedMode)
    {
        SegmentState tr = _state->Tr;
        protectedMode = true;
        if ((tr.Attributes & 8) == 0 || tr.Limit < TssLayout.IoMap + 1)
        {
            return RaiseFault(GuestFault.Gp());
        }

        if (!ReadLinear(TableLinear(tr.Base, TssLayout.IoMap), 2, out ulong map, AccessMode.System))
        {
            return false;
        }

        uint at = (uint)map - 32 + (uint)(vector >> 3);
        if (at > tr.Limit)
        {
            return RaiseFault(GuestFault.Gp());
        }

        bool read = ReadLinear(TableLinear(tr.Base, at), 1, out ulong bits, AccessMode.System);
        protectedMode = (bits & (1UL << (vector & 7))) != 0;
        return read;
    }

    // To the handler of the 8086 program, by the table at linear address 0.
    private bool Redirect(byte vector, ulong returnRip)
    {
        ulong flags = Iopl == 3 ? RFlagsValue & ~RFlags.Rf : VirtualFlags;
        ulong own = Iopl == 3 ? RFlags.If : RFlags.Vif;
        return ReadLinear(vector * 4u, 4, out ulong entry, AccessMode.System)
            && EnterRealHandler(entry, flags, returnRip, own | RFlags.Tf | RFlags.Rf);
    }
}
