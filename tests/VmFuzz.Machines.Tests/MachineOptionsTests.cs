using VmFuzz.Machines;

namespace VmFuzz.Machines.Tests;

/// <summary>Options come from a command line or from the header of a trace: what no machine can be made of is named.</summary>
public sealed class MachineOptionsTests
{
    private static readonly MachineOptions Good = new() { Images = [new MachineImage("code", "code.bin", new byte[] { 0xF4 })] };

    [Fact]
    public void Validate_Good_IsNull() => Assert.Null(Good.Validate());

    [Theory]
    [InlineData(0x8000UL, 1UL << 20, true)]
    [InlineData(0x7FFFUL, 1UL << 20, false)]
    [InlineData(0xF_FFFFUL, 1UL << 20, true)]
    [InlineData(0x10_0000UL, 1UL << 20, false)]
    [InlineData(0xFFFF_FFFFUL, 8UL << 30, true)]
    [InlineData(0x1_0000_0000UL, 8UL << 30, false)]
    [InlineData(ulong.MaxValue, 8UL << 30, false)]
    public void Validate_LoadAddress_LiesInMemoryThatAGuestStartsIn(ulong address, ulong memory, bool valid) =>
        Assert.Equal(valid, (Good with { LoadAddress = address, Memory = memory }).Validate() is null);

    [Theory]
    [InlineData("exit-cost", "18446744073709551615")]
    [InlineData("max-instructions", "18446744073709551615")]
    [InlineData("rtc-base", "-9223372036854775808")]
    [InlineData("rtc-base", "9223372036854775807")]
    [InlineData("memory", "17180917760")]
    [InlineData("memory", "0")]
    [InlineData("memory", "1048577")]
    [InlineData("cpu", "")]
    public void Validate_SettingOutOfRange_SaysSo(string key, string value)
    {
        Assert.Null(MachineSettings.FromSettings([KeyValuePair.Create(key, value)], out MachineOptions options));
        Assert.NotNull((options with { Images = Good.Images }).Validate());
    }

    [Theory]
    [InlineData("machine", "")]
    [InlineData("machine", "0")]
    [InlineData("accel", "hvf")]
    [InlineData("memory", "-1")]
    [InlineData("memory", "18446744073709551616")]
    [InlineData("colour", "red")]
    public void FromSettings_Nonsense_SaysSo(string key, string value) =>
        Assert.NotNull(MachineSettings.FromSettings([KeyValuePair.Create(key, value)], out _));

    [Fact]
    public void Validate_LongTextToWaitFor_SaysSo()
    {
        Assert.Null((Good with { UntilSerial = new string('a', MachineOptions.MaxUntilSerial) }).Validate());
        Assert.NotNull((Good with { UntilSerial = new string('a', MachineOptions.MaxUntilSerial + 1) }).Validate());
    }

    [Fact]
    public void Settings_ThereAndBack_AreTheSame()
    {
        MachineOptions options = new()
        {
            Kind = MachineKind.Pc,
            Accelerator = Accelerator.Kvm,
            Memory = 3UL << 30,
            ExitCost = 7,
            RtcBase = 1,
            FlatMode = FlatMode.Real16,
            LoadAddress = 0x9000,
            UntilSerial = "a b",
            MaxInstructions = 99,
        };
        Assert.Null(MachineSettings.FromSettings(MachineSettings.ToSettings(options), out MachineOptions back));
        Assert.Equal(options, back);
    }
}
