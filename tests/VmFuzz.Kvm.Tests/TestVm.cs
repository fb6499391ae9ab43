using Iced.Intel;
using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Memory;
using VmFuzz.Vmx;

namespace VmFuzz.Kvm.Tests;

/// <summary>A machine of one VCPU for tests: 1 MiB of memory, a ROM page at 0xF0000, code at 0x1000, a bus that records.</summary>
internal sealed unsafe class TestVm : IBus, IClock, IVirtualTime, IInputSource, IBoundary, IKvmObserver, IDisposable
{
    public const ulong Code = 0x1000;

    private readonly Queue<(InputPoint Point, Input Input)> _inputs = new();
    private ulong _added;
    private int _consulted;

    public TestVm(Action<Assembler>? code = null, VmOptions? options = null, int bits = 16)
    {
        Memory = new GuestMemory();
        Memory.AddSlot(new Gpa(0), 0xF0000);
        Memory.AddSlot(new Gpa(0xF0000), 0x10000, readOnly: true);
        Processor = new Processor(CpuModels.VmFuzz64, Memory, this, this, this) { Boundary = this };
        Vmx = new VmxUnit(Processor);
        options ??= VmOptions.Default with { ExitCost = 0 };
        Options = options with { Path = Variant(options.Path) };
        System = new KvmSystem();
        Vm = System.CreateVm(Memory, this, this, Options);
        Vm.MapMachine();
        SetUp(bits);
        if (code is not null)
        {
            Load(Code, Assemble(bits, code));
        }

        Vcpu = Vm.CreateVcpu(Processor, Vmx);
        Vcpu.Observer = this;
        Vcpu.Host.Tracing = true;
    }

    public GuestMemory Memory { get; }

    public Processor Processor { get; }

    public VmxUnit Vmx { get; }

    public VmOptions Options { get; }

    public KvmSystem System { get; }

    public Vm Vm { get; }

    public Vcpu Vcpu { get; }

    public List<string> Bus { get; } = [];

    public List<string> Log { get; } = [];

    public List<EntryRecord> Entries { get; } = [];

    public List<VmExit> Exits { get; } = [];

    public List<ulong> WritesAtExit { get; } = [];

    public Dictionary<ushort, uint> Ports { get; } = [];

    public ulong StopAt { get; set; } = 1_000_000;

    public ulong Now => Processor.Retired + _added;

    public Action<ulong>? AtBoundary { get; set; }

    public ulong NextBoundary { get; set; } = ulong.MaxValue;

    /// <summary>The mutation gate's test variant: a row to leave out, named in the environment.</summary>
    public static RunPath Variant(RunPath path) =>
        Environment.GetEnvironmentVariable("VMFUZZ_WITHOUT") is { Length: > 0 } row ? path.Without(row) : path;

    public static byte[] Assemble(int bits, Action<Assembler> code, ulong at = Code)
    {
        Assembler assembler = new(bits);
        code(assembler);
        using MemoryStream stream = new();
        assembler.Assemble(new StreamCodeWriter(stream), at);
        return stream.ToArray();
    }

    public void Load(ulong at, ReadOnlySpan<byte> bytes) => Assert.True(Memory.TryLoad(new Gpa(at), bytes));

    public ulong Peek(ulong at, int bytes = 8)
    {
        Span<byte> data = stackalloc byte[8];
        data.Clear();
        Assert.True(Memory.TryRead(new Gpa(at), data[..bytes]));
        return BitConverter.ToUInt64(data);
    }

    public void Input(InputPoint point, InputKind kind, ulong value = 0) => _inputs.Enqueue((point, new Input(kind, value)));

    /// <summary>Runs to the next userspace exit and says which.</summary>
    public KvmExitReason RunTo()
    {
        int result = Vcpu.Run();
        Assert.True(result == 0, $"result {result}, {Vcpu.KvmRun.ExitReason}, {Vcpu.KvmRun.InternalText}, RIP {Vcpu.Rip:x}, check {Vmx.FailedCheck}, retired {Processor.Retired}, log {string.Join(',', Log.TakeLast(12))}");
        return Vcpu.KvmRun.ExitReason;
    }

    /// <summary>Runs until HLT, completing port and memory accesses on this bus.</summary>
    public void RunToHalt(int limit = 1000)
    {
        for (int i = 0; i < limit; i++)
        {
            KvmExitReason reason = RunTo();
            switch (reason)
            {
                case KvmExitReason.Hlt:
                    return;
                case KvmExitReason.Io:
                    KvmRunIo io = Vcpu.KvmRun.Io;
                    if (io.Out)
                    {
                        WritePort(io.Port, io.Size, (uint)StateFields.Take(Vcpu.KvmRun.Data[..io.Size]));
                    }
                    else
                    {
                        StateFields.Put(Vcpu.KvmRun.Data[..io.Size], ReadPort(io.Port, io.Size));
                    }

                    break;
                case KvmExitReason.Mmio:
                    KvmRunMmio mmio = Vcpu.KvmRun.Mmio;
                    Span<byte> data = Vcpu.KvmRun.Data[..mmio.Length];
                    if (mmio.IsWrite)
                    {
                        WriteMmio(mmio.Address, mmio.Length, StateFields.Take(data));
                    }
                    else
                    {
                        StateFields.Put(data, ReadMmio(mmio.Address, mmio.Length));
                    }

                    break;
                default:
                    Assert.Fail($"{reason} {Vcpu.KvmRun.InternalText} RIP {Vcpu.Rip:x}, hardware {Vcpu.KvmRun.HardwareReason:x}, check {Vmx.FailedCheck}");
                    return;
            }
        }

        Assert.Fail("no halt");
    }

    public uint ReadPort(ushort port, int size)
    {
        Bus.Add($"in {port:x} {size}");
        return Ports.TryGetValue(port, out uint value) ? value : uint.MaxValue;
    }

    public void WritePort(ushort port, int size, uint value) => Bus.Add($"out {port:x} {size} {value:x}");

    public ulong ReadMmio(Gpa address, int size)
    {
        Bus.Add($"read {address.Value:x} {size}");
        return 0x8877_6655_4433_2211 & (size == 8 ? ulong.MaxValue : (1UL << (size * 8)) - 1);
    }

    public void WriteMmio(Gpa address, int size, ulong value) => Bus.Add($"write {address.Value:x} {size} {value:x}");

    public void Charge(ulong nanoseconds) => _added += nanoseconds;

    public ulong NextDue(int vcpu, ulong retired) => ulong.MaxValue;

    public bool TryTake(InputPoint point, in Position at, out Input input)
    {
        input = default;
        if (++_consulted > 200_000)
        {
            Assert.Fail("the run path does not come to an end");
        }

        if (_inputs.TryPeek(out (InputPoint Point, Input Input) next) && next.Point == point)
        {
            input = _inputs.Dequeue().Input;
            return true;
        }

        return false;
    }

    public bool OnBoundary(ulong retired, out ulong nextLimit)
    {
        if (retired >= NextBoundary)
        {
            NextBoundary = ulong.MaxValue;
            AtBoundary?.Invoke(retired);
        }

        nextLimit = Math.Min(NextBoundary, StopAt);
        return retired < StopAt;
    }

    public void OnEntry(Vcpu vcpu, in EntryRecord entry)
    {
        Entries.Add(entry);
        Log.Add("entry");
    }

    public void OnExit(Vcpu vcpu, in VmExit exit, ulong rip)
    {
        Exits.Add(exit);
        WritesAtExit.Add(vcpu.Vmx.Writes);
        Log.Add($"exit {exit.Basic} {exit.Qualification:x} at {rip:x}");
    }

    public void OnInjected(Vcpu vcpu, InterruptionInfo info, uint errorCode, bool again) => Log.Add($"inject {info.Value:x}");

    public void OnUserspaceExit(Vcpu vcpu, KvmExitReason reason, int result) => Log.Add($"user {reason} {result}");

    public void OnRequest(Vcpu vcpu, Request request, bool served) => Log.Add($"{(served ? "serve" : "raise")} {request}");

    public void Dispose()
    {
        Vmx.Dispose();
        Processor.Dispose();
        Memory.Dispose();
    }

    // Flat segments in the mode asked for: 16 is real mode, 32 protected mode without paging.
    private void SetUp(int bits)
    {
        CpuState* s = Processor.State;
        s->Cs.Base = 0;
        s->Cs.Selector = 0;
        if (bits == 32)
        {
            s->Cr0 |= Cr0.Pe;
            s->Cs = new SegmentState { Limit = uint.MaxValue, Attributes = 0xC09B, Selector = 8 };
            SegmentState data = new() { Limit = uint.MaxValue, Attributes = 0xC093, Selector = 16 };
            s->Ds = data;
            s->Es = data;
            s->Ss = data;
            s->Fs = data;
            s->Gs = data;
        }

        s->Gpr[(int)Gpr.Rsp] = 0x8000;
        s->Gpr[CpuState.RipSlot] = Code;
        Processor.StateChanged();
    }
}
