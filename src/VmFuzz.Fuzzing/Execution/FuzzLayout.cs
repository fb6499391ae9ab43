using System.Buffers.Binary;
using System.Collections.Immutable;
using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Machines;
using VmFuzz.Memory;

namespace VmFuzz.Fuzzing;

/// <summary>
/// The start state of a guest under the fuzzer, behind that of machine <c>flat</c>: tables and handlers of interrupts that
/// let any program go on, segments for CPL 3, a task register, pages that CPL 3 reaches.
/// </summary>
/// <remarks>
/// Handlers of exceptions go on at the next address that is a multiple of 16, so that a program of random bytes is not
/// over at its first fault; those of NMIs and of vectors from 0x20 return.
/// </remarks>
public static class FuzzLayout
{
    /// <summary>Memory of the machine. Unit: bytes.</summary>
    public const ulong MemorySize = 1UL << 20;

    /// <summary>Where code is loaded and starts.</summary>
    public const ulong Code = 0x1_0000;

    /// <summary>The interrupt table of 32- and 64-bit guests.</summary>
    public const ulong InterruptTable = 0x7000;

    /// <summary>The handlers, 16 bytes a vector.</summary>
    public const ulong Handlers = 0x8000;

    /// <summary>The task-state segment.</summary>
    public const ulong TaskState = 0x9800;

    /// <summary>The descriptor table of 32- and 64-bit guests.</summary>
    public const ulong Descriptors = 0x9000;

    /// <summary>The start of the stack, which grows down.</summary>
    public const ulong Stack = 0xF000;

    /// <summary>The stack that an interrupt at CPL 3 gets.</summary>
    public const ulong KernelStack = 0xD000;

    /// <summary>Selector of the code segment at CPL 3.</summary>
    public const ulong UserCode = 0x1B;

    /// <summary>Selector of the data segment at CPL 3.</summary>
    public const ulong UserData = 0x23;

    private const int HandlerSize = 16;

    // Selectors: 8 code, 16 data (as machine flat has them), 0x1B code at CPL 3, 0x23 data at CPL 3, 0x28 the task.
    private static readonly ImmutableArray<ulong> Segments32 =
        [0, 0x00CF_9B00_0000_FFFF, 0x00CF_9300_0000_FFFF, 0x00CF_FB00_0000_FFFF, 0x00CF_F300_0000_FFFF, TaskDescriptor, 0, 0];

    private static readonly ImmutableArray<ulong> Segments64 =
        [0, 0x00AF_9B00_0000_FFFF, 0x00CF_9300_0000_FFFF, 0x00AF_FB00_0000_FFFF, 0x00CF_F300_0000_FFFF, TaskDescriptor, 0, 0];

    private const ulong TaskDescriptor = 0x67 | ((TaskState & 0xFF_FFFF) << 16) | (0x8BUL << 40) | ((TaskState >> 24) << 56);

    // What a handler does, by mode, with and without an error code on the stack: RIP of the frame to the next multiple of 16.
    private static readonly ImmutableArray<byte> Resume16 = [.. Convert.FromHexString("5589E5836602F0834602105DCF")];
    private static readonly ImmutableArray<byte> Resume32 = [.. Convert.FromHexString("832424F083042410CF")];
    private static readonly ImmutableArray<byte> Resume32Code = [.. Convert.FromHexString("83C404832424F083042410CF")];
    private static readonly ImmutableArray<byte> Resume64 = [.. Convert.FromHexString("48832424F0488304241048CF")];
    private static readonly ImmutableArray<byte> Resume64Code = [.. Convert.FromHexString("4883C40848832424F0488304241048CF")];

    /// <summary>The options of the fuzzer's machine for a mode.</summary>
    /// <param name="mode">Mode in which the guest starts.</param>
    /// <param name="accelerator">Who is in charge.</param>
    /// <param name="mostInstructions">Instructions after which a run ends.</param>
    public static MachineOptions Options(FlatMode mode, Accelerator accelerator, ulong mostInstructions) => new()
    {
        Kind = MachineKind.Flat,
        Accelerator = accelerator,
        Memory = MemorySize,
        FlatMode = mode,
        LoadAddress = Code,
        ExitCost = 0,
        UserAnswers = true,
        MaxInstructions = mostInstructions,
        Images = [new MachineImage("code", "nothing", new byte[] { 0xF4 })],
    };

    /// <summary>Completes the start state of a machine made from <see cref="Options"/>.</summary>
    public static void Prepare(Machine machine)
    {
        ArgumentNullException.ThrowIfNull(machine);
        Processor processor = machine.Processor;
        FlatMode mode = machine.Options.FlatMode;
        Set(processor, "rsp", Stack);
        if (mode == FlatMode.Real16)
        {
            WriteRealTable(machine.Memory);
        }
        else
        {
            bool wide = mode == FlatMode.Long64;
            WriteTables(machine.Memory, wide);
            Set(processor, "gdtr.base", Descriptors);
            Set(processor, "gdtr.limit", ((ulong)Segments64.Length * 8) - 1);
            Set(processor, "idtr.base", InterruptTable);
            Set(processor, "idtr.limit", wide ? 4095UL : 2047);
            Set(processor, "tr.selector", 0x28);
            Set(processor, "tr.base", TaskState);
            Set(processor, "tr.limit", 0x67);
            Set(processor, "tr.attributes", 0x8B);
            if (wide)
            {
                OpenPages(machine.Memory);
            }
        }

        processor.FlushTlb();
        processor.StateChanged();
        machine.Kvm?.Vcpu.Vmx.LoadFromProcessor();
    }

    /// <summary>Makes the guest start at CPL 3, with the flat segments that it has there.</summary>
    internal static void StartAtUser(Processor processor, FlatMode mode)
    {
        uint code = mode == FlatMode.Long64 ? 0xA0FBU : 0xC0FB;
        Set(processor, "cs.selector", UserCode);
        Set(processor, "cs.attributes", code);
        foreach (string segment in (ReadOnlySpan<string>)["ss", "ds", "es", "fs", "gs"])
        {
            Set(processor, segment + ".selector", UserData);
            Set(processor, segment + ".attributes", 0xC0F3);
        }
    }

    private static void Set(Processor processor, string name, ulong value)
    {
        foreach (StateField field in ProcessorState.List)
        {
            if (field.Name == name)
            {
                processor.Fields.TrySetWord(field.Id, value);
                return;
            }
        }
    }

    // Pages of the first 2 MiB become reachable from CPL 3.
    private static void OpenPages(GuestMemory memory)
    {
        Span<byte> entry = stackalloc byte[8];
        for (ulong table = FlatMachine.PageTables; table <= FlatMachine.PageTables + 0x2000; table += 0x1000)
        {
            memory.TryRead(new Gpa(table), entry);
            entry[0] |= 4;
            memory.TryLoad(new Gpa(table), entry);
        }
    }

    private static void WriteRealTable(GuestMemory memory)
    {
        Span<byte> vector = stackalloc byte[4];
        for (int i = 0; i < 256; i++)
        {
            ulong handler = Handlers + ((ulong)i * HandlerSize);
            BinaryPrimitives.WriteUInt32LittleEndian(vector, (uint)handler);
            memory.TryLoad(new Gpa((ulong)i * 4), vector);
            memory.TryLoad(new Gpa(handler), Returns(i) ? [0xCF] : Resume16.AsSpan());
        }
    }

    private static void WriteTables(GuestMemory memory, bool wide)
    {
        Span<byte> gate = stackalloc byte[16];
        for (int i = 0; i < 256; i++)
        {
            ulong handler = Handlers + ((ulong)i * HandlerSize);
            // Interrupt gates; INT3, INTO and the vectors from 0x20 also for CPL 3.
            ulong rights = i is Vector.Bp or Vector.Of or >= 0x20 ? 0xEE00UL : 0x8E00UL;
            ulong low = (handler & 0xFFFF) | (8UL << 16) | (rights << 32) | ((handler >> 16) << 48);
            BinaryPrimitives.WriteUInt64LittleEndian(gate, low);
            BinaryPrimitives.WriteUInt64LittleEndian(gate[8..], 0);
            memory.TryLoad(new Gpa(InterruptTable + ((ulong)i * (wide ? 16UL : 8UL))), gate[..(wide ? 16 : 8)]);
            memory.TryLoad(new Gpa(handler), Handler(i, wide));
        }

        Span<byte> segments = stackalloc byte[64];
        for (int i = 0; i < 8; i++)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(segments[(i * 8)..], (wide ? Segments64 : Segments32)[i]);
        }

        memory.TryLoad(new Gpa(Descriptors), segments);
        Span<byte> task = stackalloc byte[16];
        BinaryPrimitives.WriteUInt64LittleEndian(task[4..], KernelStack);
        if (!wide)
        {
            BinaryPrimitives.WriteUInt32LittleEndian(task[8..], 16);
        }

        memory.TryLoad(new Gpa(TaskState), task[..12]);
        // No port is open to CPL 3: the map of ports begins behind the segment's end.
        memory.TryLoad(new Gpa(TaskState + 102), [0x68, 0]);
    }

    private static bool Returns(int vector) => vector is Vector.Nmi or >= 0x20;

    private static ReadOnlySpan<byte> Handler(int vector, bool wide)
    {
        if (Returns(vector))
        {
            return wide ? [0x48, 0xCF] : [0xCF];
        }

        bool code = Vector.HasErrorCode((byte)vector);
        return (wide ? code ? Resume64Code : Resume64 : code ? Resume32Code : Resume32).AsSpan();
    }
}
