using Iced.Intel;
using VmFuzz.Arch;
using VmFuzz.Cpu.Tests.Gate;
using VmFuzz.Memory;

namespace VmFuzz.Cpu.Tests;

/// <summary>A processor over two MiB of memory with tables in place; calls the reference microcode directly.</summary>
internal sealed unsafe class SystemFixture : IBus, IClock, IInputSource, IDisposable
{
    public const ulong GdtBase = 0x1000;
    public const ulong IdtBase = 0x2000;
    public const ulong TssBase = 0x3000;
    public const ulong LdtBase = 0x4000;
    public const ulong InnerStack = 0x5000;
    public const ulong OuterStack = 0x6000;
    public const ulong Stack = 0x7000;
    public const ulong CodeAt = 0x8000;
    public const ulong HandlerAt = 0x9000;

    public const ushort Code0 = 0x08;
    public const ushort Data0 = 0x10;
    public const ushort Code3 = 0x1B;
    public const ushort Data3 = 0x23;
    public const ushort Tss32 = 0x28;
    public const ushort Code64 = 0x30;
    public const ushort Conforming = 0x38;
    public const ushort Absent = 0x40;
    public const ushort Code16 = 0x48;
    public const ushort Gate = 0x50;
    public const ushort ReadOnly = 0x60;
    public const ushort ExecuteOnly = 0x68;
    public const ushort Ldt = 0x70;
    public const ushort Tss64 = 0x80;
    public const ushort Code64User = 0x93;
    public const ushort TaskGate = 0x98;
    public const ushort AbsentCode = 0xA0;

    private readonly GuestMemory _memory = new();

    /// <summary>A processor with every feature but some.</summary>
    public SystemFixture(CpuFeatures without = CpuFeatures.La57)
    {
        _memory.AddSlot(new Gpa(0), 2 << 20);
        CpuModel model = new(
            "system-tests",
            (CpuFeatures)ulong.MaxValue & ~without,
            40,
            [new(0, 0, false, 0xD, 0, 0, 0), new(1, 0, false, 0x306C3, 0, 1 << 21, 1 << 9), new(0xD, 0, true, 7, 0, 0, 0)]);
        Cpu = new Processor(model, _memory, this, this, this, instructions: TestVariant.Instructions) { Boundary = TestVariant.Guard };
    }

    public Processor Cpu { get; }

    public CpuState* State => Cpu.State;

    public ulong Now { get; set; } = 1000;

    public Input? NextRandom { get; set; }

    public List<string> BusLog { get; } = [];

    public void Dispose()
    {
        Cpu.Dispose();
        _memory.Dispose();
    }

    /// <summary>Real mode at CS 0x800, SS 0.</summary>
    public SystemFixture Real()
    {
        State->Cs = new SegmentState { Base = CodeAt, Limit = 0xFFFF, Attributes = 0x9B, Selector = (ushort)(CodeAt >> 4) };
        Cpu.Rip = 0;
        Cpu[Gpr.Rsp] = Stack;
        State->Idtr = new TableState { Base = 0, Limit = 0x3FF };
        Cpu.StateChanged();
        return this;
    }

    /// <summary>32-bit protected mode at a privilege level.</summary>
    public SystemFixture Protected32(int cpl = 0)
    {
        Tables();
        State->Cr0 = Cr0.Pe | Cr0.Et | Cr0.Ne;
        SetSegment(SegmentRegister.Cs, cpl == 0 ? Code0 : Code3);
        foreach (SegmentRegister register in (SegmentRegister[])[SegmentRegister.Ss, SegmentRegister.Ds, SegmentRegister.Es, SegmentRegister.Fs, SegmentRegister.Gs])
        {
            SetSegment(register, cpl == 0 ? Data0 : Data3);
        }

        State->Tr = new SegmentState { Base = TssBase, Limit = 0x20FF, Attributes = 0x8B, Selector = Tss32 };
        Write(TssBase + 4, 4, InnerStack);
        Write(TssBase + 8, 4, Data0);
        Write(TssBase + 102, 2, 104);
        Cpu.Rip = CodeAt;
        Cpu[Gpr.Rsp] = cpl == 0 ? Stack : OuterStack;
        Cpu.StateChanged();
        return this;
    }

    /// <summary>64-bit mode at a privilege level, 2 MiB mapped one to one.</summary>
    public SystemFixture Long(int cpl = 0)
    {
        Protected32(cpl);
        Write(0x10000, 8, 0x11007);
        Write(0x11000, 8, 0x12007);
        Write(0x12000, 8, 0x00087);
        State->Cr3 = 0x10000;
        State->Cr4 = Cr4.Pae | Cr4.Osfxsr;
        State->Efer = Efer.Lme | Efer.Lma | Efer.Sce | Efer.Nxe;
        State->Cr0 |= Cr0.Pg;
        SetSegment(SegmentRegister.Cs, cpl == 0 ? Code64 : Code64User);
        State->Tr.Selector = Tss64;
        Write(TssBase + 4, 8, InnerStack);
        Write(TssBase + 36, 8, 0x5800); // IST1
        Cpu.FlushTlb();
        Cpu.StateChanged();
        return this;
    }

    /// <summary>Virtual-8086 mode with a given IOPL.</summary>
    public SystemFixture V86(ulong iopl)
    {
        Protected32(3);
        Cpu.RFlagsValue = RFlags.Vm | (iopl << 12) | RFlags.If;
        for (int i = 0; i < 6; i++)
        {
            (&State->Es)[i] = new SegmentState { Limit = 0xFFFF, Attributes = 0xF3 };
        }

        State->Cs.Base = CodeAt;
        State->Cs.Selector = (ushort)(CodeAt >> 4);
        State->Gs.Selector = 0x1234;
        State->Gs.Base = 0x12340;
        Cpu.Rip = 0x10;
        Cpu[Gpr.Rsp] = OuterStack;
        Cpu.StateChanged();
        return this;
    }

    private void Tables()
    {
        State->Gdtr = new TableState { Base = GdtBase, Limit = 0xA7 };
        State->Idtr = new TableState { Base = IdtBase, Limit = 0xFFF };
        State->Ldtr = SegmentOf(0x82, LdtBase, 0xF, Ldt);
        SetDescriptor(Code0, 0x9A, 0xC);
        SetDescriptor(Data0, 0x92, 0xC);
        SetDescriptor(Code3, 0xFA, 0xC);
        SetDescriptor(Data3, 0xF2, 0xC);
        SetDescriptor(Tss32, 0x89, 0, (uint)TssBase, 0x20FF);
        SetDescriptor(Code64, 0x9A, 0xA);
        SetDescriptor(Conforming, 0x9E, 0xC);
        SetDescriptor(Absent, 0x12, 0xC);
        SetDescriptor(Code16, 0x9A, 0, 0, 0xFFFF);
        SetDescriptor(ReadOnly, 0x90, 0xC);
        SetDescriptor(ExecuteOnly, 0x98, 0xC);
        SetDescriptor(Ldt, 0x82, 0, (uint)LdtBase, 0xF);
        SetDescriptor(Tss64, 0x89, 0, (uint)TssBase, 0x20FF);
        SetDescriptor(Code64User, 0xFA, 0xA);
        SetDescriptor(AbsentCode, 0x1A, 0xC);
        Write(GdtBase + TaskGate, 8, (0x85UL << 40) | ((ulong)Tss32 << 16));
    }

    private static SegmentState SegmentOf(uint attributes, ulong based, uint limit, ulong selector) =>
        new() { Attributes = attributes, Base = based, Limit = limit, Selector = selector };

    public void SetDescriptor(ushort selector, byte access, int flags, uint based = 0, uint limit = 0xFFFFF)
    {
        ulong raw = (limit & 0xFFFF) | ((ulong)(based & 0xFF_FFFF) << 16) | ((ulong)access << 40)
            | ((ulong)((limit >> 16) & 15) << 48) | ((ulong)flags << 52) | ((ulong)(based >> 24) << 56);
        Write(GdtBase + (selector & 0xFFF8u), 8, raw);
        Write(GdtBase + (selector & 0xFFF8u) + 8, 8, selector is Tss64 or Tss32 ? 0UL : Read(GdtBase + (selector & 0xFFF8u) + 8, 8));
    }

    /// <summary>Puts a gate into the IDT (8 bytes, or 16 in long mode) or at a GDT selector.</summary>
    public void SetGate(ulong at, ushort selector, ulong offset, byte access, int low = 0)
    {
        ulong raw = (offset & 0xFFFF) | ((ulong)selector << 16) | ((ulong)low << 32) | ((ulong)access << 40) | ((offset & 0xFFFF_0000) << 32);
        Write(at, 8, raw);
        if (Cpu.LongMode)
        {
            Write(at + 8, 8, offset >> 32);
        }
    }

    public void SetVector(int vector, ushort selector, byte access = 0x8E, int ist = 0, ulong offset = HandlerAt) =>
        SetGate(IdtBase + ((ulong)vector * (Cpu.LongMode ? 16UL : 8UL)), selector, offset, access, ist);

    /// <summary>Loads a register from the GDT without checks.</summary>
    public void SetSegment(SegmentRegister register, ushort selector)
    {
        Descriptor descriptor = new(Read(GdtBase + (selector & 0xFFF8u), 8) | (1UL << 40), 0);
        Cpu.Segment(register) = descriptor.ToState(selector);
    }

    public void Write(ulong address, int size, ulong value)
    {
        Span<byte> bytes = stackalloc byte[8];
        System.Buffers.Binary.BinaryPrimitives.WriteUInt64LittleEndian(bytes, value);
        Assert.True(_memory.TryWrite(new Gpa(address), bytes[..size]));
    }

    public ulong Read(ulong address, int size)
    {
        Span<byte> bytes = stackalloc byte[8];
        bytes.Clear();
        Assert.True(_memory.TryRead(new Gpa(address), bytes[..size]));
        return System.Buffers.Binary.BinaryPrimitives.ReadUInt64LittleEndian(bytes);
    }

    /// <summary>
    /// Executes one instruction with the reference microcode; RIP advances as the dispatcher would. A fault leaves RIP,
    /// unless it is one of another task.
    /// </summary>
    public ExecResult Execute(params ReadOnlySpan<byte> code)
    {
        int bits = Cpu.Code64 ? 64 : (State->Cs.Attributes & SegmentAttributes.Db) != 0 && !Cpu.Virtual8086 ? 32 : 16;
        Decoder decoder = Decoder.Create(bits, code.ToArray(), Cpu.Rip);
        Instruction instruction = decoder.Decode();
        Assert.False(instruction.IsInvalid);
        Assert.True(Cpu.Instructions.TryFind(instruction, out InstructionRow row), instruction.ToString());
        ulong before = Cpu.Rip;
        ulong task = State->Tr.Selector;
        State->Stop = StopKind.None;
        ExecResult result = row.Handler(Cpu, instruction);
        if (result is ExecResult.Next or ExecResult.NextAndLook or ExecResult.Halt)
        {
            Assert.Equal(before, Cpu.Rip);
            Cpu.Rip = instruction.NextIP;
        }
        else if (result == ExecResult.Abort && State->Stop == StopKind.Fault && task == State->Tr.Selector)
        {
            Assert.Equal(before, Cpu.Rip);
        }

        return result;
    }

    /// <summary>Executes an instruction that must fault.</summary>
    public void Faults(byte vector, ulong errorCode, params ReadOnlySpan<byte> code)
    {
        Assert.Equal(ExecResult.Abort, Execute(code));
        Assert.Equal(StopKind.Fault, State->Stop);
        Assert.Equal((vector, errorCode), ((byte)State->FaultVector, State->FaultErrorCode));
    }

    /// <summary>Executes an instruction that must complete.</summary>
    public void Completes(params ReadOnlySpan<byte> code) => Assert.NotEqual(ExecResult.Abort, Execute(code));

    /// <summary>Executes a software interrupt whose delivery faults, and whose fault is delivered: it does not complete.</summary>
    public void IsDeliveredAFault(params ReadOnlySpan<byte> code)
    {
        Assert.Equal(ExecResult.Abort, Execute(code));
        Assert.Equal(StopKind.None, State->Stop);
        Assert.True(Cpu.DeliveredAnother);
    }

    /// <summary>A value on the present stack, counted in words of a size from its top.</summary>
    public ulong OnStack(int index, int size) => Read((Cpu.StackMask & Cpu[Gpr.Rsp]) + State->Ss.Base + (ulong)(index * size), size);

    public void PushAll(int size, params ReadOnlySpan<ulong> values)
    {
        foreach (ulong value in values)
        {
            Assert.True(Cpu.Push(size, value));
        }
    }

    public uint ReadPort(ushort port, int size)
    {
        BusLog.Add($"in {port:x} {size}");
        return 0xA5A5_1234;
    }

    public void WritePort(ushort port, int size, uint value) => BusLog.Add($"out {port:x} {size} {value:x}");

    public ulong ReadMmio(Gpa address, int size) => ulong.MaxValue;

    public void WriteMmio(Gpa address, int size, ulong value) => BusLog.Add($"mmio {address.Value:x}");

    public ulong NextDue(int vcpu, ulong retired) => ulong.MaxValue;

    public bool TryTake(InputPoint point, in Position at, out Input input)
    {
        input = NextRandom ?? default;
        return point == InputPoint.Random && NextRandom is not null;
    }
}
