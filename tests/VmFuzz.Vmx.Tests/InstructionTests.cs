using VmFuzz.Arch;

namespace VmFuzz.Vmx.Tests;

public sealed class InstructionTests
{
    [Theory]
    [InlineData(0x80_0008UL)]
    [InlineData(1UL << 60)]
    public void VmClearAndVmPtrLd_BadAddress_Fail(ulong pointer)
    {
        using GuestFixture f = new();
        Assert.Equal(VmxInstructionError.VmclearInvalidAddress, f.Vmx.VmClear(pointer).Error);
        Assert.Equal(VmxInstructionError.VmptrldInvalidAddress, f.Vmx.VmPtrLd(pointer).Error);
    }

    [Fact]
    public void VmxonPointer_AsVmcs_Fails()
    {
        using GuestFixture f = new();
        Assert.Equal(VmxInstructionError.VmclearVmxonPointer, f.Vmx.VmClear(GuestFixture.Vmxon).Error);
        Assert.Equal(VmxInstructionError.VmptrldVmxonPointer, f.Vmx.VmPtrLd(GuestFixture.Vmxon).Error);
        Assert.Equal(VmxInstructionError.VmxonInRoot, f.Vmx.VmxOn(GuestFixture.Vmxon).Error);
    }

    [Fact]
    public void VmPtrLd_WrongRevision_Fails()
    {
        using GuestFixture f = new();
        f.Write(0x80_3000, 0x12);
        Assert.Equal(VmxInstructionError.VmptrldIncorrectRevision, f.Vmx.VmPtrLd(0x80_3000).Error);
        Assert.Equal(GuestFixture.Region, f.Vmx.VmPtrSt());
    }

    [Fact]
    public void WithoutCurrentVmcs_ReadWriteEnter_FailInvalid()
    {
        using GuestFixture f = new();
        Assert.True(f.Vmx.VmClear(GuestFixture.Region).Succeeded);
        Assert.Equal(VmxUnit.NoPointer, f.Vmx.VmPtrSt());
        Assert.True(f.Vmx.VmRead((ulong)VmcsField.GuestRip, out _).IsFailInvalid);
        Assert.True(f.Vmx.VmWrite((ulong)VmcsField.GuestRip, 0).IsFailInvalid);
        Assert.Equal(EntryOutcome.Failed, f.Vmx.Enter(true, out _, out VmxResult failure));
        Assert.True(failure.IsFailInvalid);
        Assert.Equal(RFlags.Cf, failure.Flags);
    }

    [Fact]
    public void Vmcs_SwitchedAway_KeepsFieldsAndLaunchState()
    {
        using GuestFixture f = new();
        f.Code(0xF4);
        f.Enter();
        f.Write(0x80_3000, 0x11);
        Assert.True(f.Vmx.VmClear(0x80_3000).Succeeded);
        Assert.True(f.Vmx.VmPtrLd(0x80_3000).Succeeded);
        Assert.False(f.Vmcs.Launched);
        Assert.Equal(0UL, f.Vmcs[VmcsField.GuestIdtrBase]);
        Assert.True(f.Vmx.VmPtrLd(GuestFixture.Region).Succeeded);
        Assert.True(f.Vmcs.Launched);
        Assert.Equal(GuestFixture.Idt, f.Vmcs[VmcsField.GuestIdtrBase]);
        Assert.True(f.Vmx.VmClear(GuestFixture.Region).Succeeded);
        Assert.True(f.Vmx.VmPtrLd(GuestFixture.Region).Succeeded);
        Assert.False(f.Vmcs.Launched);
    }

    [Fact]
    public void VmWrite_HighHalf_ChangesOnlyIt()
    {
        using GuestFixture f = new();
        ulong encoding = (ulong)VmcsField.TscOffset;
        Assert.True(f.Vmx.VmWrite(encoding, 0x1111_2222_3333_4444).Succeeded);
        Assert.True(f.Vmx.VmWrite(encoding + 1, 0xFFFF_FFFF_5555_6666).Succeeded);
        Assert.True(f.Vmx.VmRead(encoding, out ulong value).Succeeded);
        Assert.Equal(0x5555_6666_3333_4444UL, value);
        Assert.True(f.Vmx.VmRead(encoding + 1, out value).Succeeded);
        Assert.Equal(0x5555_6666UL, value);
    }

    [Theory]
    [InlineData(0x681FUL)]
    [InlineData(0x7FFEUL)]
    [InlineData(0x1_0000UL)]
    [InlineData(0x1800UL)]
    [InlineData((ulong)VmcsField.PmlAddress)]
    public void VmRead_NoSuchField_Fails(ulong encoding)
    {
        using GuestFixture f = new();
        Assert.Equal(VmxInstructionError.UnsupportedComponent, f.Vmx.VmRead(encoding, out _).Error);
        Assert.Equal(12UL, f.Vmcs[VmcsField.VmInstructionError]);
    }

    [Fact]
    public void VmWrite_ReadOnlyField_DependsOnCapability()
    {
        VmxCapabilities capabilities = VmxCapabilities.Default with { Misc = VmxCapabilities.Default.Misc & ~(1UL << 29) };
        using GuestFixture f = new();
        Assert.True(f.Vmx.VmWrite((ulong)VmcsField.ExitReason, 1).Succeeded);
        using VmxUnit strict = new(f.Cpu, capabilities);
        f.Write(0x80_4000, 0x11);
        f.Write(0x80_5000, 0x11);
        Assert.True(strict.VmxOn(0x80_4000).Succeeded);
        Assert.True(strict.VmPtrLd(0x80_5000).Succeeded);
        Assert.Equal(VmxInstructionError.VmwriteReadOnlyComponent, strict.VmWrite((ulong)VmcsField.ExitReason, 1).Error);
    }

    [Theory]
    [InlineData(0UL, 0UL)]
    [InlineData(3UL, 0UL)]
    [InlineData(1UL, 7UL)]
    public void InvEpt_BadOperand_Fails(ulong type, ulong pointer)
    {
        using GuestFixture f = new();
        Assert.Equal(VmxInstructionError.InvalidInvalidationOperand, f.Vmx.InvEpt(type, pointer).Error);
    }

    [Theory]
    [InlineData(4UL, 1UL, 0UL)]
    [InlineData(1UL, 0UL, 0UL)]
    [InlineData(1UL, 0x1_0001UL, 0UL)]
    [InlineData(0UL, 1UL, 1UL << 62)]
    public void InvVpid_BadOperand_Fails(ulong type, ulong vpid, ulong linear)
    {
        using GuestFixture f = new();
        Assert.Equal(VmxInstructionError.InvalidInvalidationOperand, f.Vmx.InvVpid(type, vpid, linear).Error);
        Assert.True(f.Vmx.InvVpid(2, 0, 0).Succeeded);
    }
}
