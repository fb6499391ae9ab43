using FsCheck;
using FsCheck.Fluent;
using VmFuzz.Arch;
using VmFuzz.Replay;
using VmFuzz.Vmx;

namespace VmFuzz.Fuzzing.Tests;

public sealed class CodecTests
{
    [Fact]
    public void Decode_AnyBytes_GivesAStableBoundedInput()
    {
        SplitMix random = new(1);
        byte[] first = new byte[FuzzLimits.InputBytes];
        byte[] second = new byte[FuzzLimits.InputBytes];
        FuzzInput input = new();
        FuzzInput again = new();
        byte[][] encodings = [.. Enum.GetValues<FuzzTarget>().Select(static t => FuzzCodec.Encode(Samples.Rich(t)))];
        ulong targets = 0;
        for (int i = 0; i < 100_000; i++)
        {
            byte[] bytes = Samples.Bytes(random, encodings[i % 3]);
            FuzzCodec.Decode(bytes, input);
            targets |= 1UL << (int)input.Target;
            int length = FuzzCodec.Encode(input, first);
            FuzzCodec.Decode(first.AsSpan(0, length), again);
            if (!again.SameAs(input) || FuzzCodec.Encode(again, second) != length || !first.AsSpan(0, length).SequenceEqual(second.AsSpan(0, length)))
            {
                Assert.Fail($"not stable: {Convert.ToHexString(bytes)}");
            }
        }

        Assert.Equal(7UL, targets);
    }

    [Fact]
    public void Decode_AnyBytesOfFsCheck_EncodesToTheSameAgain() => Prop
        .ForAll<byte[]>(static bytes =>
        {
            byte[] once = FuzzCodec.Encode(FuzzCodec.Decode(bytes));
            return once.AsSpan().SequenceEqual(FuzzCodec.Encode(FuzzCodec.Decode(once)));
        })
        .QuickCheckThrowOnFailure();

    [Theory]
    [InlineData(FuzzTarget.ExitHandlers)]
    [InlineData(FuzzTarget.VmcsEntry)]
    [InlineData(FuzzTarget.GuestCode)]
    public void Decode_Encoded_IsTheSameInput(FuzzTarget target)
    {
        FuzzInput input = Samples.Rich(target);
        Assert.True(FuzzCodec.Decode(FuzzCodec.Encode(input)).SameAs(input));
    }

    [Fact]
    public void Encode_EverySectionAtItsBound_FitsAndIsStable()
    {
        FuzzInput full = Samples.Full();
        byte[] bytes = FuzzCodec.Encode(full);
        Assert.InRange(bytes.Length, 48 * 1024, FuzzLimits.InputBytes);
        Assert.True(FuzzCodec.Decode(bytes).SameAs(full));
        Assert.All(FuzzSectionRow.All, row => Assert.InRange(row.Count(full), 1, FuzzLimits.CodeBytes));
    }

    [Fact]
    public void Decode_LongFile_LooksAtTheFirstPart()
    {
        byte[] bytes = new byte[10 * FuzzLimits.InputBytes];
        Array.Fill(bytes, (byte)0xF4);
        bytes[0] = 0x02;
        FuzzInput input = FuzzCodec.Decode(bytes);
        Assert.Equal(FuzzTarget.GuestCode, input.Target);
        Assert.Equal(FuzzLimits.CodeBytes, input.Code.Count);
    }

    [Fact]
    public void Decode_GarbageBehindAnInput_IsRawMaterial()
    {
        FuzzInput input = Samples.Rich(FuzzTarget.GuestCode);
        byte[] bytes = [.. FuzzCodec.Encode(input), 0x90, 0xF4];
        FuzzInput longer = FuzzCodec.Decode(bytes);
        Assert.Equal([.. input.Code, 0x90, 0xF4], longer.Code);
        Assert.Equal(FuzzSections.Code, longer.Differences(input));
    }

    [Fact]
    public void Decode_UnknownSectionsAndItems_AreDropped()
    {
        // {99: [1, "x"], 0: 2, 3: [5, 7, 9999, 1, 92, 3]}: an unknown section, then registers of which only 5 exists (92 counts instructions).
        byte[] bytes = [0x83, 0x63, 0x92, 0x01, 0xA1, 0x78, 0x00, 0x02, 0x03, 0x96, 0x05, 0x07, 0xCD, 0x27, 0x0F, 0x01, 0x5C, 0x03];
        FuzzInput input = FuzzCodec.Decode(bytes);
        Assert.Equal(FuzzTarget.GuestCode, input.Target);
        Assert.Equal([new RegisterOverride(5, 7)], input.Registers);
        Assert.Empty(input.Code);
    }

    [Fact]
    public void Normalise_OrderAndDoubles_AreSettled()
    {
        FuzzInput input = new();
        input.Vmcs.AddRange([new(VmcsField.GuestRip, 5), new(VmcsField.GuestCsSelector, 0x1_0008), new(VmcsField.GuestRip, 6), new(VmcsField.GuestRsp, 0x8000)]);
        input.Events.AddRange([new(9, InputKind.Nmi), new(1, InputKind.Kick), new(9, InputKind.Smi)]);
        input.Normalise();
        // The stack pointer has its golden value.
        Assert.Equal([new(VmcsField.GuestCsSelector, 8), new FieldOverride(VmcsField.GuestRip, 6)], input.Vmcs);
        Assert.Equal([InputKind.Kick, InputKind.Nmi, InputKind.Smi], input.Events.Select(static e => e.Kind));
    }

    [Fact]
    public void FillVmcs_Differences_StandInTheVmcs()
    {
        FuzzInput input = Samples.Rich(FuzzTarget.VmcsEntry);
        using Vmcs vmcs = new();
        input.FillVmcs(vmcs);
        Assert.Equal(0x5000UL, vmcs[VmcsField.GuestRip]);
        Assert.Equal(0UL, input.BuildCapabilities().Misc);
    }
}
