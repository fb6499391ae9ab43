using VmFuzz.Arch;
using VmFuzz.Cpu;

namespace VmFuzz.Vmx.Tests;

public sealed unsafe class StateTests
{
    private static void Copy(IStateful from, IStateful to)
    {
        byte[] buffer = new byte[4096];
        for (int i = 0; i < from.Fields.Length; i++)
        {
            Span<byte> bytes = buffer.AsSpan(0, from.Fields[i].Width);
            from.ReadField(i, bytes);
            to.WriteField(i, bytes);
        }
    }

    [Fact]
    public void HostRegisters_EveryField_RoundTrips()
    {
        HostRegisters a = new();
        byte[] bytes = new byte[8];
        for (int i = 0; i < a.Fields.Length; i++)
        {
            bytes[0] = (byte)(i + 1);
            a.WriteField(i, bytes);
        }

        HostRegisters b = new();
        Copy(a, b);
        Assert.Equal(a.Fields.Length, a.Fields.ToArray().Select(f => f.Name).Distinct(StringComparer.Ordinal).Count());
        for (int i = 0; i < b.Fields.Length; i++)
        {
            b.ReadField(i, bytes);
            Assert.Equal(a.Fields[i].Name == "BlockedByMovSs" ? 1 : i + 1, bytes[0]);
        }
    }

    [Fact]
    public void Unit_StoppedInGuest_GoesOnInAnotherMachine()
    {
        using GuestFixture a = new() { Limit = 2 };
        a.Code(0x90, 0x90, 0x90, 0x0F, 0xA2);
        Assert.Equal(EntryOutcome.Stopped, a.Vmx.Enter(true, out _, out _));
        using GuestFixture b = new() { Limit = 100 };
        b.Code(0x90, 0x90, 0x90, 0x0F, 0xA2);
        Copy(a.Cpu.Fields, b.Cpu.Fields);
        Copy(a.Vmcs, b.Vmcs);
        Copy(a.Vmx, b.Vmx);
        Copy(a.Vmx.Host, b.Vmx.Host);
        b.Vmx.Restored();
        b.Cpu.StateChanged();
        Assert.Equal(EntryOutcome.Exited, b.Vmx.Continue(out VmExit exit));
        Assert.Equal(ExitReason.Cpuid, exit.Basic);
        Assert.Equal(0x1003UL, b.Vmcs[VmcsField.GuestRip]);
        Assert.Equal(3UL, b.Cpu.Retired);
    }
}
