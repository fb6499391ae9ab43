using VmFuzz.Machines;
using VmFuzz.Trace;

namespace VmFuzz.Replay.Tests;

/// <summary>A header whose checksum is right may still ask for what no machine can be: it is refused in a line.</summary>
public sealed class HostileHeaderTests
{
    [Theory]
    [InlineData("memory", "18446744073708503040")]
    [InlineData("memory", "17180917760")]
    [InlineData("load-address", "18446744073709551600")]
    [InlineData("exit-cost", "18446744073709551615")]
    [InlineData("max-instructions", "18446744073709551615")]
    [InlineData("rtc-base", "-9223372036854775808")]
    [InlineData("cpu", "../../etc/passwd")]
    [InlineData("machine", "7")]
    [InlineData("shell", "rm")]
    public void TryOptions_SettingNoMachineHas_IsRefused(string key, string value) => Refuses(header => header with
    {
        Machine = [.. header.Machine.Where(s => s.Key != key), new TraceSetting(key, value)],
    });

    [Fact]
    public void TryOptions_OneImageManyTimes_IsRefusedUnread() => Refuses(static header => header with
    {
        Blobs = [.. Enumerable.Repeat(header.Blobs[0], TraceHeader.MaxItems)],
    });

    [Fact]
    public void TryOptions_ImageOfAnUnknownRole_IsRefused() => Refuses(static header => header with
    {
        Blobs = [header.Blobs[0] with { Role = "../bios" }],
    });

    [Fact]
    public void TryOptions_HugeImage_IsRefused() => Refuses(static header => header with
    {
        Blobs = [new TraceBlobReference("code", "huge", new string('0', 32), TraceHeader.MaxBlob)],
    });

    [Fact]
    public void TryOptions_UnchangedHeader_IsTaken()
    {
        using TraceReader reader = Rewritten(static header => header);
        Assert.Null(TraceHeaders.TryOptions(reader, compareOnly: false, out _));
    }

    private static void Refuses(Func<TraceHeader, TraceHeader> change)
    {
        using TraceReader reader = Rewritten(change);
        Assert.True(reader.Status.IsWhole);
        string? wrong = TraceHeaders.TryOptions(reader, compareOnly: false, out _);
        Assert.NotNull(wrong);
        Assert.DoesNotContain('\n', wrong);
    }

    private static TraceReader Rewritten(Func<TraceHeader, TraceHeader> change)
    {
        using TraceReader reader = TraceReader.Open(SmallTrace.Record(Accelerator.Bare));
        using var stream = new MemoryStream();
        Assert.True(TracePatcher.Rewrite(reader, stream, static _ => TracePatch.Keep, change));
        return TraceReader.Open(stream.ToArray());
    }
}
