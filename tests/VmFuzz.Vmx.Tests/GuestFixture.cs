using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Memory;

namespace VmFuzz.Vmx.Tests;

/// <summary>
/// A processor with 16 MiB of memory, an identity EPT of the first 8 MiB and a 64-bit guest whose page tables map the
/// first GiB one to one; code starts at 0x1000, interrupts have handlers that are HLT.
/// </summary>
internal sealed unsafe class GuestFixture : IBus, IClock, IInputSource, IInterruptController, IBoundary, IVmxObserver, IDisposable
{
    public const ulong Vmxon = 0x80_0000;
    public const ulong Region = 0x80_1000;
    public const ulong EptRoot = 0x81_0000;
    public const ulong MsrBitmaps = 0x82_0000;
    public const ulong IoBitmapA = 0x82_1000;
    public const ulong IoBitmapB = 0x82_2000;
    public const ulong MsrArea = 0x82_3000;
    public const ulong PageTables = 0x10_0000;
    public const ulong Idt = 0x2_0000;
    public const ulong Gdt = 0x2_2000;
    public const ulong Handlers = 0x3_0000;

    public GuestFixture(bool ept = true)
    {
        Memory = new GuestMemory();
        Memory.AddSlot(new Gpa(0), 16 << 20);
        Cpu = new Processor(CpuModels.VmFuzz64, Memory, this, this, this) { Boundary = this, Interrupts = this };
        Vmx = new VmxUnit(Cpu) { Observer = this };
        Write(Vmxon, 0x11);
        Write(Region, 0x11);
        Assert.True(Vmx.VmxOn(Vmxon).Succeeded);
        Assert.True(Vmx.VmClear(Region).Succeeded);
        Assert.True(Vmx.VmPtrLd(Region).Succeeded);
        GoldenVmcs.Fill(Vmcs, Vmx.Capabilities);
        Vmcs[VmcsField.MsrBitmaps] = MsrBitmaps;
        Vmcs[VmcsField.IoBitmapA] = IoBitmapA;
        Vmcs[VmcsField.IoBitmapB] = IoBitmapB;
        Vmcs[VmcsField.EptPointer] = EptRoot | (3 << 3) | 6;
        Vmcs[VmcsField.GuestCr3] = PageTables;
        Vmcs[VmcsField.GuestIdtrBase] = Idt;
        Vmcs[VmcsField.GuestGdtrBase] = Gdt;
        if (!ept)
        {
            Vmcs[VmcsField.SecondaryControls] &= ~(ulong)(SecondaryControls.EnableEpt | SecondaryControls.UnrestrictedGuest);
        }

        // EPT: 2 MiB pages, write-back.
        Write(EptRoot, (EptRoot + 0x1000) | 7);
        Write(EptRoot + 0x1000, (EptRoot + 0x2000) | 7);
        for (ulong i = 0; i < 4; i++)
        {
            Write(EptRoot + 0x2000 + (8 * i), (i << 21) | 0xB7);
        }

        Write(PageTables, (PageTables + 0x1000) | 7);
        Write(PageTables + 0x1000, (PageTables + 0x2000) | 7);
        for (ulong i = 0; i < 512; i++)
        {
            Write(PageTables + 0x2000 + (8 * i), (i << 21) | 0x87);
        }

        Write(Gdt + 0x10, 0x00AF_9B00_0000_FFFF);
        Write(Gdt + 0x18, 0x00CF_9300_0000_FFFF);
        for (ulong vector = 0; vector < 256; vector++)
        {
            ulong handler = Handlers + (vector * 16);
            Write(Idt + (vector * 16), (handler & 0xFFFF) | (0x10UL << 16) | (0x8E00UL << 32) | ((handler >> 16) << 48));
            Write(handler, 0xF4);
        }
    }

    public GuestMemory Memory { get; }

    public Processor Cpu { get; }

    public VmxUnit Vmx { get; }

    public Vmcs Vmcs => Vmx.Current;

    public List<VmExit> Exits { get; } = [];

    public List<InterruptionInfo> Injected { get; } = [];

    public bool InterruptPending { get; set; }

    public byte TaskPriority { get; set; }

    public byte InterruptVector { get; set; } = 0x30;

    public int Acknowledged { get; private set; }

    public ulong Limit { get; set; } = 1000;

    public ulong Now => 1000;

    public ulong NextDue(int vcpu, ulong retired) => ulong.MaxValue;

    public bool TryTake(InputPoint point, in Position at, out Input input)
    {
        input = default;
        return false;
    }

    public void Write(ulong address, ulong value) => Assert.True(Memory.TryLoad(new Gpa(address), BitConverter.GetBytes(value)));

    public ulong Read(ulong address)
    {
        byte[] bytes = new byte[8];
        Assert.True(Memory.TryRead(new Gpa(address), bytes));
        return BitConverter.ToUInt64(bytes);
    }

    public GuestFixture Code(params byte[] code)
    {
        Assert.True(Memory.TryLoad(new Gpa(0x1000), code));
        return this;
    }

    /// <summary>A real-mode guest at 0:0x1000 (unrestricted guest).</summary>
    public GuestFixture RealMode()
    {
        Vmcs[VmcsField.EntryControls] &= ~(ulong)EntryControls.Ia32eModeGuest;
        Vmcs[VmcsField.GuestEfer] = 0;
        Vmcs[VmcsField.GuestCr0] = Cr0.Et | Cr0.Ne;
        for (uint i = 0; i < 6; i++)
        {
            Vmcs[VmcsField.GuestEsSelector + (2 * i)] = 0;
            Vmcs[VmcsField.GuestEsLimit + (2 * i)] = 0xFFFF;
            Vmcs[VmcsField.GuestEsAccessRights + (2 * i)] = i == 1 ? 0x9BUL : 0x93;
        }

        return this;
    }

    public VmExit Enter(bool launch = true)
    {
        EntryOutcome outcome = Vmx.Enter(launch, out VmExit exit, out VmxResult failure);
        Assert.True(outcome == EntryOutcome.Exited, $"{outcome} {failure} {Vmx.FailedCheck} {Cpu.UnimplementedText} rip {Cpu.State->Gpr[17]:x}");
        Assert.Equal(exit.Reason, (uint)Vmcs[VmcsField.ExitReason]);
        Assert.Equal(exit.Qualification, Vmcs[VmcsField.ExitQualification]);
        return exit;
    }

    public uint ReadPort(ushort port, int size) => 0x55;

    public void WritePort(ushort port, int size, uint value)
    {
    }

    public ulong ReadMmio(Gpa address, int size) => ulong.MaxValue;

    public void WriteMmio(Gpa address, int size, ulong value)
    {
    }

    public byte Acknowledge()
    {
        Acknowledged++;
        InterruptPending = false;
        return InterruptVector;
    }

    public bool TryReadApicMsr(uint msr, out ulong value)
    {
        value = 0;
        return false;
    }

    public bool TryWriteApicMsr(uint msr, ulong value) => false;

    public bool OnBoundary(ulong retired, out ulong nextLimit)
    {
        nextLimit = Limit;
        return retired < Limit;
    }

    public void OnEntry(bool launch)
    {
    }

    public void OnExit(in VmExit exit) => Exits.Add(exit);

    public void OnInjected(InterruptionInfo info, uint errorCode, uint instructionLength) => Injected.Add(info);

    public void Dispose()
    {
        Vmx.Dispose();
        Cpu.Dispose();
        Memory.Dispose();
    }
}
