using VmFuzz.Trace;

namespace VmFuzz.Trace.Tests;

public sealed class MsgPackTests
{
    // Encodings worked out by hand from the MessagePack specification.
    public static TheoryData<ulong, string> Unsigned => new()
    {
        { 0, "00" }, { 0x7f, "7f" }, { 0x80, "cc80" }, { 0xff, "ccff" }, { 0x100, "cd0100" }, { 0xffff, "cdffff" },
        { 0x1_0000, "ce00010000" }, { 0xffff_ffff, "ceffffffff" }, { 0x1_0000_0000, "cf0000000100000000" },
        { ulong.MaxValue, "cfffffffffffffffff" },
    };

    public static TheoryData<long, string> Signed => new()
    {
        { -1, "ff" }, { -32, "e0" }, { -33, "d0df" }, { -128, "d080" }, { -129, "d1ff7f" }, { -32768, "d18000" },
        { -32769, "d2ffff7fff" }, { int.MinValue, "d280000000" }, { int.MinValue - 1L, "d3ffffffff7fffffff" },
        { long.MinValue, "d38000000000000000" }, { 0, "00" }, { 200, "ccc8" }, { long.MaxValue, "cf7fffffffffffffff" },
    };

    [Theory]
    [MemberData(nameof(Unsigned))]
    public void WriteUInt_Boundary_ShortestForm(ulong value, string expected)
    {
        MsgPackWriter writer = new(stackalloc byte[16]);
        writer.WriteUInt(value);
        Assert.Equal(expected, Convert.ToHexStringLower(writer.Written));
        MsgPackReader reader = new(writer.Written);
        Assert.True(reader.TryReadUInt(out ulong read));
        Assert.Equal(value, read);
        Assert.True(reader.Finished);
    }

    [Theory]
    [MemberData(nameof(Signed))]
    public void WriteInt_Boundary_ShortestForm(long value, string expected)
    {
        MsgPackWriter writer = new(stackalloc byte[16]);
        writer.WriteInt(value);
        Assert.Equal(expected, Convert.ToHexStringLower(writer.Written));
        MsgPackReader reader = new(writer.Written);
        Assert.True(reader.TryReadInt(out long read));
        Assert.Equal(value, read);
        Assert.True(reader.Finished);
    }

    [Theory]
    [InlineData("cc7f")]
    [InlineData("cd00ff")]
    [InlineData("ce0000ffff")]
    [InlineData("cf00000000ffffffff")]
    public void ReadUInt_LongerForm_Refused(string bytes)
    {
        MsgPackReader reader = new(Convert.FromHexString(bytes));
        Assert.False(reader.TryReadUInt(out _));
        Assert.Equal(MsgPackError.NotMinimal, reader.Error);
    }

    [Theory]
    [InlineData("d0e0")]
    [InlineData("d001")]
    [InlineData("d1ff80")]
    [InlineData("d2ffff8000")]
    [InlineData("d3ffffffff80000000")]
    [InlineData("d30000000000000001")]
    public void ReadInt_LongerForm_Refused(string bytes)
    {
        MsgPackReader reader = new(Convert.FromHexString(bytes));
        Assert.False(reader.TryReadInt(out _));
        Assert.Equal(MsgPackError.NotMinimal, reader.Error);
    }

    [Fact]
    public void ReadInt_AboveSignedRange_TooLarge()
    {
        MsgPackReader reader = new(Convert.FromHexString("cfffffffffffffffff"));
        Assert.False(reader.TryReadInt(out _));
        Assert.Equal(MsgPackError.TooLarge, reader.Error);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(31)]
    [InlineData(32)]
    [InlineData(255)]
    [InlineData(256)]
    [InlineData(65535)]
    [InlineData(65536)]
    public void Lengths_Boundary_RoundTrip(int length)
    {
        byte[] content = new byte[length];
        Array.Fill(content, (byte)'x');
        byte[] buffer = new byte[(2 * length) + 32];
        MsgPackWriter writer = new(buffer);
        writer.WriteBin(content);
        writer.WriteText(content);
        writer.WriteArrayHeader(length);
        Assert.False(writer.Failed);
        MsgPackReader reader = new([.. writer.Written, .. content]);
        Assert.True(reader.TryReadBin(length, out ReadOnlySpan<byte> bin));
        Assert.True(bin.SequenceEqual(content));
        Assert.True(reader.TryReadText(length, out ReadOnlySpan<byte> text));
        Assert.True(text.SequenceEqual(content));
        Assert.True(reader.TryReadArrayHeader(length, out int count));
        Assert.Equal(length, count);
    }

    [Theory]
    [InlineData("c5000161", "bin")]
    [InlineData("c6000000ff", "bin")]
    [InlineData("d90161", "text")]
    [InlineData("da002061", "text")]
    [InlineData("db0000002061", "text")]
    [InlineData("dc000100", "array")]
    [InlineData("dd0000001000", "array")]
    public void Lengths_LongerForm_Refused(string bytes, string type)
    {
        MsgPackReader reader = new(Convert.FromHexString(bytes));
        bool read = type switch
        {
            "bin" => reader.TryReadBin(100, out _),
            "text" => reader.TryReadText(100, out _),
            _ => reader.TryReadArrayHeader(100, out _),
        };
        Assert.False(read);
        Assert.Equal(MsgPackError.NotMinimal, reader.Error);
    }

    [Theory]
    [InlineData("c6ffffffff")]
    [InlineData("c67fffffff")]
    public void ReadBin_HugeLength_RefusedByLimitOrEnd(string bytes)
    {
        MsgPackReader limited = new(Convert.FromHexString(bytes));
        Assert.False(limited.TryReadBin(1000, out _));
        Assert.Equal(MsgPackError.TooLarge, limited.Error);
        MsgPackReader open = new(Convert.FromHexString(bytes));
        Assert.False(open.TryReadBin(int.MaxValue, out _));
        Assert.NotEqual(MsgPackError.None, open.Error);
    }

    [Fact]
    public void ReadArrayHeader_MoreElementsThanBytes_Refused()
    {
        MsgPackReader reader = new(Convert.FromHexString("dd00ffffff0000"));
        Assert.False(reader.TryReadArrayHeader(int.MaxValue, out int count));
        Assert.Equal(0, count);
        Assert.Equal(MsgPackError.End, reader.Error);
    }

    [Fact]
    public void ReadText_NotUtf8_Refused()
    {
        MsgPackReader reader = new([0xa1, 0xff]);
        Assert.False(reader.TryReadText(10, out _));
        Assert.Equal(MsgPackError.Utf8, reader.Error);
    }

    [Fact]
    public void Skip_NestedDeeperThanLimit_Refused()
    {
        byte[] nested = new byte[100_000];
        Array.Fill(nested, (byte)0x91);
        MsgPackReader reader = new(nested);
        Assert.False(reader.TrySkip(16));
        Assert.Equal(MsgPackError.TooDeep, reader.Error);

        byte[] allowed = [0x91, 0x91, 0x81, 0xa1, 0x61, 0xc0];
        MsgPackReader shallow = new(allowed);
        Assert.True(shallow.TrySkip(3));
        Assert.True(shallow.Finished);
        MsgPackReader tight = new(allowed);
        Assert.False(tight.TrySkip(2));
    }

    [Fact]
    public void Writer_BufferTooSmall_FailsAndWritesNothingMore()
    {
        MsgPackWriter writer = new(stackalloc byte[3]);
        writer.WriteUInt(0x1234);
        Assert.False(writer.Failed);
        writer.WriteUInt(1);
        Assert.True(writer.Failed);
        Assert.Equal(3, writer.Position);
        writer.WriteBin([]);
        Assert.Equal(3, writer.Position);
    }

    [Fact]
    public void Reader_AfterError_StaysFailed()
    {
        MsgPackReader reader = new([0xc0, 0x01]);
        Assert.False(reader.TryReadUInt(out _));
        Assert.False(reader.TryReadNil());
        Assert.Equal(MsgPackError.Type, reader.Error);
        Assert.Equal(0, reader.Position);
    }

    [Fact]
    public void Writer_TenIntegers_AllocatesNothing()
    {
        byte[] buffer = new byte[128];
        WriteTen(buffer);
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 1000; i++)
        {
            WriteTen(buffer);
        }

        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
    }

    [Fact]
    public void Reader_RandomBytes_NeverThrowsNorAllocates()
    {
        byte[] bytes = new byte[64];
        long allocated = 0;
        int good = 0;
        for (ulong round = 0; round < 20_000; round++)
        {
            for (int i = 0; i < bytes.Length; i++)
            {
                bytes[i] = (byte)Samples.Mix((round * 64) + (ulong)i);
            }

            long before = GC.GetAllocatedBytesForCurrentThread();
            good += ReadEverything(bytes) ? 1 : 0;
            allocated += GC.GetAllocatedBytesForCurrentThread() - before;
        }

        Assert.Equal(0, allocated);
        Assert.True(good > 0);
    }

    private static void WriteTen(Span<byte> buffer)
    {
        MsgPackWriter writer = new(buffer);
        writer.WriteArrayHeader(10);
        for (int i = 0; i < 10; i++)
        {
            writer.WriteUInt(1UL << (i * 6));
        }
    }

    private static bool ReadEverything(ReadOnlySpan<byte> bytes)
    {
        MsgPackReader skip = new(bytes);
        bool any = skip.TrySkip(8);
        MsgPackReader one = new(bytes);
        any |= one.TryReadUInt(out _);
        MsgPackReader two = new(bytes);
        any |= two.TryReadInt(out _);
        MsgPackReader three = new(bytes);
        any |= three.TryReadBin(1 << 20, out _);
        MsgPackReader four = new(bytes);
        any |= four.TryReadText(1 << 20, out _);
        MsgPackReader five = new(bytes);
        any |= five.TryReadArrayHeader(1 << 20, out _);
        MsgPackReader six = new(bytes);
        any |= six.TryReadMapHeader(1 << 20, out _);
        return any;
    }
}
