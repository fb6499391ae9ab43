using System.Buffers.Binary;
using System.Collections.Generic;

namespace VmFuzz.Kvm;

/// <summary>The paravirtual clock and the steal-time record, as the guest reads them.</summary>
internal static class GuestClock
{
    private const int Bytes = 32;

    /// <summary>S25: odd version while it is written, then even; a page that cannot be written does no harm.</summary>
    public static void Write(Vcpu vcpu)
    {
        Span<byte> page = stackalloc byte[Bytes];
        if (!vcpu.Vm.TryRead(vcpu.PvClockAddress, page))
        {
            return;
        }

        uint version = BinaryPrimitives.ReadUInt32LittleEndian(page) & ~1U;
        BinaryPrimitives.WriteUInt32LittleEndian(page, version + 2);
        BinaryPrimitives.WriteUInt64LittleEndian(page[8..], vcpu.Vmx.GuestTsc);
        BinaryPrimitives.WriteUInt64LittleEndian(page[16..], vcpu.Vm.Clock.Now);
        BinaryPrimitives.WriteUInt32LittleEndian(page[24..], 0x8000_0000); // 1 GHz: half of twice a tick
        page[28] = 1;
        page[29] = 0;
        vcpu.Vm.TryWrite(vcpu.PvClockAddress, page);
    }

    /// <summary>S32: adds stolen nanoseconds, version stepped by two.</summary>
    public static void WriteSteal(Vcpu vcpu, ulong nanoseconds)
    {
        Span<byte> record = stackalloc byte[12];
        if (!vcpu.Vm.TryRead(vcpu.StealTimeAddress, record))
        {
            return;
        }

        ulong total = BinaryPrimitives.ReadUInt64LittleEndian(record);
        uint version = BinaryPrimitives.ReadUInt32LittleEndian(record[8..]) & ~1U;
        BinaryPrimitives.WriteUInt64LittleEndian(record, total + nanoseconds);
        BinaryPrimitives.WriteUInt32LittleEndian(record[8..], version + 2);
        vcpu.Vm.TryWrite(vcpu.StealTimeAddress, record);
    }
}

/// <summary>How often the guest left at each RIP.</summary>
public sealed class RipProfile
{
    private readonly SortedDictionary<ulong, ulong> _counts = [];

    /// <summary>RIPs and counts, by RIP.</summary>
    public IEnumerable<KeyValuePair<ulong, ulong>> Counts => _counts;

    internal void Count(ulong rip)
    {
        _counts.TryGetValue(rip, out ulong count);
        _counts[rip] = count + 1;
    }
}
