using VmFuzz.Arch;
using VmFuzz.Memory;

namespace VmFuzz.Cpu.Tests;

/// <summary>Processors that share memory see each other's writes whatever they cached; INIT and start-up IPIs.</summary>
public sealed unsafe class MultiprocessorTests : IDisposable
{
    private const ulong Writer = 0x2000;
    private const ulong Reader = 0x1000;
    private const ulong PageTable = 0x6000;

    private static readonly NoDevices s_around = new();
    private readonly GuestMemory _memory = new();
    private readonly Processor _first;
    private readonly Processor _second;

    public MultiprocessorTests()
    {
        _memory.AddSlot(new Gpa(0), 1 << 20);
        _first = new Processor(CpuModels.VmFuzz64, _memory, s_around, s_around, s_around, 0);
        _second = new Processor(CpuModels.VmFuzz64, _memory, s_around, s_around, s_around, 1);
        Processor.Share([_first, _second]);

        // mov word [0x1001], 2; hlt -- and -- mov ax, 1; hlt
        Load(Writer, 0xC7, 0x06, 0x01, 0x10, 0x02, 0x00, 0xF4);
        Load(Reader, 0xB8, 0x01, 0x00, 0xF4);
    }

    public void Dispose()
    {
        _first.Dispose();
        _second.Dispose();
        _memory.Dispose();
    }

    private void Load(ulong address, params ReadOnlySpan<byte> bytes) => Assert.True(_memory.TryLoad(new Gpa(address), bytes));

    private static void Execute(Processor processor, ulong rip)
    {
        CpuState* s = processor.State;
        s->Activity = 0;
        s->Cs.Base = 0;
        processor.Rip = rip;
        processor.StateChanged();
        Assert.Equal(CpuStop.Halted, processor.Run());
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Write_IntoCodeThatAnotherDecoded_IsExecutedThere(bool reference)
    {
        _first.ReferenceOnly = reference;
        _second.ReferenceOnly = reference;
        Execute(_second, Reader);
        Assert.Equal(1UL, _second[Gpr.Rax] & 0xFFFF);
        Execute(_first, Writer);
        Execute(_second, Reader);
        Assert.Equal(2UL, _second[Gpr.Rax] & 0xFFFF);
    }

    [Fact]
    public void Write_AfterTheWriterForgotItsCode_IsExecutedByTheOther()
    {
        Execute(_first, Reader);
        Execute(_second, Reader);
        _first.DropBlocks();
        Execute(_first, Writer);
        Execute(_second, Reader);
        Assert.Equal(2UL, _second[Gpr.Rax] & 0xFFFF);
    }

    [Fact]
    public void Write_ThroughACachedTranslation_IsSeenAsCodeDecodedSince()
    {
        // The writer's translation of the page is older than the code in it.
        Load(0x3000, 0xC7, 0x06, 0x00, 0x18, 0x02, 0x00, 0xF4); // mov word [0x1800], 2; hlt
        Execute(_first, 0x3000);
        Execute(_second, Reader);
        Execute(_first, Writer);
        Execute(_second, Reader);
        Assert.Equal(2UL, _second[Gpr.Rax] & 0xFFFF);
    }

    [Fact]
    public void Write_ToATableThatAnotherWalked_ChangesItsTranslation()
    {
        Paging();
        Load(0x9000, 1);
        Load(0xA000, 2);
        Load(0x3000, 0xA1, 0x00, 0x90, 0x00, 0x00, 0xF4); // mov eax, [0x9000]; hlt
        Load(0x4000, 0xC7, 0x06, 0x24, 0x60, 0x67, 0xA0, 0xF4); // mov word [0x6024], 0xA067; hlt
        Execute(_second, 0x3000);
        Assert.Equal(1UL, _second[Gpr.Rax]);
        Execute(_first, 0x4000);
        Execute(_second, 0x3000);
        Assert.Equal(2UL, _second[Gpr.Rax]);
    }

    [Fact]
    public void FlushWriteTlb_OfOne_LosesNoWriteOfTheOther()
    {
        Load(0x3000, 0xFF, 0x06, 0x00, 0x90, 0xF4); // inc word [0x9000]; hlt
        Execute(_second, 0x3000);
        _first.FlushWriteTlb();
        ulong before = _memory.Digest();
        Execute(_second, 0x3000);
        _first.FlushWriteTlb();
        Assert.NotEqual(before, _memory.Digest());
        Assert.Equal(_memory.FullDigest(), _memory.Digest());
    }

    [Fact]
    public void Init_InLongMode_LeavesWhatTheManualNames()
    {
        CpuState* s = _second.State;
        s->Cr0 = Cr0.Pe | Cr0.Pg | Cr0.Wp | Cr0.Nw;
        s->Cr4 = Cr4.Pae;
        s->Cr3 = 0x5000;
        s->Efer = Efer.Lme | Efer.Lma;
        s->Cr2 = 7;
        s->Dr0 = 1;
        s->Dr7 = 0x401;
        s->Lstar = 0x1234;
        s->Pat = 5;
        s->TscOffset = 99;
        s->Xcr0 = 3;
        s->Mxcsr = 0x1FBF;
        s->Ymm[3] = 17;
        s->X87[2] = 19;
        s->Interruptibility = 8;
        s->Activity = 1;
        for (int i = 0; i < 16; i++)
        {
            s->Gpr[i] = ulong.MaxValue;
        }

        _second.RaiseNmi();
        _second.Init();
        Assert.Equal(Cr0.Et | Cr0.Nw, s->Cr0);
        Assert.Equal((0UL, 0UL, 0UL, 0UL, 0UL), (s->Cr2, s->Cr3, s->Cr4, s->Efer, s->Dr0));
        Assert.Equal((0xFFFF_0FF0UL, 0x400UL, 2UL, 0xFFF0UL), (s->Dr6, s->Dr7, _second.RFlagsValue, _second.Rip));
        Assert.Equal((0xFFFF_0000UL, 0xF000UL, 0xFFFFU), (s->Cs.Base, s->Cs.Selector, s->Cs.Limit));
        Assert.Equal(_second.Model.Lookup(1, 0).Eax, _second[Gpr.Rdx]);
        Assert.Equal((0UL, 0UL), (_second[Gpr.Rax], _second[Gpr.R15]));
        Assert.Equal((0x1234UL, 5UL, 99UL, 3UL, 0x1FBFUL, 17UL, 19UL), (s->Lstar, s->Pat, s->TscOffset, s->Xcr0, s->Mxcsr, s->Ymm[3], s->X87[2]));
        Assert.Equal((0UL, 3UL, false), (s->Interruptibility, s->Activity, _second.NmiPending));
        Assert.False(_second.CanRun);
    }

    [Fact]
    public void Init_OfTheBootstrapProcessor_StartsAtTheResetVector()
    {
        _first.Init();
        Assert.Equal((0UL, 0xFFFF_FFF0UL), (_first.State->Activity, _first.State->Cs.Base + _first.Rip));
        Assert.True(_first.CanRun);
    }

    [Fact]
    public void StartUp_OfOneThatWaits_StartsAtItsPage()
    {
        Load(0x12000, 0xB8, 0x07, 0x00, 0xF4);
        _second.Init();
        _second.StartUp(0x12);
        Assert.True(_second.CanRun);
        Assert.Equal((0x1200UL, 0x12000UL, 0UL), (_second.State->Cs.Selector, _second.State->Cs.Base, _second.Rip));
        Assert.Equal(CpuStop.Halted, _second.Run());
        Assert.Equal(7UL, _second[Gpr.Rax]);
        _second.StartUp(0x20);
        Assert.Equal((0x12000UL, 1UL), (_second.State->Cs.Base, _second.State->Activity));
    }

    [Fact]
    public void CanRun_Halted_NeedsAnEventThatEndsTheHalt()
    {
        Execute(_first, Reader);
        Assert.False(_first.CanRun);
        _first.RaiseNmi();
        Assert.True(_first.CanRun);
        _first.State->Interruptibility = 8;
        Assert.False(_first.CanRun);
    }

    [Theory]
    [InlineData(1, 0U, 0U, 1U)]
    [InlineData(2, 1U << 28, 1U, 2U)]
    [InlineData(3, 1U << 28, 2U, 3U)]
    [InlineData(8, 1U << 28, 3U, 8U)]
    public void WithProcessors_OfAModel_AreInTheTopologyLeaves(int count, uint htt, uint shift, uint cores)
    {
        CpuModel model = CpuModels.WithProcessors(CpuModels.VmFuzz64, count);
        CpuidLeaf first = model.Lookup(1, 0);
        Assert.Equal(htt, first.Edx & (1U << 28));
        Assert.Equal(1U << (int)shift, (first.Ebx >> 16) & 0xFF);
        Assert.Equal((1U << (int)shift) - 1, model.Lookup(4, 0).Eax >> 26);
        Assert.Equal((shift, cores), (model.Lookup(0xB, 1).Eax, model.Lookup(0xB, 1).Ebx));
        Assert.Equal((0U, 1U), (model.Lookup(0xB, 0).Eax, model.Lookup(0xB, 0).Ebx));
    }

    // 32-bit paging of the second processor, the first 4 MiB one to one.
    private void Paging()
    {
        Span<byte> entry = stackalloc byte[4];
        for (uint page = 0; page < 1024; page++)
        {
            System.Buffers.Binary.BinaryPrimitives.WriteUInt32LittleEndian(entry, (page << 12) | 0x67);
            Load(PageTable + (page * 4), entry);
        }

        Load(0x5000, 0x27, 0x60, 0, 0);
        CpuState* s = _second.State;
        for (int i = 0; i < 6; i++)
        {
            (&s->Es)[i] = new SegmentState { Limit = uint.MaxValue, Attributes = i == (int)SegmentRegister.Cs ? 0xC09Bu : 0xC093u };
        }

        s->Cr0 = Cr0.Pe | Cr0.Pg | Cr0.Et;
        s->Cr3 = 0x5000;
        _second.FlushTlb();
    }
}
