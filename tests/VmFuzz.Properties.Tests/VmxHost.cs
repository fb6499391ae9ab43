using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Memory;
using VmFuzz.Testing;
using VmFuzz.Vmx;

namespace VmFuzz.Properties.Tests;

/// <summary>A processor in VMX root operation with a current VMCS that is golden, and a guest at its RIP.</summary>
internal sealed class VmxHost : IBus, IClock, IInputSource, IBoundary, IDisposable
{
    private ulong _limit = 50;

    public VmxHost(VmxCapabilities? capabilities = null)
    {
        capabilities ??= VmxCapabilities.Default;
        Memory = new GuestMemory();
        Memory.AddSlot(new Gpa(0), 16 << 20);
        Cpu = new Processor(CpuModels.VmFuzz64, Memory, this, this, this) { Boundary = this };
        Vmx = new VmxUnit(Cpu, capabilities);
        Write(0x80_0000, capabilities.RevisionId);
        Write(0x80_1000, capabilities.RevisionId);
        Assert.True(Vmx.VmxOn(0x80_0000).Succeeded);
        Assert.True(Vmx.VmClear(0x80_1000).Succeeded);
        Assert.True(Vmx.VmPtrLd(0x80_1000).Succeeded);
        GoldenVmcs.Fill(Vmx.Current, Vmx.Capabilities);

        // EPT at the golden pointer and page tables at the golden CR3: the first 16 MiB one to one.
        Write(0x11_0000, 0x11_1007);
        Write(0x11_1000, 0x11_2007);
        Write(0x30_0000, 0x30_1007);
        Write(0x30_1000, 0x30_2007);
        for (ulong i = 0; i < 8; i++)
        {
            Write(0x11_2000 + (8 * i), (i << 21) | 0xB7);
            Write(0x30_2000 + (8 * i), (i << 21) | 0x87);
        }

        Memory.TryLoad(new Gpa(GoldenVmcs.GuestRip), new byte[] { 0x90, 0x90, 0x90, 0xF4 });
    }

    public GuestMemory Memory { get; }

    public Processor Cpu { get; }

    public VmxUnit Vmx { get; }

    public ulong Now => 1000;

    /// <summary>The first check that fails for a VMCS on this host; null when none does.</summary>
    public EntryCheck? FirstFailure(Vmcs vmcs) =>
        EntryChecks.Default.FirstFailure(new EntryContext(vmcs, Vmx.Capabilities, Memory, Vmx.CurrentPointer, Vmx.Host));

    public void NextRun() => _limit = Cpu.Retired + 50;

    public bool OnBoundary(ulong retired, out ulong nextLimit)
    {
        nextLimit = _limit;
        return retired < _limit;
    }

    public ulong NextDue(int vcpu, ulong retired) => ulong.MaxValue;

    public bool TryTake(InputPoint point, in Position at, out Input input)
    {
        input = default;
        return false;
    }

    public uint ReadPort(ushort port, int size) => 0;

    public void WritePort(ushort port, int size, uint value)
    {
    }

    public ulong ReadMmio(Gpa address, int size) => ulong.MaxValue;

    public void WriteMmio(Gpa address, int size, ulong value)
    {
    }

    public void Dispose()
    {
        Vmx.Dispose();
        Cpu.Dispose();
        Memory.Dispose();
    }

    private void Write(ulong address, ulong value) => Assert.True(Memory.TryLoad(new Gpa(address), BitConverter.GetBytes(value)));
}
