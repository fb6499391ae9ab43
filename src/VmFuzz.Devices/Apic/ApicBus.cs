namespace VmFuzz.Devices.Apic;

/// <summary>
/// What carries interrupt messages among the local APICs and IO APICs of a machine (SDM "System Bus and Local APIC").
/// It has no state.
/// </summary>
public sealed class ApicBus
{
    /// <summary>The destination that means every local APIC.</summary>
    public const uint Broadcast = uint.MaxValue;

    private readonly List<LocalApic> _local = [];
    private readonly List<IoApic> _io = [];

    /// <summary>Sends a message to those whom its destination names.</summary>
    public void Send(in ApicMessage message)
    {
        if (message.Delivery == ApicDelivery.LowestPriority)
        {
            Lowest(message)?.Accept(message);
            return;
        }

        foreach (LocalApic apic in _local)
        {
            if (apic.IsAddressed(message))
            {
                apic.Accept(message);
            }
        }
    }

    /// <summary>An 8-bit destination, where 0xff is everybody.</summary>
    internal static uint Widen(uint destination) => destination == 0xFF ? Broadcast : destination;

    internal void Add(LocalApic apic) => _local.Add(apic);

    internal void Add(IoApic apic) => _io.Add(apic);

    internal void SendToAll(in ApicMessage message, LocalApic? except)
    {
        foreach (LocalApic apic in _local)
        {
            if (apic != except)
            {
                apic.Accept(message);
            }
        }
    }

    internal void EndOfInterrupt(byte vector)
    {
        foreach (IoApic apic in _io)
        {
            apic.EndOfInterrupt(vector);
        }
    }

    // SDM "Lowest Priority Delivery Mode"; among equals the first one.
    private LocalApic? Lowest(in ApicMessage message)
    {
        LocalApic? lowest = null;
        foreach (LocalApic apic in _local)
        {
            if (apic.IsAddressed(message) && (lowest is null || apic.ProcessorPriority < lowest.ProcessorPriority))
            {
                lowest = apic;
            }
        }

        return lowest;
    }
}
