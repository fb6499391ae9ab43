using System.Buffers.Binary;
using VmFuzz.Arch;
using VmFuzz.Cpu;

namespace VmFuzz.Vmx;

// The VMX instructions (SDM "VMX Instruction Reference"), as root-mode software in C# calls them: the checks that
// raise #UD and #GP belong to the caller, what follows them is here.
public sealed unsafe partial class VmxUnit
{
    // Layout of a VMCS region in memory: revision identifier, abort indicator, launch state, then the fields in the
    // order of the field table. An implementation's own business, as on hardware.
    private const int RegionLaunch = 8;
    private const int RegionFields = 16;

    /// <summary>VMXON.</summary>
    /// <param name="pointer">Host-physical address of the VMXON region.</param>
    public VmxResult VmxOn(ulong pointer)
    {
        if (VmxonPointer != NoPointer)
        {
            return Fail(VmxInstructionError.VmxonInRoot);
        }

        if (!IsRegion(pointer) || RevisionAt(pointer) != Capabilities.RevisionId)
        {
            return VmxResult.FailInvalid;
        }

        VmxonPointer = pointer;
        CurrentPointer = NoPointer;
        return VmxResult.Succeed;
    }

    /// <summary>VMXOFF. In VMX operation only; otherwise the instruction is #UD.</summary>
    public VmxResult VmxOff()
    {
        Flush();
        CurrentPointer = NoPointer;
        VmxonPointer = NoPointer;
        return VmxResult.Succeed;
    }

    /// <summary>VMCLEAR.</summary>
    public VmxResult VmClear(ulong pointer)
    {
        if (!IsRegion(pointer))
        {
            return Fail(VmxInstructionError.VmclearInvalidAddress);
        }

        if (pointer == VmxonPointer)
        {
            return Fail(VmxInstructionError.VmclearVmxonPointer);
        }

        if (pointer == CurrentPointer)
        {
            _vmcs.Launched = false;
            Flush();
            CurrentPointer = NoPointer;
            return VmxResult.Succeed;
        }

        WriteWord(pointer + RegionLaunch, 0);
        return VmxResult.Succeed;
    }

    /// <summary>VMPTRLD.</summary>
    public VmxResult VmPtrLd(ulong pointer)
    {
        if (!IsRegion(pointer))
        {
            return Fail(VmxInstructionError.VmptrldInvalidAddress);
        }

        if (pointer == VmxonPointer)
        {
            return Fail(VmxInstructionError.VmptrldVmxonPointer);
        }

        uint revision = RevisionAt(pointer);
        bool shadow = (revision & 0x8000_0000) != 0;
        if ((revision & 0x7FFF_FFFF) != Capabilities.RevisionId
            || (shadow && !Capabilities.Secondary.Allows(SecondaryControls.VmcsShadowing)))
        {
            return Fail(VmxInstructionError.VmptrldIncorrectRevision);
        }

        if (pointer != CurrentPointer)
        {
            Flush();
            Fetch(pointer);
            CurrentPointer = pointer;
        }

        return VmxResult.Succeed;
    }

    /// <summary>VMPTRST: the current-VMCS pointer, all ones when there is none.</summary>
    public ulong VmPtrSt() => CurrentPointer;

    /// <summary>VMREAD.</summary>
    /// <param name="encoding">The field's encoding; bit 0 asks for the high half of a 64-bit field.</param>
    /// <param name="value">The value, zero-extended.</param>
    public VmxResult VmRead(ulong encoding, out ulong value)
    {
        value = 0;
        if (CurrentPointer == NoPointer)
        {
            return VmxResult.FailInvalid;
        }

        if (!VmcsFieldInfo.TryFind(encoding, out VmcsFieldInfo info, out bool high) || !info.Exists(Capabilities))
        {
            return Fail(VmxInstructionError.UnsupportedComponent);
        }

        value = _vmcs[info.Field];
        if (high)
        {
            value >>= 32;
        }

        return VmxResult.Succeed;
    }

    /// <summary>VMWRITE.</summary>
    public VmxResult VmWrite(ulong encoding, ulong value)
    {
        if (CurrentPointer == NoPointer)
        {
            return VmxResult.FailInvalid;
        }

        if (!VmcsFieldInfo.TryFind(encoding, out VmcsFieldInfo info, out bool high) || !info.Exists(Capabilities))
        {
            return Fail(VmxInstructionError.UnsupportedComponent);
        }

        if (info.Group == VmcsFieldGroup.ReadOnly && (Capabilities.Misc & (1UL << 29)) == 0)
        {
            return Fail(VmxInstructionError.VmwriteReadOnlyComponent);
        }

        _vmcs[info.Field] = high ? (uint)_vmcs[info.Field] | (value << 32) : value;
        return VmxResult.Succeed;
    }

    /// <summary>INVEPT.</summary>
    /// <param name="type">1 single-context, 2 all-context.</param>
    /// <param name="eptPointer">Low quadword of the descriptor.</param>
    /// <param name="reserved">High quadword of the descriptor.</param>
    public VmxResult InvEpt(ulong type, ulong eptPointer, ulong reserved = 0)
    {
        bool supported = type is 1 or 2 && Capabilities.HasEptVpid(20) && Capabilities.HasEptVpid(24 + (int)type);
        // DEVIATION: the SDM calls bits 127:64 of the descriptor reserved; real processors ignore them, so does this one.
        _ = reserved;
        if (!supported || (type == 1 && !EptPointerIsValid(Capabilities, eptPointer)))
        {
            return Fail(VmxInstructionError.InvalidInvalidationOperand);
        }

        _cpu.FlushTlb();
        return VmxResult.Succeed;
    }

    /// <summary>INVVPID.</summary>
    /// <param name="type">0 individual address, 1 single context, 2 all contexts, 3 single context without globals.</param>
    /// <param name="descriptor">Low quadword: VPID in bits 15:0, the rest reserved.</param>
    /// <param name="linear">High quadword: the linear address.</param>
    public VmxResult InvVpid(ulong type, ulong descriptor, ulong linear)
    {
        if (type > 3 || !Capabilities.HasEptVpid(32) || !Capabilities.HasEptVpid(40 + (int)type)
            || (descriptor >> 16) != 0
            || (type != 2 && (ushort)descriptor == 0)
            || (type == 0 && !Capabilities.IsCanonical(linear)))
        {
            return Fail(VmxInstructionError.InvalidInvalidationOperand);
        }

        _cpu.FlushTlb();
        return VmxResult.Succeed;
    }

    /// <summary>VMX instructions of guest code in root operation are not modelled yet.</summary>
    ExecResult IVmxInstructions.Execute(SensitiveInstruction instruction, ulong memory, bool hasMemory, Gpr register, Gpr other) =>
        _cpu.Unimplemented(instruction.ToString());

    /// <summary>VMfail: invalid without a current VMCS, otherwise valid with the number in the VM-instruction error field.</summary>
    private VmxResult Fail(VmxInstructionError error)
    {
        if (CurrentPointer == NoPointer)
        {
            return VmxResult.FailInvalid;
        }

        _vmcs[VmcsField.VmInstructionError] = (ulong)error;
        return VmxResult.FailValid(error);
    }

    private bool IsRegion(ulong pointer) => (pointer & 0xFFF) == 0
        && (pointer & Capabilities.PhysicalReserved) == 0
        && ((Capabilities.Basic & (1UL << 48)) == 0 || pointer >> 32 == 0);

    private uint RevisionAt(ulong pointer) => (uint)ReadWord(pointer);

    private void Flush()
    {
        if (CurrentPointer == NoPointer)
        {
            return;
        }

        WriteWord(CurrentPointer + RegionLaunch, _vmcs.Launched ? 1UL : 0);
        ulong at = CurrentPointer + RegionFields;
        foreach (VmcsFieldInfo info in VmcsFieldInfo.All)
        {
            WriteWord(at, _vmcs[info.Field]);
            at += 8;
        }
    }

    private void Fetch(ulong pointer)
    {
        _vmcs.Launched = ReadWord(pointer + RegionLaunch) == 1;
        ulong at = pointer + RegionFields;
        foreach (VmcsFieldInfo info in VmcsFieldInfo.All)
        {
            _vmcs[info.Field] = ReadWord(at);
            at += 8;
        }

        _vmcs.MarkAllDirty();
    }

    private ulong ReadWord(ulong address)
    {
        Span<byte> bytes = stackalloc byte[8];
        return _cpu.Memory.TryRead(new Gpa(address), bytes) ? BinaryPrimitives.ReadUInt64LittleEndian(bytes) : ulong.MaxValue;
    }

    private void WriteWord(ulong address, ulong value)
    {
        Span<byte> bytes = stackalloc byte[8];
        BinaryPrimitives.WriteUInt64LittleEndian(bytes, value);
        _cpu.Memory.TryWrite(new Gpa(address), bytes);
    }
}
