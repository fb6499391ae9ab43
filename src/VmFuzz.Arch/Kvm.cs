namespace VmFuzz.Arch;

/// <summary>Why the run call returned to userspace. Numbers of Linux's KVM interface.</summary>
public enum KvmExitReason : uint
{
    /// <summary>KVM_EXIT_UNKNOWN: an exit without a handler; the hardware reason is given.</summary>
    Unknown = 0,
    /// <summary>KVM_EXIT_EXCEPTION.</summary>
    Exception = 1,
    /// <summary>KVM_EXIT_IO: a port access for userspace.</summary>
    Io = 2,
    /// <summary>KVM_EXIT_HYPERCALL.</summary>
    Hypercall = 3,
    /// <summary>KVM_EXIT_DEBUG: a guest-debug event.</summary>
    Debug = 4,
    /// <summary>KVM_EXIT_HLT.</summary>
    Hlt = 5,
    /// <summary>KVM_EXIT_MMIO: a memory access for userspace.</summary>
    Mmio = 6,
    /// <summary>KVM_EXIT_IRQ_WINDOW_OPEN.</summary>
    IrqWindowOpen = 7,
    /// <summary>KVM_EXIT_SHUTDOWN: triple fault.</summary>
    Shutdown = 8,
    /// <summary>KVM_EXIT_FAIL_ENTRY.</summary>
    FailEntry = 9,
    /// <summary>KVM_EXIT_INTR: a signal or a request of userspace.</summary>
    Intr = 10,
    /// <summary>KVM_EXIT_SET_TPR: CR8 was lowered.</summary>
    SetTpr = 11,
    /// <summary>KVM_EXIT_TPR_ACCESS.</summary>
    TprAccess = 12,
    /// <summary>KVM_EXIT_NMI.</summary>
    Nmi = 16,
    /// <summary>KVM_EXIT_INTERNAL_ERROR.</summary>
    InternalError = 17,
    /// <summary>KVM_EXIT_WATCHDOG.</summary>
    Watchdog = 21,
    /// <summary>KVM_EXIT_SYSTEM_EVENT.</summary>
    SystemEvent = 24,
    /// <summary>KVM_EXIT_IOAPIC_EOI.</summary>
    IoapicEoi = 26,
}

/// <summary>Sub-errors of <see cref="KvmExitReason.InternalError"/>.</summary>
public enum KvmInternalError : uint
{
    /// <summary>None.</summary>
    None = 0,
    /// <summary>KVM_INTERNAL_ERROR_EMULATION: an instruction that the emulator does not know.</summary>
    Emulation = 1,
    /// <summary>KVM_INTERNAL_ERROR_SIMUL_EX: an exception during event delivery.</summary>
    SimultaneousExceptions = 2,
    /// <summary>KVM_INTERNAL_ERROR_DELIVERY_EV: an exit during event delivery.</summary>
    DeliveryEvent = 3,
    /// <summary>KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON.</summary>
    UnexpectedExitReason = 4,
}

/// <summary>Error numbers of Linux, positive. The run call returns them negated.</summary>
public static class Errno
{
    /// <summary>No such entry.</summary>
    public const int ENOENT = 2;
    /// <summary>Interrupted.</summary>
    public const int EINTR = 4;
    /// <summary>Input or output error; a VCPU of another owner.</summary>
    public const int EIO = 5;
    /// <summary>No such device: the call needs a missing or conflicts with a present irqchip.</summary>
    public const int ENXIO = 6;
    /// <summary>Try again.</summary>
    public const int EAGAIN = 11;
    /// <summary>Out of memory.</summary>
    public const int ENOMEM = 12;
    /// <summary>Bad address.</summary>
    public const int EFAULT = 14;
    /// <summary>Already there.</summary>
    public const int EEXIST = 17;
    /// <summary>Invalid argument.</summary>
    public const int EINVAL = 22;
}

/// <summary>State of a VCPU as KVM_GET_MP_STATE shows it.</summary>
public enum MpState : byte
{
    /// <summary>KVM_MP_STATE_RUNNABLE.</summary>
    Runnable = 0,
    /// <summary>KVM_MP_STATE_UNINITIALIZED: an application processor that waits for INIT.</summary>
    Uninitialized = 1,
    /// <summary>KVM_MP_STATE_INIT_RECEIVED: waits for a start-up IPI.</summary>
    InitReceived = 2,
    /// <summary>KVM_MP_STATE_HALTED.</summary>
    Halted = 3,
    /// <summary>KVM_MP_STATE_SIPI_RECEIVED.</summary>
    SipiReceived = 4,
}
