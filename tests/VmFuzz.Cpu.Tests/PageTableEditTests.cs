using VmFuzz.Arch;

namespace VmFuzz.Cpu.Tests;

/// <summary>Guests that write to the page tables they run on: what is cached must never show.</summary>
public sealed unsafe class PageTableEditTests
{
    // The table of the first 2 MiB in 4 KiB pages; it maps itself one to one, at Table.
    private const ulong Table = 0x13000;
    private const ulong First = 0x20000;
    private const ulong Second = 0x21000;
    private const ulong Accessed = 0x20;
    private const ulong Dirty = 0x40;

    public static TheoryData<bool, bool> Engines => new() { { false, false }, { false, true }, { true, false } };

    [Theory]
    [MemberData(nameof(Engines))]
    public void Read_AfterItsEntryWasRewritten_SeesTheNewPage(bool reference, bool loop)
    {
        // mov al, [First] / mov dword [entry of First], Second | 7 / mov ah, [First] / hlt
        using SystemFixture machine = Machine(reference, loop,
            [0x8A, 0x04, 0x25, 0, 0, 2, 0, .. StoreEntry(First, Second | 7), 0x8A, 0x24, 0x25, 0, 0, 2, 0, 0xF4]);
        machine.Write(First, 1, 0x11);
        machine.Write(Second, 1, 0x22);
        Assert.Equal(CpuStop.Halted, machine.Cpu.Run());
        Assert.Equal(0x2211UL, machine.Cpu[Gpr.Rax] & 0xFFFF);
    }

    [Theory]
    [MemberData(nameof(Engines))]
    public void NextInstruction_AfterItsOwnPageWasUnmapped_Faults(bool reference, bool loop)
    {
        // mov dword [entry of the code], 0 / hlt
        using SystemFixture machine = Machine(reference, loop, [.. StoreEntry(SystemFixture.CodeAt, 0), 0xF4]);
        machine.SetVector(14, SystemFixture.Code64);
        machine.Write(SystemFixture.HandlerAt, 1, 0xF4);
        Assert.Equal(CpuStop.Halted, machine.Cpu.Run());
        Assert.Equal(SystemFixture.HandlerAt + 1, machine.Cpu.Rip);
        Assert.Equal(SystemFixture.CodeAt + 11, machine.State->Cr2);
    }

    [Theory]
    [MemberData(nameof(Engines))]
    public void Accesses_AfterAccessedAndDirtyWereCleared_SetThemAgain(bool reference, bool loop)
    {
        // mov [First], al / mov dword [entry of First], First | 7 / mov al, [First]
        byte[] code = [0x88, 0x04, 0x25, 0, 0, 2, 0, .. StoreEntry(First, First | 7), 0x8A, 0x04, 0x25, 0, 0, 2, 0];
        using SystemFixture machine = Machine(reference, loop, [.. code, 0xF4]);
        Assert.Equal(CpuStop.Halted, machine.Cpu.Run());
        Assert.Equal(First | 7 | Accessed, Entry(machine, First));

        using SystemFixture writing = Machine(reference, loop, [.. code, 0x88, 0x04, 0x25, 0, 0, 2, 0, 0xF4]);
        Assert.Equal(CpuStop.Halted, writing.Cpu.Run());
        Assert.Equal(First | 7 | Accessed | Dirty, Entry(writing, First));
    }

    [Theory]
    [MemberData(nameof(Engines))]
    public void WriteAcrossPages_WhoseFirstPartMapsTheSecond_IsSeenByTheNextAccess(bool reference, bool loop)
    {
        // The last page but one shows the table, whose last entry maps the last page; a write across both changes the upper
        // half of that entry: mov qword [Behind - 4], rax / mov [Behind], bl / hlt
        const ulong Behind = 0x1FF000;
        using SystemFixture machine = Machine(reference, loop,
            [0x48, 0x89, 0x04, 0x25, 0xFC, 0xEF, 0x1F, 0, 0x88, 0x1C, 0x25, 0, 0xF0, 0x1F, 0, 0xF4]);
        machine.Write(Table + ((Behind - 0x1000) >> 12 << 3), 8, Table | 7);
        machine.SetVector(14, SystemFixture.Code64);
        machine.Write(SystemFixture.HandlerAt, 1, 0xF4);
        // Bits beyond the physical address are reserved.
        machine.Cpu[Gpr.Rax] = 0x0000_0000_000F_0000;
        Assert.Equal(CpuStop.Halted, machine.Cpu.Run());
        Assert.Equal(SystemFixture.HandlerAt + 1, machine.Cpu.Rip);
        Assert.Equal(Behind, machine.State->Cr2);
        Assert.Equal(0xBUL, machine.OnStack(0, 8));
    }

    [Theory]
    [MemberData(nameof(Engines))]
    public void Read_AfterADeviceWroteItsEntry_SeesTheNewPage(bool reference, bool loop)
    {
        // mov al, [First] / hlt, twice
        using SystemFixture machine = Machine(reference, loop, [0x8A, 0x04, 0x25, 0, 0, 2, 0, 0xF4]);
        machine.Write(First, 1, 0x11);
        machine.Write(Second, 1, 0x22);
        Assert.Equal(CpuStop.Halted, machine.Cpu.Run());
        machine.Write(Table + (First >> 12 << 3), 8, Second | 7);
        machine.State->Activity = 0;
        machine.Cpu.Rip = SystemFixture.CodeAt;
        Assert.Equal(CpuStop.Halted, machine.Cpu.Run());
        Assert.Equal(0x22UL, machine.Cpu[Gpr.Rax] & 0xFF);
    }

    // mov dword [entry of a page], value: 11 bytes.
    private static byte[] StoreEntry(ulong page, ulong value) =>
        [0xC7, 0x04, 0x25, .. BitConverter.GetBytes((uint)(Table + (page >> 12 << 3))), .. BitConverter.GetBytes((uint)value)];

    private static ulong Entry(SystemFixture machine, ulong page) => machine.Read(Table + (page >> 12 << 3), 8);

    private static SystemFixture Machine(bool reference, bool loop, ReadOnlySpan<byte> code)
    {
        SystemFixture machine = new SystemFixture().Long();
        for (ulong i = 0; i < 512; i++)
        {
            machine.Write(Table + (i * 8), 8, (i << 12) | 7);
        }

        machine.Write(0x12000, 8, Table | 7);
        for (int i = 0; i < code.Length; i++)
        {
            machine.Write(SystemFixture.CodeAt + (ulong)i, 1, code[i]);
        }

        machine.Cpu.ReferenceOnly = reference;
        machine.Cpu.LoopThreading |= loop;
        machine.Cpu.FlushTlb();
        return machine;
    }
}
