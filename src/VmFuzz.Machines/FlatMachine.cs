using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Devices;

namespace VmFuzz.Machines;

/// <summary>
/// Memory, an output port (0xe9), a debug exit (0xf4), a serial port at 0x3f8 and an interrupt latch: the smallest
/// machine, for tests, fuzzing and vectors.
/// </summary>
public sealed class FlatMachine : Machine
{
    /// <summary>Guest-physical address of the page tables of a 64-bit start: six pages below the load address's usual place.</summary>
    public const ulong PageTables = 0x1000;

    /// <summary>Guest-physical address of the descriptor table of a protected-mode or 64-bit start.</summary>
    public const ulong DescriptorTable = 0x800;

    // What a 32-bit guest reaches, and what a 64-bit guest's first page tables map.
    private const ulong StartLimit = 1UL << 32;

    private readonly InterruptLatch _latch = new();
    private readonly Serial16550 _serial;

    internal FlatMachine(MachineOptions options, IInputSource inputs, MachineVariants? variants)
        : base(options, inputs, variants)
    {
        Memory.AddSlot(new Gpa(0), options.Memory);
        _serial = new Serial16550(this, new InterruptLine(_latch, 4));
        var ports = new DebugPorts(this);
        ports.Attach(Bus);
        Bus.AddPorts(Serial16550.FirstPort, Serial16550.PortCount, _serial);
        _latch.Changed = Processor.Look;
        AddComponents(Processor.Door, Clock, Processor.Fields, _serial, ports, _latch, Clock.Events);
        Load(options);
        Start();
    }

    /// <inheritdoc/>
    public override IInterruptController InterruptController => _latch;

    /// <inheritdoc/>
    public override void ApplyDeviceInput(in Input input)
    {
        switch (input.Kind)
        {
            case InputKind.Interrupt:
                _latch.Raise((byte)input.Value);
                break;
            case InputKind.ConsoleByte:
                _serial.Receive((byte)input.Value);
                break;
            default:
                base.ApplyDeviceInput(input);
                break;
        }
    }

    internal static string? ValidateImages(MachineOptions options)
    {
        if (options.Image("code") is not { } code)
        {
            return "-machine flat needs a guest: -kernel FILE with raw code";
        }

        ulong length = (ulong)code.Bytes.Length;
        ulong end = Math.Min(options.Memory, StartLimit);
        if (options.LoadAddress < 0x8000 || options.LoadAddress > end || length > end - options.LoadAddress)
        {
            return $"{code.Name}: {length} bytes at 0x{options.LoadAddress:x} do not lie between 0x8000 and 0x{end:x}, the end of memory or the 4 GiB that a guest starts in";
        }

        return options.FlatMode == FlatMode.Real16 && options.LoadAddress > 0xF_FFF0
            ? $"--load-address: a real-mode guest must start below 1 MiB, not at 0x{options.LoadAddress:x}"
            : null;
    }

    // SDM "Processor State": a flat guest starts with the least state that its mode needs.
    private unsafe void Load(MachineOptions options)
    {
        Memory.TryLoad(new Gpa(options.LoadAddress), options.Image("code")!.Bytes.Span);
        CpuState* s = Processor.State;
        s->Gpr[(int)Gpr.Rdx] = 0;
        s->Gpr[(int)Gpr.Rsp] = 0x8000;
        if (options.FlatMode == FlatMode.Real16)
        {
            ulong segment = (options.LoadAddress >> 4) & 0xF000;
            s->Cs = new SegmentState { Selector = segment, Base = segment << 4, Limit = 0xFFFF, Attributes = 0x9B };
            s->Gpr[CpuState.RipSlot] = options.LoadAddress - s->Cs.Base;
            Processor.StateChanged();
            return;
        }

        bool wide = options.FlatMode == FlatMode.Long64;
        Span<byte> table = stackalloc byte[32];
        ulong code = wide ? 0x00AF_9B00_0000_FFFFUL : 0x00CF_9B00_0000_FFFFUL;
        System.Buffers.Binary.BinaryPrimitives.WriteUInt64LittleEndian(table[8..], code);
        System.Buffers.Binary.BinaryPrimitives.WriteUInt64LittleEndian(table[16..], 0x00CF_9300_0000_FFFFUL);
        Memory.TryLoad(new Gpa(DescriptorTable), table);
        s->Gdtr = new TableState { Base = DescriptorTable, Limit = 31 };
        s->Cs = new SegmentState { Selector = 8, Limit = uint.MaxValue, Attributes = wide ? 0xA09Bu : 0xC09Bu };
        for (int i = 0; i < 6; i++)
        {
            if (i != (int)SegmentRegister.Cs)
            {
                (&s->Es)[i] = new SegmentState { Selector = 16, Limit = uint.MaxValue, Attributes = 0xC093 };
            }
        }

        s->Cr0 = Cr0.Pe | Cr0.Et | Cr0.Ne;
        if (wide)
        {
            WritePageTables();
            s->Cr3 = PageTables;
            s->Cr4 = Cr4.Pae;
            s->Efer = Efer.Lme | Efer.Lma;
            s->Cr0 |= Cr0.Pg | Cr0.Wp;
        }

        s->Gpr[CpuState.RipSlot] = options.LoadAddress;
        Processor.FlushTlb();
        Processor.StateChanged();
    }

    // The first 4 GiB identity-mapped with 2 MiB pages.
    private void WritePageTables()
    {
        Span<byte> page = new byte[4096];
        Put(page, 0, PageTables + 0x1000 + 3);
        Memory.TryLoad(new Gpa(PageTables), page);
        page.Clear();
        for (int i = 0; i < 4; i++)
        {
            Put(page, i, PageTables + 0x2000 + ((ulong)i * 0x1000) + 3);
        }

        Memory.TryLoad(new Gpa(PageTables + 0x1000), page);
        for (int directory = 0; directory < 4; directory++)
        {
            page.Clear();
            for (int i = 0; i < 512; i++)
            {
                Put(page, i, ((ulong)((directory * 512) + i) << 21) | 0x83);
            }

            Memory.TryLoad(new Gpa(PageTables + 0x2000 + ((ulong)directory * 0x1000)), page);
        }

        static void Put(Span<byte> page, int index, ulong value) =>
            System.Buffers.Binary.BinaryPrimitives.WriteUInt64LittleEndian(page[(index * 8)..], value);
    }
}
