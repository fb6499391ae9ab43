using VmFuzz.Arch;

namespace VmFuzz.Trace;

public sealed partial class TraceEvent
{
    /// <summary>Digest of registers, VMCS, devices and consumed inputs. Kinds: exit, injected, delivered, input, sync, checkpoint, end.</summary>
    public ulong Digest
    {
        get => _slots[TraceKeys.Digest];
        set => _slots[TraceKeys.Digest] = value;
    }

    /// <summary>RIP of the guest. Kinds: exit, injected, delivered, first access.</summary>
    public ulong Rip
    {
        get => _slots[TraceKeys.Rip];
        set => _slots[TraceKeys.Rip] = value;
    }

    /// <summary>Flags of an entry.</summary>
    public TraceEntryFlags EntryFlags
    {
        get => (TraceEntryFlags)_slots[TraceKeys.EntryFlags];
        set => _slots[TraceKeys.EntryFlags] = (ulong)value;
    }

    /// <summary>Exit reason with bit 31 (VM-entry failure). Kind: exit.</summary>
    public uint ExitReason
    {
        get => (uint)_slots[TraceKeys.ExitReason];
        set => _slots[TraceKeys.ExitReason] = (ulong)value;
    }

    /// <summary>Exit qualification. Kind: exit.</summary>
    public ulong Qualification
    {
        get => _slots[TraceKeys.Qualification];
        set => _slots[TraceKeys.Qualification] = value;
    }

    /// <summary>Instruction length in bytes, 0 when there is none. Kinds: entry, exit.</summary>
    public uint InstructionLength
    {
        get => (uint)_slots[TraceKeys.InstructionLength];
        set => _slots[TraceKeys.InstructionLength] = (ulong)value;
    }

    /// <summary>Interruption information. Kinds: entry, exit, injected, delivered.</summary>
    public uint InterruptionInfo
    {
        get => (uint)_slots[TraceKeys.InterruptionInfo];
        set => _slots[TraceKeys.InterruptionInfo] = (ulong)value;
    }

    /// <summary>Error code of the event. Kinds: entry, exit, injected, delivered.</summary>
    public uint ErrorCode
    {
        get => (uint)_slots[TraceKeys.ErrorCode];
        set => _slots[TraceKeys.ErrorCode] = (ulong)value;
    }

    /// <summary>Guest linear address. Kind: exit.</summary>
    public ulong GuestLinear
    {
        get => _slots[TraceKeys.GuestLinear];
        set => _slots[TraceKeys.GuestLinear] = value;
    }

    /// <summary>Guest-physical address. Kind: exit.</summary>
    public ulong GuestPhysical
    {
        get => _slots[TraceKeys.GuestPhysical];
        set => _slots[TraceKeys.GuestPhysical] = value;
    }

    /// <summary>IDT-vectoring information. Kind: exit.</summary>
    public uint IdtVectoringInfo
    {
        get => (uint)_slots[TraceKeys.IdtVectoringInfo];
        set => _slots[TraceKeys.IdtVectoringInfo] = (ulong)value;
    }

    /// <summary>IDT-vectoring error code. Kind: exit.</summary>
    public uint IdtErrorCode
    {
        get => (uint)_slots[TraceKeys.IdtErrorCode];
        set => _slots[TraceKeys.IdtErrorCode] = (ulong)value;
    }

    /// <summary>VM-exit instruction information. Kind: exit.</summary>
    public uint InstructionInfo
    {
        get => (uint)_slots[TraceKeys.InstructionInfo];
        set => _slots[TraceKeys.InstructionInfo] = (ulong)value;
    }

    /// <summary>Which place asked. Kind: input.</summary>
    public InputPoint InputPoint
    {
        get => (InputPoint)_slots[TraceKeys.InputPoint];
        set => _slots[TraceKeys.InputPoint] = (ulong)value;
    }

    /// <summary>What came. Kind: input.</summary>
    public InputKind InputKind
    {
        get => (InputKind)_slots[TraceKeys.InputKind];
        set => _slots[TraceKeys.InputKind] = (ulong)value;
    }

    /// <summary>Consultations of the door before this one at the same count. Kind: input.</summary>
    public uint Ordinal
    {
        get => (uint)_slots[TraceKeys.Ordinal];
        set => _slots[TraceKeys.Ordinal] = (ulong)value;
    }

    /// <summary>The main word. Kind: input.</summary>
    public ulong Value
    {
        get => _slots[TraceKeys.Value];
        set => _slots[TraceKeys.Value] = value;
    }

    /// <summary>The second word. Kind: input.</summary>
    public ulong Auxiliary
    {
        get => _slots[TraceKeys.Auxiliary];
        set => _slots[TraceKeys.Auxiliary] = value;
    }

    /// <summary>The component a derived value comes from. Kind: derived.</summary>
    public ComponentId Source
    {
        get => (ComponentId)_slots[TraceKeys.Source];
        set => _slots[TraceKeys.Source] = (ulong)value;
    }

    /// <summary>The derived value. Kind: derived.</summary>
    public ulong DerivedValue
    {
        get => _slots[TraceKeys.DerivedValue];
        set => _slots[TraceKeys.DerivedValue] = value;
    }

    /// <summary>Bit number of the request. Kind: request.</summary>
    public uint RequestNumber
    {
        get => (uint)_slots[TraceKeys.RequestNumber];
        set => _slots[TraceKeys.RequestNumber] = (ulong)value;
    }

    /// <summary>Raised or served. Kind: request.</summary>
    public TraceRequestPhase RequestPhase
    {
        get => (TraceRequestPhase)_slots[TraceKeys.RequestPhase];
        set => _slots[TraceKeys.RequestPhase] = (ulong)value;
    }

    /// <summary>KVM exit reason. Kind: userspace exit.</summary>
    public uint UserspaceReason
    {
        get => (uint)_slots[TraceKeys.UserspaceReason];
        set => _slots[TraceKeys.UserspaceReason] = (ulong)value;
    }

    /// <summary>Result of the run call: 0 or a negative error number. Kind: userspace exit.</summary>
    public int Errno
    {
        get => (int)_slots[TraceKeys.Errno];
        set => _slots[TraceKeys.Errno] = (ulong)(long)value;
    }

    /// <summary>First word of what the reason tells. Kind: userspace exit.</summary>
    public ulong Data0
    {
        get => _slots[TraceKeys.Data0];
        set => _slots[TraceKeys.Data0] = value;
    }

    /// <summary>Second word. Kind: userspace exit.</summary>
    public ulong Data1
    {
        get => _slots[TraceKeys.Data0 + 1];
        set => _slots[TraceKeys.Data0 + 1] = value;
    }

    /// <summary>Third word. Kind: userspace exit.</summary>
    public ulong Data2
    {
        get => _slots[TraceKeys.Data0 + 2];
        set => _slots[TraceKeys.Data0 + 2] = value;
    }

    /// <summary>Fourth word. Kind: userspace exit.</summary>
    public ulong Data3
    {
        get => _slots[TraceKeys.Data0 + 3];
        set => _slots[TraceKeys.Data0 + 3] = value;
    }

    /// <summary>Which way the bytes went. Kind: console.</summary>
    public TraceDirection Direction
    {
        get => (TraceDirection)_slots[TraceKeys.Direction];
        set => _slots[TraceKeys.Direction] = (ulong)value;
    }

    /// <summary>Port or memory. Kind: first access.</summary>
    public TraceSpace Space
    {
        get => (TraceSpace)_slots[TraceKeys.Space];
        set => _slots[TraceKeys.Space] = (ulong)value;
    }

    /// <summary>Port number or guest-physical address. Kind: first access.</summary>
    public ulong Address
    {
        get => _slots[TraceKeys.Address];
        set => _slots[TraceKeys.Address] = value;
    }

    /// <summary>Bytes accessed. Kind: first access.</summary>
    public uint Size
    {
        get => (uint)_slots[TraceKeys.Size];
        set => _slots[TraceKeys.Size] = (ulong)value;
    }

    /// <summary>Whether the access was a write. Kind: first access.</summary>
    public bool IsWrite
    {
        get => _slots[TraceKeys.IsWrite] != 0;
        set => _slots[TraceKeys.IsWrite] = value ? 1UL : 0;
    }

    /// <summary>Digest of guest memory. Kinds: checkpoint, end.</summary>
    public ulong MemoryDigest
    {
        get => _slots[TraceKeys.MemoryDigest];
        set => _slots[TraceKeys.MemoryDigest] = value;
    }

    /// <summary>Number of the checkpoint, from 0. Kind: checkpoint.</summary>
    public uint CheckpointNumber
    {
        get => (uint)_slots[TraceKeys.CheckpointNumber];
        set => _slots[TraceKeys.CheckpointNumber] = (ulong)value;
    }

    /// <summary>Running hash of all consumed inputs. Kind: end.</summary>
    public ulong InputsHash
    {
        get => _slots[TraceKeys.InputsHash];
        set => _slots[TraceKeys.InputsHash] = value;
    }

    /// <summary>Entry events in the trace; the writer counts them. Kind: end.</summary>
    public ulong Entries
    {
        get => _slots[TraceKeys.Entries];
        set => _slots[TraceKeys.Entries] = value;
    }

    /// <summary>Exit events in the trace; the writer counts them. Kind: end.</summary>
    public ulong Exits
    {
        get => _slots[TraceKeys.Exits];
        set => _slots[TraceKeys.Exits] = value;
    }

    /// <summary>Injected events in the trace; the writer counts them. Kind: end.</summary>
    public ulong InjectedEvents
    {
        get => _slots[TraceKeys.InjectedEvents];
        set => _slots[TraceKeys.InjectedEvents] = value;
    }

    /// <summary>Delivered events in the trace; the writer counts them. Kind: end.</summary>
    public ulong DeliveredEvents
    {
        get => _slots[TraceKeys.DeliveredEvents];
        set => _slots[TraceKeys.DeliveredEvents] = value;
    }

    /// <summary>Input events in the trace; the writer counts them. Kind: end.</summary>
    public ulong Inputs
    {
        get => _slots[TraceKeys.Inputs];
        set => _slots[TraceKeys.Inputs] = value;
    }

    /// <summary>Bytes the guest wrote to the console. Kind: end.</summary>
    public ulong ConsoleLength
    {
        get => _slots[TraceKeys.ConsoleLength];
        set => _slots[TraceKeys.ConsoleLength] = value;
    }

    /// <summary>Running hash of the console bytes. Kind: end.</summary>
    public ulong ConsoleHash
    {
        get => _slots[TraceKeys.ConsoleHash];
        set => _slots[TraceKeys.ConsoleHash] = value;
    }
}
