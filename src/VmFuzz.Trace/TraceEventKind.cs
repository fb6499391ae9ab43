namespace VmFuzz.Trace;

/// <summary>What an event tells. Numbers are part of the trace format and never reused.</summary>
public enum TraceEventKind : byte
{
    /// <summary>No event.</summary>
    None = 0,
    /// <summary>A VM entry, or a pass of the run loop that emulated instead.</summary>
    Entry = 1,
    /// <summary>A VM exit.</summary>
    Exit = 2,
    /// <summary>An event injected on VM entry.</summary>
    Injected = 3,
    /// <summary>An event delivered through the IDT without a hypervisor.</summary>
    Delivered = 4,
    /// <summary>Something came through the door.</summary>
    Input = 5,
    /// <summary>A derived value: a timer due, an interrupt of a device.</summary>
    Derived = 6,
    /// <summary>A request to a VCPU, raised or served.</summary>
    Request = 7,
    /// <summary>The run call returned to userspace.</summary>
    UserspaceExit = 8,
    /// <summary>Bytes of the console.</summary>
    Console = 9,
    /// <summary>The first access to a port or address without a device.</summary>
    FirstAccess = 10,
    /// <summary>A digest after a long time without one.</summary>
    Sync = 11,
    /// <summary>The place of a checkpoint.</summary>
    Checkpoint = 12,
    /// <summary>The end of the run; the last event of a whole trace.</summary>
    End = 13,
}

/// <summary>Bits of <see cref="TraceEvent.EntryFlags"/>.</summary>
[Flags]
public enum TraceEntryFlags : byte
{
    /// <summary>A plain entry.</summary>
    None = 0,
    /// <summary>The pass emulated an instruction; the hardware was not entered.</summary>
    Emulated = 1,
}

/// <summary>The life of a request. Numbers are part of the trace format.</summary>
public enum TraceRequestPhase : byte
{
    /// <summary>The request was made.</summary>
    Raised = 0,
    /// <summary>The request was served.</summary>
    Served = 1,
}

/// <summary>Which way console bytes went. Numbers are part of the trace format.</summary>
public enum TraceDirection : byte
{
    /// <summary>From the guest.</summary>
    Output = 0,
    /// <summary>To the guest.</summary>
    Input = 1,
}

/// <summary>Where an access went. Numbers are part of the trace format.</summary>
public enum TraceSpace : byte
{
    /// <summary>An I/O port.</summary>
    Port = 0,
    /// <summary>A guest-physical address.</summary>
    Mmio = 1,
}

/// <summary>Kinds of chunks. Numbers are part of the trace format and never reused.</summary>
public enum TraceChunkKind : byte
{
    /// <summary>No chunk.</summary>
    None = 0,
    /// <summary>The header; always the first chunk.</summary>
    Header = 1,
    /// <summary>A part of a start image.</summary>
    Blob = 2,
    /// <summary>Events.</summary>
    Events = 3,
    /// <summary>A checkpoint. The number is reserved; version 1 has none.</summary>
    Checkpoint = 4,
    /// <summary>The end event; the last chunk but one.</summary>
    End = 5,
    /// <summary>The index; the last chunk.</summary>
    Index = 6,
}
