using System.Buffers.Binary;
using System.Collections.Immutable;
using VmFuzz.Arch;
using VmFuzz.Memory;

namespace VmFuzz.Kvm;

/// <summary>
/// Machine memory that the hypervisor keeps for itself: second-stage tables from its start upwards, VMCS regions and
/// bitmaps from its end downwards. Two numbers describe what is taken, so that a restored state is whole.
/// </summary>
internal sealed class HostArea
{
    private static readonly ImmutableArray<byte> ZeroPage = ImmutableArray.Create(new byte[Gpa.PageSize]);
    private readonly GuestMemory _memory;
    private readonly ulong _first;
    private readonly ulong _end;

    public HostArea(GuestMemory memory, ulong address, ulong bytes)
    {
        _memory = memory;
        _first = address;
        _end = address + bytes;
        NextTable = _first;
        LastFixed = _end;
        if (!memory.TryGetPage(address, out _))
        {
            memory.AddSlot(new Gpa(address), bytes);
        }
    }

    /// <summary>The next table page.</summary>
    public ulong NextTable { get; set; }

    /// <summary>The lowest fixed page.</summary>
    public ulong LastFixed { get; set; }

    /// <summary>Whether a machine address belongs to the hypervisor.</summary>
    public bool Contains(ulong address) => address - _first < _end - _first;

    /// <summary>Takes a zeroed page for a table; false when there is none left.</summary>
    public bool TryTakeTable(out ulong address)
    {
        address = NextTable;
        if (NextTable >= LastFixed)
        {
            return false;
        }

        NextTable += Gpa.PageSize;
        return Clear(address);
    }

    /// <summary>Takes a zeroed page that stays taken.</summary>
    public ulong TakeFixed()
    {
        LastFixed -= Gpa.PageSize;
        Clear(LastFixed);
        return LastFixed;
    }

    /// <summary>Gives all table pages back.</summary>
    public void ReturnTables() => NextTable = _first;

    public ulong Read(ulong address)
    {
        Span<byte> bytes = stackalloc byte[8];
        _memory.TryRead(new Gpa(address), bytes);
        return BinaryPrimitives.ReadUInt64LittleEndian(bytes);
    }

    public void Write(ulong address, ulong value)
    {
        Span<byte> bytes = stackalloc byte[8];
        BinaryPrimitives.WriteUInt64LittleEndian(bytes, value);
        _memory.TryWrite(new Gpa(address), bytes);
    }

    public void Write(ulong address, ReadOnlySpan<byte> bytes) => _memory.TryWrite(new Gpa(address), bytes);

    private bool Clear(ulong address) => _memory.TryWrite(new Gpa(address), ZeroPage.AsSpan());
}

/// <summary>
/// Second-stage tables of a VM (four levels, 4 KiB pages), built when the guest touches a page. Pages that no slot
/// backs get an entry that is misconfigured on purpose, so that later accesses exit as MMIO at once.
/// </summary>
public sealed class EptMmu
{
    private const ulong Read = 1;
    private const ulong Write = 2;
    private const ulong Execute = 4;
    private const ulong WriteBack = 6UL << 3;
    private const ulong AddressMask = 0x000F_FFFF_FFFF_F000;

    // Write and execute without read (SDM "EPT Misconfigurations").
    private const ulong MmioEntry = Write | Execute;

    private readonly Vm _vm;

    internal EptMmu(Vm vm) => _vm = vm;

    /// <summary>Machine address of the root table; 0 when none is loaded.</summary>
    public ulong Root { get; internal set; }

    /// <summary>The EPT pointer: write-back, four levels.</summary>
    public ulong Eptp => Root | 6 | (3 << 3);

    /// <summary>Pages mapped since the last unload.</summary>
    public ulong Mapped { get; internal set; }

    /// <summary>Goes up with every new root: translations of the one before are stale.</summary>
    internal ulong Generation { get; private set; }

    /// <summary>The next load fails (input: allocation failure).</summary>
    public bool FailNextLoad { get; set; }

    /// <summary>Makes sure that there is a root (kvm_mmu_reload).</summary>
    /// <returns>0 or -ENOMEM.</returns>
    internal int Load()
    {
        if (FailNextLoad)
        {
            FailNextLoad = false;
            return -Errno.ENOMEM;
        }

        if (Root != 0)
        {
            return 0;
        }

        if (!_vm.Host.TryTakeTable(out ulong root))
        {
            return -Errno.ENOMEM;
        }

        Root = root;
        Generation++;
        return 0;
    }

    /// <summary>Gives all tables back.</summary>
    internal void Unload()
    {
        _vm.Host.ReturnTables();
        Root = 0;
        Mapped = 0;
    }

    /// <summary>What became of a page fault of the second stage.</summary>
    internal enum FaultResult
    {
        /// <summary>The page is mapped: try again.</summary>
        Mapped,

        /// <summary>No memory, or a write to ROM: emulate the access.</summary>
        Emulate,

        /// <summary>No memory for tables.</summary>
        OutOfMemory,
    }

    /// <summary>Maps the page of a guest-physical address as far as the slots allow.</summary>
    internal FaultResult Fault(ulong gpa, bool write)
    {
        if (Load() < 0)
        {
            return FaultResult.OutOfMemory;
        }

        if (!_vm.TryTranslate(gpa, out ulong machine, out bool writable, out bool logDirty))
        {
            return Set(gpa, MmioEntry | (gpa & AddressMask)) ? FaultResult.Emulate : FaultResult.OutOfMemory;
        }

        bool mapWritable = writable && (!logDirty || write);
        ulong entry = (machine & AddressMask) | WriteBack | Read | Execute | (mapWritable ? Write : 0);
        if (!Set(gpa, entry))
        {
            return FaultResult.OutOfMemory;
        }

        if (write && writable && logDirty)
        {
            _vm.MarkDirty(gpa >> 12);
        }

        Mapped++;
        return write && !writable ? FaultResult.Emulate : FaultResult.Mapped;
    }

    private bool Set(ulong gpa, ulong entry)
    {
        ulong table = Root;
        for (int level = 4; level > 1; level--)
        {
            ulong at = table + (((gpa >> (12 + (9 * (level - 1)))) & 511) * 8);
            ulong next = _vm.Host.Read(at);
            if (next == 0)
            {
                if (!_vm.Host.TryTakeTable(out ulong page))
                {
                    return false;
                }

                next = page | Read | Write | Execute;
                _vm.Host.Write(at, next);
            }

            table = next & AddressMask;
        }

        _vm.Host.Write(table + (((gpa >> 12) & 511) * 8), entry);
        return true;
    }
}
