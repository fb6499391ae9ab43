using VmFuzz.Arch;
using VmFuzz.Cpu;

namespace VmFuzz.Vmx.Tests;

/// <summary>What an entry does not load and an exit does not save, because it is there already, shows nowhere.</summary>
public sealed unsafe class GuestStateTests
{
    // EAX is 0x18, the selector of a data segment.
    private static readonly byte[][] Instructions =
    [
        [0x90],
        // push rax / stc / xor ebx, ebx
        [0x50],
        [0xF9],
        [0x31, 0xDB],
        // mov ds, eax / mov fs, eax / mov ss, eax / sti / cli
        [0x8E, 0xD8],
        [0x8E, 0xE0],
        [0x8E, 0xD0],
        [0xFB],
        [0xFA],
        // swapgs / mov cr2, rax / mov dr0, rax / mov dr7, rax
        [0x0F, 0x01, 0xF8],
        [0x0F, 0x22, 0xD0],
        [0x0F, 0x23, 0xC0],
        [0x0F, 0x23, 0xF8],
    ];

    private static readonly Action<GuestFixture, ulong>[] Changes =
    [
        static (f, v) => f.Vmcs[VmcsField.GuestSysenterEsp] = v,
        static (f, v) => f.Vmcs[VmcsField.GuestGsBase] = v,
        static (f, v) => f.Vmcs[VmcsField.GuestGdtrLimit] = 0xFF00 + v,
        static (f, v) => f.Vmcs[VmcsField.GuestPat] = 0x0007_0406_0007_0400 + (v & 1),
        static (f, v) => f.Vmcs[VmcsField.GuestDebugCtl] = v & 1,
        static (f, v) => f.Vmcs[VmcsField.GuestDr7] = 0x400 + (v & 3),
        static (f, v) => f.Vmcs[VmcsField.GuestCr4] ^= Cr4.Osxmmexcpt,
        static (f, v) => f.Vmcs[VmcsField.GuestInterruptibility] = v & InterruptibilityState.BlockingByMovSs,
        static (f, v) => f.Vmcs[VmcsField.GuestRflags] ^= RFlags.Cf | RFlags.If,
        static (f, v) => f.Vmcs[VmcsField.GuestRsp] = 0x8000 + (v * 8),
        static (f, v) => f.Vmcs[VmcsField.EntryControls] ^= EntryControls.LoadDebugControls,
        static (f, v) => f.Vmcs[VmcsField.ExitControls] ^= ExitControls.SaveDebugControls,
        static (f, v) => f.Vmcs[VmcsField.ExitControls] ^= ExitControls.SavePat,
        static (f, v) => f.Vmx.Host.DebugCtl = v & 1,
        static (f, v) => f.Vmx.Host.Dr7 = 0x400 + (v & 2),
        static (f, v) => f.Cpu.State->Dr7 = 0x400 + v,
        static (f, v) => f.Cpu.State->Fs.Limit = (uint)v,
        static (f, v) => f.Cpu.State->Pat = v,
        static (f, v) => f.Cpu.State->DebugCtl = v,
        static (f, v) => f.Cpu.State->SysenterCs = v,
        static (f, v) => f.Cpu.State->Gpr[CpuState.RipSlot] = v,
    ];

    [Theory]
    [InlineData(1UL)]
    [InlineData(2UL)]
    [InlineData(3UL)]
    public void Entries_ThatLoadOnlyWhatMoved_EqualThoseThatLoadEverything(ulong seed)
    {
        using GuestFixture some = new() { Limit = 1_000_000 };
        using GuestFixture all = new() { Limit = 1_000_000 };
        ulong state = seed;
        int exits = 0;
        for (int i = 0; i < 2000; i++)
        {
            state = (state * 6364136223846793005UL) + 1442695040888963407UL;
            byte[] instruction = Instructions[(state >> 33) % (ulong)Instructions.Length];
            int changes = (int)(state >> 60) < 12 ? 0 : (int)(state >> 58) & 3;
            ulong value = (state >> 50) & 0xF;
            EntryOutcome one = Pass(some, instruction, changes, value, i == 0);
            all.Vmcs.MarkAllDirty();
            Assert.Equal(one, Pass(all, instruction, changes, value, i == 0));
            Assert.Equal(Fields(some), Fields(all));
            exits += one == EntryOutcome.Exited && some.Vmx.LastExit.Basic == ExitReason.Cpuid ? 1 : 0;
        }

        Assert.InRange(exits, 1500, 2000);
    }

    private static EntryOutcome Pass(GuestFixture f, byte[] instruction, int changes, ulong value, bool launch)
    {
        f.Code([.. instruction, 0x0F, 0xA2]);
        for (int i = 0; i < changes; i++)
        {
            Changes[(value + (ulong)(i * 7)) % (ulong)Changes.Length](f, value);
        }

        f.Cpu.State->Gpr[(int)Gpr.Rax] = 0x18;
        f.Vmcs[VmcsField.GuestRip] = 0x1000;
        return f.Vmx.Enter(launch, out _, out _);
    }

    private static List<string> Fields(GuestFixture f)
    {
        List<string> fields = [];
        byte[] buffer = new byte[4096];
        foreach (IStateful component in (IStateful[])[f.Cpu.Fields, f.Vmcs, f.Vmx, f.Vmx.Host])
        {
            for (int i = 0; i < component.Fields.Length; i++)
            {
                Span<byte> bytes = buffer.AsSpan(0, component.Fields[i].Width);
                component.ReadField(i, bytes);
                fields.Add($"{component.Fields[i].Name} {Convert.ToHexString(bytes)}");
            }
        }

        return fields;
    }
}
