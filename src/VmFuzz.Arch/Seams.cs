namespace VmFuzz.Arch;

/// <summary>Virtual time. One retired instruction is 1 ns; exits and idle periods add to it.</summary>
public interface IClock
{
    /// <summary>Nanoseconds since the machine was reset.</summary>
    ulong Now { get; }
}

/// <summary>Something that wants to be called at a virtual time.</summary>
public interface IEventTarget
{
    /// <summary>Called when the event is due.</summary>
    /// <param name="token">The token it was scheduled with.</param>
    /// <param name="now">Virtual time in nanoseconds; at or after the deadline.</param>
    void OnEvent(int token, ulong now);
}

/// <summary>Events of devices in virtual time. Events with one deadline run in the order in which they were scheduled.</summary>
public interface IEventQueue
{
    /// <summary>Schedules, or moves, the event of this target and token.</summary>
    /// <param name="target">Who is called.</param>
    /// <param name="token">Which of the target's events.</param>
    /// <param name="deadline">Virtual time in nanoseconds.</param>
    void Schedule(IEventTarget target, int token, ulong deadline);

    /// <summary>Removes the event of this target and token, if it is scheduled.</summary>
    void Cancel(IEventTarget target, int token);

    /// <summary>The earliest deadline, or <see cref="ulong.MaxValue"/> when the queue is empty.</summary>
    ulong NextDeadline { get; }
}

/// <summary>Ports and memory-mapped I/O as the processor, or a userspace, reaches them.</summary>
public interface IBus
{
    /// <summary>Reads a port.</summary>
    /// <param name="port">The port number.</param>
    /// <param name="size">1, 2 or 4 bytes.</param>
    /// <returns>The value; ports without a device float and read all ones.</returns>
    uint ReadPort(ushort port, int size);

    /// <summary>Writes a port. Ports without a device ignore it.</summary>
    void WritePort(ushort port, int size, uint value);

    /// <summary>Reads guest-physical memory that no slot backs.</summary>
    /// <param name="address">The address.</param>
    /// <param name="size">1 to 8 bytes.</param>
    /// <returns>The value; addresses without a device read all ones.</returns>
    ulong ReadMmio(Gpa address, int size);

    /// <summary>Writes guest-physical memory that no slot backs.</summary>
    void WriteMmio(Gpa address, int size, ulong value);
}

/// <summary>The interrupt controller as the processor sees it.</summary>
public interface IInterruptController
{
    /// <summary>Whether the INTR line is asserted.</summary>
    bool InterruptPending { get; }

    /// <summary>Acknowledges the interrupt of highest priority.</summary>
    /// <returns>Its vector, 0 to 255.</returns>
    byte Acknowledge();

    /// <summary>CR8: the task priority, 0 to 15.</summary>
    byte TaskPriority { get; set; }

    /// <summary>Reads an x2APIC register (MSRs 0x800 to 0x8FF) or IA32_TSC_DEADLINE. False means #GP.</summary>
    bool TryReadApicMsr(uint msr, out ulong value);

    /// <summary>Writes an x2APIC register (MSRs 0x800 to 0x8FF) or IA32_TSC_DEADLINE. False means #GP.</summary>
    bool TryWriteApicMsr(uint msr, ulong value);

    /// <summary>The processor's IA32_APIC_BASE or its time-stamp counter was written.</summary>
    void ProcessorMsrWritten()
    {
    }
}

/// <summary>Guest memory as a device reaches it by DMA. No access is partial: false means that nothing was moved.</summary>
public interface IDmaMemory
{
    /// <summary>Reads bytes. False when any of them is not backed by memory.</summary>
    bool TryRead(Gpa address, Span<byte> destination);

    /// <summary>Writes bytes. False when any of them is not backed by writable memory.</summary>
    bool TryWrite(Gpa address, ReadOnlySpan<byte> source);
}
