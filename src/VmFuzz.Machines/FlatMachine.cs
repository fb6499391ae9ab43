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
    public const ulong PageTables = StartState.PageTables;

    /// <summary>Guest-physical address of the descriptor table of a protected-mode or 64-bit start.</summary>
    public const ulong DescriptorTable = StartState.DescriptorTable;

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

        StartMode mode = options.FlatMode == FlatMode.Long64 ? StartMode.Long64 : StartMode.Protected32;
        StartState.Enter(Processor, Memory, mode, options.LoadAddress, StartSelectors.Plain);
    }
}
