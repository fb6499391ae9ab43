using System.Collections.Immutable;
using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Memory;
using VmFuzz.Vmx;

namespace VmFuzz.Kvm;

/// <summary>A range of guest-physical memory and the machine memory behind it.</summary>
/// <param name="Id">Number of the slot.</param>
/// <param name="Address">First guest-physical address; a multiple of 4096.</param>
/// <param name="Bytes">Size; a multiple of 4096.</param>
/// <param name="Machine">First machine address; a multiple of 4096.</param>
/// <param name="ReadOnly">Writes leave as MMIO.</param>
/// <param name="LogDirty">Written pages are noted.</param>
public readonly record struct MemorySlot(int Id, Gpa Address, ulong Bytes, Gpa Machine, bool ReadOnly, bool LogDirty);

/// <summary>A virtual machine: memory slots, second-stage tables, VCPUs.</summary>
public sealed class Vm : IStateful, ICopiedState
{
    private static readonly ImmutableArray<StateField> FieldTable =
    [
        new(0, "eptRoot", 8), new(1, "eptMapped", 8), new(2, "nextTable", 8), new(3, "lastFixed", 8), new(4, "masterclockGeneration", 8),
        new(5, "failNextLoad", 8),
    ];

    private readonly List<MemorySlot> _slots = [];
    private readonly List<Vcpu> _vcpus = [];
    private readonly List<ulong> _dirtyFrames = [];

    internal Vm(KvmSystem system, GuestMemory memory, IClock clock, IVirtualTime time, VmOptions options)
    {
        System = system;
        Owner = system.CurrentOwner;
        Memory = memory;
        Clock = clock;
        Time = time;
        Options = options;
        Host = new HostArea(memory, options.HostAreaAddress, options.HostAreaBytes);
        Mmu = new EptMmu(this);
    }

    /// <summary>The system handle.</summary>
    public KvmSystem System { get; }

    /// <summary>Which address space created it.</summary>
    public int Owner { get; }

    /// <summary>Machine memory.</summary>
    public GuestMemory Memory { get; }

    /// <summary>Virtual time.</summary>
    public IClock Clock { get; }

    /// <summary>Receives the cost of exits.</summary>
    public IVirtualTime Time { get; }

    /// <summary>How the VM behaves.</summary>
    public VmOptions Options { get; }

    /// <summary>The VCPUs, by index.</summary>
    public IReadOnlyList<Vcpu> Vcpus => _vcpus;

    /// <summary>The memory slots, in the order of their creation.</summary>
    public IReadOnlyList<MemorySlot> Slots => _slots;

    /// <summary>Second-stage tables.</summary>
    public EptMmu Mmu { get; }

    /// <summary>Frames written since dirty logging was last read, in the order of their first write.</summary>
    public IReadOnlyList<ulong> DirtyFrames => _dirtyFrames;

    /// <summary>Generation of the master clock; every VCPU's clock is derived from one (S23).</summary>
    public ulong MasterclockGeneration { get; private set; }

    internal HostArea Host { get; }

    /// <summary>Creates a VCPU on a processor.</summary>
    /// <param name="processor">The processor; its registers become the guest's start state.</param>
    /// <param name="vmx">Its VT-x unit.</param>
    /// <param name="msrs">MSRs that the run path leaves to the processor's own tables; those of <see cref="ProcessorMsrs"/> when null.</param>
    public Vcpu CreateVcpu(Processor processor, VmxUnit vmx, IMsrAccess? msrs = null)
    {
        msrs ??= new ProcessorMsrs(processor);
        Vcpu vcpu = new(this, _vcpus.Count, processor, vmx, Options.Msrs?.Invoke(msrs) ?? msrs);
        _vcpus.Add(vcpu);
        return vcpu;
    }

    /// <summary>Sets a memory slot (KVM_SET_USER_MEMORY_REGION); a size of 0 removes it. Mappings are dropped.</summary>
    /// <returns>0, or -EINVAL for a misaligned slot, -EEXIST for one that overlaps another.</returns>
    public int SetMemorySlot(in MemorySlot slot)
    {
        if (((slot.Address.Value | slot.Bytes | slot.Machine.Value) & 0xFFF) != 0)
        {
            return -Errno.EINVAL;
        }

        int old = _slots.FindIndex(slot.Id, static (s, id) => s.Id == id);
        foreach (MemorySlot other in _slots)
        {
            if (other.Id != slot.Id && slot.Bytes != 0
                && slot.Address.Value < other.Address.Value + other.Bytes
                && other.Address.Value < slot.Address.Value + slot.Bytes)
            {
                return -Errno.EEXIST;
            }
        }

        if (old >= 0)
        {
            _slots.RemoveAt(old);
        }

        if (slot.Bytes != 0)
        {
            _slots.Add(slot);
        }

        DropMappings();
        return 0;
    }

    /// <summary>
    /// One slot that shows the machine's memory at its own addresses up to the hypervisor's area; what the machine does
    /// not back is MMIO, and what it backs read-only is ROM.
    /// </summary>
    public void MapMachine() => SetMemorySlot(new MemorySlot(0, default, Options.HostAreaAddress, default, false, false));

    /// <summary>Drops all second-stage mappings: the machine's memory changed its shape.</summary>
    public void DropMappings()
    {
        Mmu.Unload();
        foreach (Vcpu vcpu in _vcpus)
        {
            vcpu.Raise(Request.MmuReload);
            vcpu.Raise(Request.TlbFlush);
        }
    }

    /// <summary>Finds the machine memory behind a guest-physical address.</summary>
    /// <returns>False when no slot backs it: the access is MMIO.</returns>
    public bool TryTranslate(ulong gpa, out ulong machine, out bool writable, out bool logDirty)
    {
        for (int i = 0; i < _slots.Count; i++)
        {
            MemorySlot slot = _slots[i];
            ulong offset = gpa - slot.Address.Value;
            if (offset < slot.Bytes)
            {
                machine = slot.Machine.Value + offset;
                logDirty = slot.LogDirty;
                if (!Host.Contains(machine) && Memory.TryGetPage(machine, out PageRef page))
                {
                    writable = page.Writable && !slot.ReadOnly;
                    return true;
                }

                break;
            }
        }

        machine = 0;
        writable = false;
        logDirty = false;
        return false;
    }

    /// <summary>Reads guest-physical memory. False when any byte is MMIO.</summary>
    public bool TryRead(ulong gpa, Span<byte> destination)
    {
        while (destination.Length > 0)
        {
            int count = Math.Min(destination.Length, 4096 - (int)(gpa & 0xFFF));
            if (!TryTranslate(gpa, out ulong machine, out _, out _) || !Memory.TryRead(new Gpa(machine), destination[..count]))
            {
                return false;
            }

            destination = destination[count..];
            gpa += (ulong)count;
        }

        return true;
    }

    /// <summary>Writes guest-physical memory, notes dirty pages. False when the first byte's page is MMIO or ROM.</summary>
    public bool TryWrite(ulong gpa, ReadOnlySpan<byte> source)
    {
        while (source.Length > 0)
        {
            int count = Math.Min(source.Length, 4096 - (int)(gpa & 0xFFF));
            if (!TryTranslate(gpa, out ulong machine, out bool writable, out bool logDirty) || !writable
                || !Memory.TryWrite(new Gpa(machine), source[..count]))
            {
                return false;
            }

            if (logDirty)
            {
                MarkDirty(gpa >> 12);
            }

            source = source[count..];
            gpa += (ulong)count;
        }

        return true;
    }

    /// <summary>Forgets the dirty frames; written pages of logged slots fault again.</summary>
    public void ClearDirtyLog()
    {
        _dirtyFrames.Clear();
        DropMappings();
    }

    internal void MarkDirty(ulong frame)
    {
        if (!_dirtyFrames.Contains(frame))
        {
            _dirtyFrames.Add(frame);
        }
    }

    /// <inheritdoc/>
    public ComponentId Component => ComponentId.KvmVm;

    /// <inheritdoc/>
    public ReadOnlySpan<StateField> Fields => FieldTable.AsSpan();

    /// <inheritdoc/>
    public void ReadField(int index, Span<byte> destination) => StateFields.Put(destination, index switch
    {
        0 => Mmu.Root,
        1 => Mmu.Mapped,
        2 => Host.NextTable,
        3 => Host.LastFixed,
        4 => MasterclockGeneration,
        _ => Mmu.FailNextLoad ? 1UL : 0,
    });

    /// <inheritdoc/>
    public void WriteField(int index, ReadOnlySpan<byte> source)
    {
        ulong value = StateFields.Take(source);
        switch (index)
        {
            case 0:
                Mmu.Root = value;
                break;
            case 1:
                Mmu.Mapped = value;
                break;
            case 2:
                Host.NextTable = value;
                break;
            case 3:
                Host.LastFixed = value;
                break;
            case 4:
                MasterclockGeneration = value;
                break;
            default:
                Mmu.FailNextLoad = value != 0;
                break;
        }
    }

    /// <inheritdoc/>
    public IStateCopy CopyState() => new Copied(this);

    private sealed class Copied(Vm vm) : IStateCopy
    {
        private readonly ulong _root = vm.Mmu.Root;
        private readonly ulong _mapped = vm.Mmu.Mapped;
        private readonly ulong _nextTable = vm.Host.NextTable;
        private readonly ulong _lastFixed = vm.Host.LastFixed;
        private readonly ulong _masterclock = vm.MasterclockGeneration;
        private readonly bool _failNextLoad = vm.Mmu.FailNextLoad;

        public void Restore()
        {
            vm.Mmu.Root = _root;
            vm.Mmu.Mapped = _mapped;
            vm.Host.NextTable = _nextTable;
            vm.Host.LastFixed = _lastFixed;
            vm.MasterclockGeneration = _masterclock;
            vm.Mmu.FailNextLoad = _failNextLoad;
        }
    }

    // S23: the clocks of all VCPUs come from one generation; no VCPU enters meanwhile (S106).
    internal void UpdateMasterclock()
    {
        foreach (Vcpu vcpu in _vcpus)
        {
            vcpu.Raise(Request.MclockInProgress);
        }

        MasterclockGeneration++;
        foreach (Vcpu vcpu in _vcpus)
        {
            vcpu.Raise(Request.ClockUpdate);
            vcpu.Clear(Request.MclockInProgress);
        }
    }

    // S24.
    internal void UpdateClocks()
    {
        foreach (Vcpu vcpu in _vcpus)
        {
            vcpu.Raise(Request.ClockUpdate);
        }
    }
}

internal static class ListSearch
{
    public static int FindIndex<T, TKey>(this List<T> list, TKey key, Func<T, TKey, bool> matches)
    {
        for (int i = 0; i < list.Count; i++)
        {
            if (matches(list[i], key))
            {
                return i;
            }
        }

        return -1;
    }
}
