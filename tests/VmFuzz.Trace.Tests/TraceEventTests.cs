using VmFuzz.Arch;
using VmFuzz.Trace;

namespace VmFuzz.Trace.Tests;

public sealed class TraceEventTests
{
    public static TheoryData<TraceEventKind> Kinds
    {
        get
        {
            TheoryData<TraceEventKind> kinds = [];
            foreach (TraceEventRow row in TraceSchema.Rows)
            {
                kinds.Add(row.Kind);
            }

            return kinds;
        }
    }

    [Fact]
    public void Schema_Rows_AreTotalAndInOrder()
    {
        TraceEventKind[] kinds = Enum.GetValues<TraceEventKind>();
        Assert.Equal(kinds.Length - 1, TraceSchema.Rows.Length);
        foreach (TraceEventKind kind in kinds)
        {
            TraceEventRow? row = TraceSchema.Find(kind);
            Assert.Equal(kind == TraceEventKind.None, row is null);
            Assert.True(row is null || row.Kind == kind);
        }
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public void Schema_Fields_HaveUniqueAscendingKeysAndNames(TraceEventKind kind)
    {
        TraceEventRow row = TraceSchema.Find(kind)!;
        int last = -1;
        HashSet<string> names = new(StringComparer.Ordinal);
        int deltas = 0;
        int bytes = 0;
        foreach (TraceField field in row.Fields)
        {
            Assert.InRange(field.Key, last + 1, TraceSchema.SlotCount - 1);
            last = field.Key;
            Assert.True(names.Add(field.Name), field.Name);
            deltas += field.Type is TraceFieldType.Controls or TraceFieldType.State ? 1 : 0;
            bytes += field.Type is TraceFieldType.Bytes or TraceFieldType.Text ? 1 : 0;
        }

        Assert.Equal("vcpu", row.Fields[0].Name);
        Assert.True(deltas + bytes <= 1);
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public void Codec_FullEvent_RoundTrips(TraceEventKind kind)
    {
        TraceEvent full = Samples.Full(kind, 5);
        byte[] encoded = Encode(full);
        TraceEvent read = new();
        MsgPackReader reader = new(encoded);
        Assert.Null(TraceEventCodec.Decode(ref reader, read));
        Assert.True(reader.Finished);
        Assert.True(full.SameAs(read), string.Join("; ", TraceEvent.Differences(full, read)));
        Assert.Equal(encoded, Encode(read));
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public void Codec_EmptyEvent_IsFourBytes(TraceEventKind kind)
    {
        byte[] encoded = Encode(new(kind));
        Assert.Equal([0x93, (byte)kind, 0, 0], encoded);
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public void Codec_EachFieldAtItsMaximum_RoundTripsAndOneMoreFails(TraceEventKind kind)
    {
        foreach (TraceField field in TraceSchema.Find(kind)!.Fields)
        {
            if (!field.IsScalar)
            {
                continue;
            }

            ulong max = field.Type == TraceFieldType.Signed ? int.MaxValue : field.Max;
            TraceEvent item = new(kind);
            item.SetWord(field.Key, max);
            MsgPackReader reader = new(Encode(item));
            TraceEvent read = new();
            Assert.Null(TraceEventCodec.Decode(ref reader, read));
            Assert.Equal(max, read.GetWord(field.Key));
            if (max != ulong.MaxValue)
            {
                item.SetWord(field.Key, max + 1);
                MsgPackWriter writer = new(new byte[64]);
                Assert.Same(field, TraceEventCodec.Encode(ref writer, item.Row!, item, 0));
            }
        }
    }

    // The last of the state rows has two groups of one component in a row.
    [Theory]
    [InlineData("930e0000", "unknown kind")]
    [InlineData("93020001", "array's size")]
    [InlineData("9402000100", "present but empty")]
    [InlineData("940300080f", "presence mask names")]
    [InlineData("9402004090", "present but empty")]
    [InlineData("940200409200", "state")]
    [InlineData("94020040920590", "state")]
    [InlineData("94020040940592010105920202", "state")]
    [InlineData("94010040910a", "controls")]
    [InlineData("9302cc0100", "shortest")]
    [InlineData("9302", "end inside")]
    public void Codec_WrongEvent_Refused(string hex, string why)
    {
        MsgPackReader reader = new(Convert.FromHexString(hex));
        string? wrong = TraceEventCodec.Decode(ref reader, new());
        Assert.NotNull(wrong);
        Assert.Contains(why, wrong, StringComparison.Ordinal);
    }

    [Fact]
    public void Codec_LargestEvents_FitTheBound()
    {
        TraceEvent state = Samples.Full(TraceEventKind.Exit, 3);
        state.ClearDeltas();
        for (int i = 0; i < TraceSchema.MaxDeltas; i++)
        {
            state.AddDelta((ushort)(0xf000 + (i & 1)), 0xffff, ulong.MaxValue);
        }

        Assert.InRange(Encode(state).Length, 60_000, TraceSchema.MaxEncodedEvent);
        Assert.Throws<InvalidOperationException>(() => state.AddDelta(1, 1, 1));
        TraceEvent read = new();
        MsgPackReader reader = new(Encode(state));
        Assert.Null(TraceEventCodec.Decode(ref reader, read));
        Assert.True(state.SameAs(read));

        TraceEvent text = Samples.Full(TraceEventKind.End, 3);
        text.SetText(new string('x', TraceSchema.MaxBytes));
        Assert.InRange(Encode(text).Length, TraceSchema.MaxBytes, TraceSchema.MaxEncodedEvent);
        Assert.Throws<ArgumentOutOfRangeException>(() => text.SetBytes(new byte[TraceSchema.MaxBytes + 1]));
    }

    [Fact]
    public void Codec_RandomArrays_NeverThrow()
    {
        TraceEvent into = new();
        byte[] bytes = new byte[48];
        int good = 0;
        for (ulong round = 0; round < 50_000; round++)
        {
            for (int i = 0; i < bytes.Length; i++)
            {
                bytes[i] = (byte)Samples.Mix((round * 48) + (ulong)i);
            }

            bytes[0] = (byte)(0x93 + (round & 7));
            bytes[1] = (byte)(bytes[1] & 15);
            bytes[2] &= 0x7f;
            bytes[3] &= 0x7f;
            MsgPackReader reader = new(bytes);
            if (TraceEventCodec.Decode(ref reader, into) is null)
            {
                // What is accepted has one encoding only.
                Assert.Equal(bytes[..reader.Position], Encode(into));
                good++;
            }
        }

        Assert.True(good > 0);
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public void Differences_OneFieldChanged_NamesIt(TraceEventKind kind)
    {
        foreach (TraceField field in TraceSchema.Find(kind)!.Fields)
        {
            TraceEvent expected = Samples.Full(kind, 2);
            TraceEvent actual = new();
            actual.CopyFrom(expected);
            Assert.Empty(TraceEvent.Differences(expected, actual));
            if (field.IsScalar)
            {
                actual.SetWord(field.Key, actual.GetWord(field.Key) ^ 1);
            }
            else if (field.Type is TraceFieldType.Bytes or TraceFieldType.Text)
            {
                actual.SetBytes([1]);
            }
            else
            {
                TraceDelta first = actual.Deltas[0];
                actual.ClearDeltas();
                foreach (TraceDelta delta in expected.Deltas)
                {
                    actual.AddDelta(delta.Component, delta.Field, delta.Value ^ (delta == first ? 1UL : 0));
                }
            }

            Assert.False(expected.SameAs(actual));
            TraceDifference only = Assert.Single(TraceEvent.Differences(expected, actual));
            Assert.StartsWith(field.Name, only.Field, StringComparison.Ordinal);
            Assert.NotEqual(only.Expected, only.Actual, StringComparer.Ordinal);
        }
    }

    [Fact]
    public void Differences_KindRetiredOrMissingDelta_AreNamed()
    {
        TraceEvent exit = Samples.Full(TraceEventKind.Exit, 2);
        TraceDifference kind = Assert.Single(TraceEvent.Differences(exit, new(TraceEventKind.Sync)));
        Assert.Equal(new("event", "exit", "sync"), kind);

        TraceEvent other = new();
        other.CopyFrom(exit);
        other.Retired++;
        Assert.Equal("retired", Assert.Single(TraceEvent.Differences(exit, other)).Field);

        other.CopyFrom(exit);
        other.AddDelta(0x1003, 9, 4);
        Assert.Equal(new("state[0x1003.9]", "unchanged", "0x4"), Assert.Single(TraceEvent.Differences(exit, other)));
        Assert.Equal(new("state[0x1003.9]", "0x4", "unchanged"), Assert.Single(TraceEvent.Differences(other, exit)));
    }

    [Fact]
    public void Properties_EveryKind_ReachTheirFields()
    {
        TraceEvent input = new(TraceEventKind.Input) { InputPoint = InputPoint.Random, InputKind = InputKind.Random, Ordinal = 3, Value = 4, Auxiliary = 1, Digest = 9 };
        Assert.Equal("       0 v0            0 input digest=0x9 point=random kind=random ordinal=3 value=0x4 auxiliary=0x1", input.ToString());
        TraceEvent userspace = new(TraceEventKind.UserspaceExit) { UserspaceReason = 2, Errno = -4, Data0 = 1, Data1 = 2, Data2 = 3, Data3 = 4 };
        Assert.Equal("       0 v0            0 userspace-exit reason=2 errno=-4 data0=0x1 data1=0x2 data2=0x3 data3=0x4", userspace.ToString());
        TraceEvent access = new(TraceEventKind.FirstAccess) { Space = TraceSpace.Mmio, Address = 0xfee0_0000, Size = 4, IsWrite = true, Rip = 7, Vcpu = 1 };
        Assert.Equal("       0 v1            0 first-access rip=0x7 space=mmio address=0xfee00000 size=4 write=1", access.ToString());
        TraceEvent derived = new(TraceEventKind.Derived) { Source = ComponentId.Pit, DerivedValue = 8 };
        Assert.Equal("       0 v0            0 derived source=pit value=0x8", derived.ToString());
        TraceEvent request = new(TraceEventKind.Request) { RequestNumber = 5, RequestPhase = TraceRequestPhase.Served };
        Assert.Equal("       0 v0            0 request number=5 phase=served", request.ToString());
    }

    [Fact]
    public void Clear_UsedEvent_LeavesNothingBehind()
    {
        TraceEvent item = Samples.Full(TraceEventKind.Exit, 2);
        item.Clear(TraceEventKind.Exit);
        Assert.True(item.SameAs(new(TraceEventKind.Exit)));
    }

    internal static byte[] Encode(TraceEvent item)
    {
        byte[] buffer = new byte[TraceSchema.MaxEncodedEvent];
        MsgPackWriter writer = new(buffer);
        Assert.Null(TraceEventCodec.Encode(ref writer, item.Row!, item, item.Retired));
        Assert.False(writer.Failed);
        return writer.Written.ToArray();
    }
}
