using VmFuzz.Arch;

namespace VmFuzz.Vmx.Tests;

public sealed class TableTests
{
    [Fact]
    public void Fields_Table_HoldsEveryEncodingOnce()
    {
        Assert.Equal(Enum.GetValues<VmcsField>().Length, VmcsFieldInfo.All.Length);
        for (int i = 0; i < VmcsFieldInfo.All.Length; i++)
        {
            VmcsFieldInfo info = VmcsFieldInfo.All[i];
            Assert.Equal(i, info.Index);
            Assert.Same(info, VmcsFieldInfo.Of(info.Field));
            Assert.Equal(0U, (uint)info.Field & 1);
            Assert.True(VmcsFieldInfo.TryFind((ulong)info.Field, out VmcsFieldInfo found, out bool high) && !high && found == info);
        }

        Assert.Equal(VmcsFieldInfo.All.Length, VmcsFieldInfo.All.Select(f => VmcsFieldInfo.Slot(f.Field)).Distinct().Count());
    }

    [Theory]
    [InlineData(VmcsField.GuestTrSelector, 0x080E, 2)]
    [InlineData(VmcsField.EptPointer, 0x201A, 8)]
    [InlineData(VmcsField.PreemptionTimerValue, 0x482E, 4)]
    [InlineData(VmcsField.HostRip, 0x6C16, 8)]
    [InlineData(VmcsField.GuestSysenterCs, 0x482A, 4)]
    public void Fields_KnownOnes_HaveTheirEncodingAndWidth(VmcsField field, int encoding, int bytes)
    {
        Assert.Equal(encoding, (int)field);
        Assert.Equal(bytes, VmcsFieldInfo.Of(field).Bytes);
    }

    [Fact]
    public void Vmcs_EveryField_IsCutToItsWidthAndSaved()
    {
        using Vmcs vmcs = new();
        foreach (VmcsFieldInfo info in VmcsFieldInfo.All)
        {
            vmcs[info.Field] = ulong.MaxValue - (ulong)info.Index;
        }

        using Vmcs copy = new();
        byte[] buffer = new byte[8];
        for (int i = 0; i < vmcs.Fields.Length; i++)
        {
            Span<byte> bytes = buffer.AsSpan(0, vmcs.Fields[i].Width);
            vmcs.ReadField(i, bytes);
            copy.WriteField(i, bytes);
        }

        foreach (VmcsFieldInfo info in VmcsFieldInfo.All)
        {
            Assert.Equal((ulong.MaxValue - (ulong)info.Index) & info.Mask, copy[info.Field]);
        }
    }

    [Fact]
    public void Capabilities_Msrs_ExistByCapability()
    {
        VmxCapabilities c = VmxCapabilities.Default;
        for (uint msr = 0x480; msr <= 0x490; msr++)
        {
            Assert.True(c.TryReadMsr(msr, out _), $"{msr:x}");
        }

        Assert.False(c.TryReadMsr(0x491, out _));
        Assert.False(c.TryReadMsr(0x492, out _));
        Assert.False(c.TryReadMsr(0x493, out _));
        Assert.False(c.TryReadMsr(0x47F, out _));
        Assert.True(VmxCapabilities.Everything.TryReadMsr(0x491, out _));
        Assert.True(VmxCapabilities.Everything.TryReadMsr(0x492, out _));
    }

    [Fact]
    public void Capabilities_RequiredControls_AreAllowed()
    {
        foreach (VmxCapabilities c in new[] { VmxCapabilities.Default, VmxCapabilities.Everything })
        {
            foreach (ControlSettings s in new[] { c.Pin, c.Primary, c.Secondary, c.Exit, c.Entry })
            {
                Assert.Equal(0U, s.Required & ~s.Allowed);
                Assert.True(s.Permits(s.Adjust(0)));
            }
        }
    }

    [Fact]
    public void InterruptionInfo_Packed_Unpacks()
    {
        InterruptionInfo info = new(InterruptionType.HardwareException, 14, true);
        Assert.Equal(0x8000_0B0EU, info.Value);
        Assert.Equal(14, info.Vector);
        Assert.Equal(InterruptionType.HardwareException, info.Type);
        Assert.True(info.ErrorCodeValid && info.Valid && !info.NmiUnblocking);
    }

    [Theory]
    [InlineData(0x60, 1, true)]
    [InlineData(0x5E, 4, true)]
    [InlineData(0x61, 1, false)]
    [InlineData(0x7FFF, 2, true)]
    [InlineData(0xFFFF, 2, true)]
    [InlineData(0xFFFF, 1, false)]
    public void IoBitmaps_AccessOfSeveralPorts_ExitsForAny(int port, int size, bool exits)
    {
        using GuestFixture f = new();
        f.Write(GuestFixture.IoBitmapA + (0x60 / 8), 1);
        f.Write(GuestFixture.IoBitmapB, 1);
        f.Code(0x0F, 0xA2);
        f.Vmcs[VmcsField.PrimaryControls] |= PrimaryControls.UseIoBitmaps;
        f.Enter();
        Assert.Equal(exits, f.Vmx.IoExits((ushort)port, size));
    }

    [Theory]
    [InlineData(0x10U, false, false)]
    [InlineData(0x11U, false, true)]
    [InlineData(0x11U, true, false)]
    [InlineData(0xC000_0082U, true, true)]
    [InlineData(0xC000_0082U, false, false)]
    [InlineData(0x2000U, false, true)]
    [InlineData(0x4000_0000U, true, true)]
    public void MsrBitmaps_FourQuarters_Decide(uint msr, bool write, bool exits)
    {
        using GuestFixture f = new();
        f.Write(GuestFixture.MsrBitmaps, 1UL << 0x11);
        f.Write(GuestFixture.MsrBitmaps + 3072 + 0x10, 1 << 2);
        f.Code(0x0F, 0xA2);
        f.Enter();
        Assert.Equal(exits, f.Vmx.MsrExits(msr, write));
    }
}
