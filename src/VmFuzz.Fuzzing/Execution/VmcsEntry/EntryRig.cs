using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Memory;
using VmFuzz.Vmx;

namespace VmFuzz.Fuzzing;

/// <summary>A processor with memory and a VT-x unit of some capabilities, whose guests leave at once.</summary>
internal sealed class EntryRig : IStandIn, IClock, IBus, IInputSource, IDisposable
{
    private const ulong MemorySize = 8UL << 20;
    private const ulong VmxonRegion = 0x60_0000;
    private const ulong VmcsRegion = 0x60_1000;

    private readonly ProcessorSnapshot _start;
    private readonly IStateCopy _startHost;
    private readonly IStateCopy _startUnit;

    /// <summary>Makes a rig.</summary>
    public EntryRig(VmxCapabilities capabilities, EntryChecks checks)
    {
        CpuModels.TryFind(Machines.MachineOptions.DefaultCpu, out CpuModel? model);
        Memory = new GuestMemory();
        Memory.AddSlot(new Gpa(0), MemorySize);
        Processor = new Processor(model!, Memory, this, this, this) { StandIn = this };
        Unit = new VmxUnit(Processor, capabilities, checks);
        Span<byte> revision = stackalloc byte[4];
        System.Buffers.Binary.BinaryPrimitives.WriteUInt32LittleEndian(revision, capabilities.RevisionId);
        Memory.TryLoad(new Gpa(VmxonRegion), revision);
        Memory.TryLoad(new Gpa(VmcsRegion), revision);
        Unit.VmxOn(VmxonRegion);
        Unit.VmClear(VmcsRegion);
        Unit.VmPtrLd(VmcsRegion);
        Memory.Commit();
        _start = new ProcessorSnapshot(Processor);
        _startHost = Unit.Host.CopyState();
        _startUnit = Unit.CopyState();
    }

    public GuestMemory Memory { get; }

    public Processor Processor { get; }

    public VmxUnit Unit { get; }

    /// <summary>Whether the guest got as far as its first instruction since <see cref="Reset"/>.</summary>
    public bool Arrived { get; private set; }

    /// <inheritdoc/>
    public ulong Now => 0;

    /// <summary>Puts everything but the VMCS back.</summary>
    public void Reset()
    {
        if (Unit.InGuest)
        {
            Unit.Abandon();
        }

        Memory.Reset();
        _start.Restore(Processor);
        _startHost.Restore();
        _startUnit.Restore();
        Unit.Restored();
        Arrived = false;
    }

    /// <inheritdoc/>
    public void Step(Processor processor)
    {
        Arrived = true;
        Unit.TakeExit(new VmExit((uint)ExitReason.Cpuid, InstructionLength: 2));
    }

    /// <inheritdoc/>
    public ulong NextDue(int vcpu, ulong retired) => ulong.MaxValue;

    /// <inheritdoc/>
    public bool TryTake(InputPoint point, in Position at, out Input input)
    {
        input = default;
        return false;
    }

    /// <inheritdoc/>
    public uint ReadPort(ushort port, int size) => uint.MaxValue;

    /// <inheritdoc/>
    public void WritePort(ushort port, int size, uint value)
    {
    }

    /// <inheritdoc/>
    public ulong ReadMmio(Gpa address, int size) => ulong.MaxValue;

    /// <inheritdoc/>
    public void WriteMmio(Gpa address, int size, ulong value)
    {
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Unit.Dispose();
        Processor.Dispose();
        Memory.Dispose();
    }
}
