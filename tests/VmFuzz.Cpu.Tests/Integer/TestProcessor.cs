using Iced.Intel;
using VmFuzz.Arch;
using VmFuzz.Cpu.Tests.Gate;
using VmFuzz.Memory;

namespace VmFuzz.Cpu.Tests.Integer;

public enum TestMode
{
    Real,
    Protected16,
    Protected32,
    Long64,
}

/// <summary>A processor over 2 MiB of memory, whose microcode is called directly, as the dispatcher does it.</summary>
internal sealed unsafe class TestProcessor : IDisposable
{
    public const ulong Start = 0x1000;
    public const ulong Data = 0x4000;

    private readonly GuestMemory _memory = new();
    private readonly TestMode _mode;

    public TestProcessor(TestMode mode = TestMode.Long64, CpuModel? model = null)
    {
        _mode = mode;
        _memory.AddSlot(new Gpa(0), 2 << 20);
        _memory.AddSlot(new Gpa(NativeThunk.WindowAddress), NativeThunk.WindowSize);
        Cpu = new Processor(model ?? CpuModels.VmFuzz64, _memory, new NoBus(), new NoClock(), new NoInputs(), instructions: TestVariant.Instructions) { Boundary = TestVariant.Guard };
        CpuState* s = Cpu.State;
        if (mode == TestMode.Real)
        {
            s->Cs.Base = 0;
            s->Cs.Selector = 0;
        }
        else
        {
            s->Cr0 |= Cr0.Pe;
            uint size = mode switch
            {
                TestMode.Protected16 => 0,
                TestMode.Protected32 => SegmentAttributes.Db | SegmentAttributes.G,
                _ => SegmentAttributes.L | SegmentAttributes.G,
            };
            uint limit = mode == TestMode.Protected16 ? 0xFFFF : uint.MaxValue;
            uint data = mode == TestMode.Protected16 ? 0x93u : 0x93 | SegmentAttributes.Db | SegmentAttributes.G;
            for (int i = 0; i < 6; i++)
            {
                Cpu.Segment((SegmentRegister)i) = new SegmentState { Limit = limit, Attributes = data, Selector = 0x10 };
            }

            s->Cs = new SegmentState { Limit = limit, Attributes = 0x9B | size, Selector = 8 };
            if (mode == TestMode.Long64)
            {
                // Without paging linear is physical; only the mode bits matter here.
                s->Efer = Efer.Lme | Efer.Lma;
            }
        }

        Cpu.StateChanged();
        s->Gpr[CpuState.RipSlot] = Start;
        Cpu[Gpr.Rsp] = 0x8000;
    }

    public Processor Cpu { get; }

    public ulong Rip
    {
        get => Cpu.State->Gpr[CpuState.RipSlot];
        set => Cpu.State->Gpr[CpuState.RipSlot] = value;
    }

    public ulong Arithmetic => Cpu.RFlagsValue & RFlags.Arithmetic;

    public int Bitness => _mode switch
    {
        TestMode.Long64 => 64,
        TestMode.Protected32 => 32,
        _ => 16,
    };

    public ulong this[Gpr register]
    {
        get => Cpu[register];
        set => Cpu[register] = value;
    }

    public Instruction Decode(params byte[] code)
    {
        var decoder = Decoder.Create(Bitness, new ByteArrayCodeReader(code), Rip);
        decoder.Decode(out Instruction instruction);
        Assert.True(instruction.Code != Code.INVALID, $"{Convert.ToHexString(code)} is no instruction");
        Assert.Equal(code.Length, instruction.Length);
        return instruction;
    }

    /// <summary>Executes one instruction (one iteration of a repeated one).</summary>
    public ExecResult Step(params byte[] code) => Execute(Decode(code));

    public ExecResult Execute(in Instruction instruction)
    {
        Assert.True(Cpu.Instructions.TryFind(instruction, out InstructionRow row));
        Cpu.State->Stop = StopKind.None;
        if (!Cpu.Model.Has(row.Feature) || !Microcode.LockRules.Allowed(instruction))
        {
            return Cpu.Fault(GuestFault.Ud);
        }

        ExecResult result = row.Handler(Cpu, instruction);
        if (result == ExecResult.Next)
        {
            Rip = Microcode.Ops.NextRip(instruction);
        }

        return result;
    }

    /// <summary>Executes a repeated instruction to its end; the number of retired iterations.</summary>
    public int StepRepeated(params byte[] code)
    {
        Instruction instruction = Decode(code);
        int retired = 1;
        for (ExecResult result = Execute(instruction); result == ExecResult.Repeat; result = Execute(instruction))
        {
            retired++;
        }

        return retired;
    }

    /// <summary>Puts code into memory.</summary>
    public void LoadCode(ulong address, ReadOnlySpan<byte> code) => Assert.True(_memory.TryLoad(new Gpa(address), code));

    /// <summary>Reads bytes of memory.</summary>
    public void Read(ulong address, Span<byte> destination) => Assert.True(_memory.TryRead(new Gpa(address), destination));

    public void AssertFault(byte vector, ExecResult result, ulong errorCode = 0)
    {
        Assert.Equal(ExecResult.Abort, result);
        Assert.Equal(StopKind.Fault, Cpu.State->Stop);
        Assert.Equal(vector, Cpu.State->FaultVector);
        Assert.Equal(errorCode, Cpu.State->FaultErrorCode);
    }

    public void Store(ulong address, ulong value, int size = 8)
    {
        byte[] bytes = BitConverter.GetBytes(value);
        Assert.True(_memory.TryWrite(new Gpa(address), bytes.AsSpan(0, size)));
    }

    public ulong Load(ulong address, int size = 8)
    {
        byte[] bytes = new byte[8];
        Assert.True(_memory.TryRead(new Gpa(address), bytes.AsSpan(0, size)));
        return BitConverter.ToUInt64(bytes);
    }

    public void Dispose()
    {
        Cpu.Dispose();
        _memory.Dispose();
    }

    private sealed class NoBus : IBus
    {
        public uint ReadPort(ushort port, int size) => uint.MaxValue;

        public void WritePort(ushort port, int size, uint value)
        {
        }

        public ulong ReadMmio(Gpa address, int size) => ulong.MaxValue;

        public void WriteMmio(Gpa address, int size, ulong value)
        {
        }
    }

    private sealed class NoClock : IClock
    {
        public ulong Now => 0;
    }

    private sealed class NoInputs : IInputSource
    {
        public ulong NextDue(int vcpu, ulong retired) => ulong.MaxValue;

        public bool TryTake(InputPoint point, in Position at, out Input input)
        {
            input = default;
            return false;
        }
    }
}
