using System.Globalization;
using System.Text;
using VmFuzz.Arch;
using VmFuzz.Cpu.Tests.Integer;

namespace VmFuzz.Cpu.Tests.Events;

/// <summary>What disturbs a run.</summary>
internal enum EventKind
{
    None,

    /// <summary>The processor stops at every boundary and goes on.</summary>
    SmallBudget,

    /// <summary>RFLAGS.TF from the start; the handler of #DB returns.</summary>
    TrapFlag,

    /// <summary>An NMI at a boundary.</summary>
    Nmi,

    /// <summary>An interrupt at a boundary, delivered when the program takes interrupts.</summary>
    Interrupt,
}

/// <summary>Runs programs under events whose handlers count in memory and return.</summary>
internal sealed unsafe class EventMachine : IBoundary, IProcessorObserver, IInterruptController, IDisposable
{
    public const ulong CodeAt = 0x10000;

    private const ulong Gdt = 0x2000;
    private const ulong Idt = 0x2800;
    private const ulong Handler = 0x3800;
    private const ulong Counter = 0x4800;
    private const byte InterruptVector = 0x20;

    private readonly TestProcessor _machine;
    private readonly int _bitness;
    private readonly ulong[] _registers = new ulong[16];
    private readonly byte[] _window = new byte[NativeThunk.WindowSize];
    private ulong _flags;
    private ulong _start;
    private EventKind _kind;
    private ulong _at;

    public EventMachine(int bitness)
    {
        _bitness = bitness;
        _machine = new TestProcessor(NativeForms.ModeOf(bitness));
        _machine.Cpu.Boundary = this;
        _machine.Cpu.Observer = this;
        _machine.Cpu.Interrupts = this;
        CpuState* s = _machine.Cpu.State;
        ulong code = bitness switch { 64 => 0x00AF_9B00_0000_FFFFUL, 32 => 0x00CF_9B00_0000_FFFFUL, _ => 0x0000_9B01_0000_FFFFUL };
        ulong data = bitness == 16 ? 0x0000_9300_0000_FFFFUL : 0x00CF_9300_0000_FFFFUL;
        _machine.Store(Gdt + 8, code);
        _machine.Store(Gdt + 16, data);
        s->Gdtr = new TableState { Base = Gdt, Limit = 0x17 };
        s->Cs.Base = bitness == 16 ? CodeAt : 0;
        ulong gate = bitness == 16 ? 0x8600UL : 0x8E00UL;
        ulong handler = bitness == 16 ? Handler - 0x3000 : Handler;
        int size = bitness == 64 ? 16 : 8;
        foreach (byte vector in (byte[])[Vector.Db, Vector.Nmi, InterruptVector])
        {
            _machine.Store(Idt + (ulong)(vector * size), handler | (8UL << 16) | (gate << 32));
        }

        s->Idtr = new TableState { Base = Idt, Limit = (uint)((InterruptVector + 1) * size) - 1 };
        byte[] body = bitness switch
        {
            64 => [0x48, 0xFF, 0x04, 0x25, 0x00, 0x48, 0, 0, 0x48, 0xCF], // inc qword [counter]; iretq
            32 => [0xFF, 0x05, 0x00, 0x48, 0, 0, 0xCF],
            _ => [0xFF, 0x06, 0x00, 0x48, 0xCF],
        };
        _machine.LoadCode(bitness == 16 ? CodeAt + handler : handler, body);
        _machine.Cpu.StateChanged();
    }

    public bool ReferenceOnly
    {
        set => _machine.Cpu.ReferenceOnly = value;
    }

    public bool LoopThreading
    {
        set => _machine.Cpu.LoopThreading = value;
    }

    /// <summary>Instructions that the last run retired.</summary>
    public ulong Retired => _machine.Cpu.Retired - _start;

    /// <summary>Events that the last run delivered, the #UD at its end apart.</summary>
    public int Delivered { get; private set; }

    /// <summary>Where the last event interrupted the program, as a linear address.</summary>
    public ulong ReturnRip { get; private set; }

    bool IInterruptController.InterruptPending => InterruptPending;

    byte IInterruptController.TaskPriority { get; set; }

    private bool InterruptPending { get; set; }

    /// <summary>Takes a program and a random state to start from.</summary>
    public void Load(EventProgram program, ref SplitMix64 random)
    {
        for (int r = 0; r < 16; r++)
        {
            _registers[r] = r == (int)Gpr.Rsp ? 0x8000 : RandomForms.Value(ref random) & NativeForms.MaskOf(_bitness);
        }

        _flags = RFlags.Reserved1 | RFlags.If | (random.Next() & RFlags.Arithmetic);
        random.Fill(_window);
        _machine.LoadCode(CodeAt, program.Code);
    }

    /// <summary>Runs the program from its start.</summary>
    /// <param name="kind">What disturbs it.</param>
    /// <param name="at">The boundary, in retired instructions.</param>
    /// <returns>All that the program can see at its end.</returns>
    public string Run(EventKind kind, ulong at)
    {
        Processor cpu = _machine.Cpu;
        (_kind, _at, _start) = (kind, at, cpu.Retired);
        Delivered = 0;
        InterruptPending = false;
        cpu.ClearNmi();
        _machine.LoadCode(NativeThunk.WindowAddress, _window);
        _machine.Store(Counter, 0);
        for (int r = 0; r < 16; r++)
        {
            _machine[(Gpr)r] = _registers[r];
        }

        cpu.RFlagsValue = _flags | (kind == EventKind.TrapFlag ? RFlags.Tf : 0);
        cpu.State->Activity = 0;
        cpu.State->Interruptibility = 0;
        cpu.State->PendingDebug = 0;
        _machine.Rip = _bitness == 16 ? 0 : CodeAt;
        cpu.StateChanged();
        CpuStop stop;
        do
        {
            stop = cpu.Run();
        }
        while (stop == CpuStop.Requested);

        Assert.Equal(CpuStop.Shutdown, stop);
        Assert.Equal((ulong)Delivered, _machine.Load(Counter, 2));
        return Text();
    }

    public void Dispose() => _machine.Dispose();

    bool IBoundary.OnBoundary(ulong retired, out ulong nextLimit)
    {
        ulong due = _start + _at;
        nextLimit = _kind switch
        {
            EventKind.SmallBudget => retired + 1,
            EventKind.Nmi or EventKind.Interrupt when retired < due => due,
            _ => ulong.MaxValue >> 1,
        };
        if (retired == due && _kind == EventKind.Nmi)
        {
            _at = ulong.MaxValue;
            _machine.Cpu.RaiseNmi();
        }
        else if (retired == due && _kind == EventKind.Interrupt)
        {
            _at = ulong.MaxValue;
            InterruptPending = true;
            _machine.Cpu.Look();
        }

        return true;
    }

    void IProcessorObserver.OnDelivered(in GuestEvent delivered, ulong returnRip)
    {
        Delivered++;
        ReturnRip = returnRip + (_bitness == 16 ? CodeAt : 0);
    }

    byte IInterruptController.Acknowledge()
    {
        InterruptPending = false;
        return InterruptVector;
    }

    bool IInterruptController.TryReadApicMsr(uint msr, out ulong value)
    {
        value = 0;
        return false;
    }

    bool IInterruptController.TryWriteApicMsr(uint msr, ulong value) => false;

    private string Text()
    {
        var text = new StringBuilder();
        for (int r = 0; r < 16; r++)
        {
            text.Append(CultureInfo.InvariantCulture, $"{(Gpr)r}={_machine[(Gpr)r]:x} ");
        }

        byte[] window = new byte[NativeThunk.WindowSize];
        _machine.Read(NativeThunk.WindowAddress, window);
        ulong flags = _machine.Cpu.RFlagsValue & ~(RFlags.Tf | RFlags.Rf);
        return text.Append(CultureInfo.InvariantCulture, $"rip={_machine.Rip:x} flags={flags:x} {Convert.ToHexString(System.Security.Cryptography.SHA256.HashData(window))}").ToString();
    }
}
