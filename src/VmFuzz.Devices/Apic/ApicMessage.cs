namespace VmFuzz.Devices.Apic;

/// <summary>What an interrupt message does at its destination (SDM "Interrupt Command Register (ICR)", delivery mode).</summary>
public enum ApicDelivery : byte
{
    /// <summary>The vector, at every destination.</summary>
    Fixed = 0,
    /// <summary>The vector, at the destination of lowest priority.</summary>
    LowestPriority = 1,
    /// <summary>System-management interrupt.</summary>
    Smi = 2,
    /// <summary>A number without a meaning: nothing is delivered.</summary>
    Reserved = 3,
    /// <summary>Non-maskable interrupt.</summary>
    Nmi = 4,
    /// <summary>INIT.</summary>
    Init = 5,
    /// <summary>Start-up IPI; the vector is the page where the processor starts.</summary>
    StartUp = 6,
    /// <summary>The vector comes from an external 8259A-compatible controller. The same number in an ICR is reserved.</summary>
    ExtInt = 7,
}

/// <summary>A destination that the sender need not name (SDM "Interrupt Command Register (ICR)", destination shorthand).</summary>
public enum ApicShorthand : byte
{
    /// <summary>The destination field counts.</summary>
    None = 0,
    /// <summary>The sender.</summary>
    Self = 1,
    /// <summary>All processors.</summary>
    All = 2,
    /// <summary>All processors but the sender.</summary>
    Others = 3,
}

/// <summary>An interrupt message on its way to local APICs.</summary>
/// <param name="Delivery">What it does.</param>
/// <param name="Vector">Its vector.</param>
/// <param name="Destination">APIC number, or set of logical numbers; <see cref="ApicBus.Broadcast"/> for everybody.</param>
/// <param name="Logical">How the destination is read.</param>
/// <param name="Level">Level-triggered: the end of the interrupt is told to the IO APICs.</param>
public readonly record struct ApicMessage(ApicDelivery Delivery, byte Vector, uint Destination, bool Logical = false, bool Level = false)
{
    /// <summary>The vector's number has a meaning that excludes interrupts (SDM "Valid Interrupt Vectors").</summary>
    public bool HasIllegalVector => Delivery is ApicDelivery.Fixed or ApicDelivery.LowestPriority && Vector < 16;
}

/// <summary>The processor to which a local APIC belongs.</summary>
public interface IApicProcessor
{
    /// <summary>IA32_APIC_BASE.</summary>
    ulong ApicBase { get; }

    /// <summary>The time-stamp counter as guest software reads it; one tick a nanosecond.</summary>
    ulong Tsc { get; }

    /// <summary>The INTR line may have changed.</summary>
    void InterruptChanged();

    /// <summary>An event arrives that is no maskable interrupt.</summary>
    /// <param name="delivery">SMI, NMI, INIT or start-up.</param>
    /// <param name="vector">The vector of a start-up IPI.</param>
    void Signal(ApicDelivery delivery, byte vector);
}
