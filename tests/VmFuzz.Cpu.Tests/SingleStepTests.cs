using VmFuzz.Arch;
using VmFuzz.Memory;

namespace VmFuzz.Cpu.Tests;

/// <summary>An indirect branch that is executed alone ends there, even when the block at its target is known.</summary>
public sealed unsafe class SingleStepTests : IDisposable
{
    private const ulong Branch = 0x1101;
    private const ulong Target = 0x1180;
    private const ulong Handler = 0x2000;
    private const ulong Gdt = 0x4000;
    private const ulong Idt = 0x5000;
    private const ulong Stack = 0x8000;

    private static readonly NoDevices s_around = new();
    private readonly GuestMemory _memory = new();
    private readonly Processor _processor;

    public SingleStepTests()
    {
        _memory.AddSlot(new Gpa(0), 1 << 20);
        _processor = new Processor(CpuModels.VmFuzz64, _memory, s_around, s_around, s_around);

        // inc ecx; inc ecx; hlt at the target; nothing but hlt in the handlers of vectors 1 and 2.
        Load(Target, 0x41, 0x41, 0xF4);
        Load(Handler, 0xF4);
        Load(Gdt + 8, 0xFF, 0xFF, 0, 0, 0, 0x9B, 0xCF, 0);
        Load(Idt + 8, 0x00, 0x20, 8, 0, 0, 0x8E, 0, 0);
        Load(Idt + 16, 0x00, 0x20, 8, 0, 0, 0x8E, 0, 0);
        Load(0x3000, (byte)(Target & 0xFF), (byte)(Target >> 8));
    }

    public static TheoryData<string, byte[]> Branches => new()
    {
        { "ret", [0xC3] },
        { "jmp eax", [0xFF, 0xE0] },
        { "jmp [0x3000]", [0xFF, 0x25, 0x00, 0x30, 0, 0] },
        { "call eax", [0xFF, 0xD0] },
        { "call [0x3000]", [0xFF, 0x15, 0x00, 0x30, 0, 0] },
    };

    public void Dispose()
    {
        _processor.Dispose();
        _memory.Dispose();
    }

    [Theory]
    [MemberData(nameof(Branches))]
    public void Branch_UnderTheTrapFlag_IsStepped(string name, byte[] code)
    {
        Warm(code);
        _processor.RFlagsValue |= RFlags.Tf;
        RunsOne(name);
    }

    [Theory]
    [MemberData(nameof(Branches))]
    public void Branch_BehindSti_IsTheOnlyInstructionBeforeAnEvent(string name, byte[] code)
    {
        Warm(code);
        _processor.State->Interruptibility = 1;
        _processor.RaiseNmi();
        RunsOne(name);
    }

    // Goes through the branch until the block behind it is found without the dispatcher, then stands before it again.
    private void Warm(byte[] code)
    {
        Load(Branch - 1, 0x90);
        Load(Branch, code);
        for (int i = 0; i < 3; i++)
        {
            StandAt(Branch - 1);
            Assert.Equal(CpuStop.Halted, _processor.Run());
            Assert.Equal(2UL, _processor[Gpr.Rcx]);
        }

        StandAt(Branch);
    }

    private void RunsOne(string name)
    {
        Assert.Equal(CpuStop.Halted, _processor.Run());
        Span<byte> saved = stackalloc byte[2];
        Assert.True(_memory.TryRead(new Gpa(_processor[Gpr.Rsp]), saved));
        Assert.Equal((Handler + 1, Target, 0UL), (_processor.Rip, (ulong)(saved[0] | (saved[1] << 8)), _processor[Gpr.Rcx]));
        Assert.NotEmpty(name);
    }

    private void StandAt(ulong rip)
    {
        CpuState* s = _processor.State;
        for (int i = 0; i < 6; i++)
        {
            (&s->Es)[i] = new SegmentState { Limit = uint.MaxValue, Attributes = i == (int)SegmentRegister.Cs ? 0xC09Bu : 0xC093u, Selector = 8 };
        }

        s->Cr0 = Cr0.Pe | Cr0.Et;
        s->Gdtr = new TableState { Base = Gdt, Limit = 15 };
        s->Idtr = new TableState { Base = Idt, Limit = 23 };
        s->Activity = 0;
        _processor[Gpr.Rcx] = 0;
        _processor[Gpr.Rax] = Target;
        _processor[Gpr.Rsp] = Stack;
        Load(Stack, (byte)(Target & 0xFF), (byte)(Target >> 8));
        _processor.Rip = rip;
        _processor.StateChanged();
    }

    private void Load(ulong address, params ReadOnlySpan<byte> bytes) => Assert.True(_memory.TryLoad(new Gpa(address), bytes));
}
