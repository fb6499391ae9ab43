using System.Text;
using VmFuzz.Replay.Gdb;

namespace VmFuzz.Replay.Tests.Gdb;

public sealed class GdbServerTests
{
    private readonly FakeTarget _target = new();

    [Theory]
    [InlineData("?", "T02thread:01;")]
    [InlineData("qAttached", "1")]
    [InlineData("qC", "QC01")]
    [InlineData("qfThreadInfo", "m01")]
    [InlineData("Hg0", "OK")]
    [InlineData("vCont?", "vCont;c;C;s;S")]
    [InlineData("vMustReplyEmpty", "")]
    [InlineData("g", "00000000010000000200000003000000")]
    [InlineData("p2", "02000000")]
    [InlineData("p4", "E01")]
    [InlineData("pffffffffffffffff", "E01")]
    [InlineData("P1=78563412", "OK")]
    [InlineData("P1=7856341", "E01")]
    [InlineData("P1=785634zz", "E01")]
    [InlineData("m10,4", "10111213")]
    [InlineData("mfe,4", "feff")]
    [InlineData("m100,4", "E0e")]
    [InlineData("m10,ffffffffffffffff0", "E01")]
    [InlineData("m10", "E01")]
    [InlineData("m10,4x", "E01")]
    [InlineData("M10,2:abcd", "OK")]
    [InlineData("M10,3:abcd", "E01")]
    [InlineData("Mfff,1:ab", "E0e")]
    [InlineData("X10,2:\u00ab}\u0003", "OK")]
    [InlineData("Z0,1000,1", "OK")]
    [InlineData("Z4,1000,8", "OK")]
    [InlineData("Z5,1000,1", "")]
    [InlineData("Z0,,1", "E01")]
    [InlineData("z2,1000,4", "OK")]
    [InlineData("D", "OK")]
    [InlineData("vKill;1", "OK")]
    [InlineData("vCont;x", "E01")]
    [InlineData("cxyz", "E01")]
    public void Packet_Sent_IsAnswered(string packet, string reply) => Assert.Equal([reply], Ask(packet));

    [Fact]
    public void Memory_Written_ArrivesAsSent()
    {
        Ask("M10,2:abcd", "X20,3:\u0001}]}\u0003");
        Assert.Equal(["10:ABCD", "20:017D23"], _target.Written);
    }

    [Theory]
    [InlineData("vCont;c", false)]
    [InlineData("vCont;s:1;c", true)]
    [InlineData("c", false)]
    [InlineData("s", true)]
    [InlineData("C05", false)]
    [InlineData("S05", true)]
    public void Resume_ThenStop_IsReportedOnce(string packet, bool step)
    {
        GdbServer server = new(_target);
        server.Receive(Wire.Packet(packet));
        Assert.Equal([step], _target.Resumed);
        Assert.Empty(Wire.Payloads(server.Output));
        server.ReportStop(new GdbStop(GdbStopKind.Stepped));
        server.ReportStop(new GdbStop(GdbStopKind.Stepped));
        Assert.Equal(["T05thread:01;"], Wire.Payloads(server.Output));
    }

    [Fact]
    public void Stop_OfWatchpoint_NamesItsAddress()
    {
        GdbServer server = new(_target);
        server.ReportStop(new GdbStop(GdbStopKind.Breakpoint, GdbBreakpointKind.Read, 0x1234));
        server.Receive(Wire.Packet("?"));
        Assert.Equal(["T05rwatch:1234;thread:01;"], Wire.Payloads(server.Output));
    }

    [Fact]
    public void Exit_WhileRunning_IsReported()
    {
        GdbServer server = new(_target);
        server.Receive(Wire.Packet("c"));
        server.ReportExit(0x101);
        Assert.Equal(["W01"], Wire.Payloads(server.Output));
    }

    [Fact]
    public void Acknowledgements_UntilToldNot_FollowPackets()
    {
        GdbServer server = new(_target);
        server.Receive("$?#00"u8);
        Assert.Equal("-", Encoding.ASCII.GetString(server.Output));
        server.Sent();
        server.Receive(Wire.Packet("QStartNoAckMode"));
        Assert.Equal("+$OK#9a", Encoding.ASCII.GetString(server.Output));
        server.Sent();
        server.Receive("-$qC#b4"u8);
        Assert.Equal("$OK#9a$QC01#f5", Encoding.ASCII.GetString(server.Output));
    }

    [Fact]
    public void Interrupt_Byte_AsksTheTarget()
    {
        new GdbServer(_target).Receive([GdbPackets.InterruptByte]);
        Assert.Equal(1, _target.Interrupts);
    }

    [Fact]
    public void Description_ReadInPieces_IsWhole()
    {
        Assert.Equal(["m<targ"], Ask("qXfer:features:read:target.xml:0,5"));
        Assert.Equal(["let*/>"], Ask("qXfer:features:read:target.xml:5,100"));
        Assert.Equal(["l"], Ask("qXfer:features:read:target.xml:ffffffffffffffff,100"));
    }

    [Fact]
    public void Monitor_Command_IsAnsweredInHexadecimal() =>
        Assert.Equal(["O" + Convert.ToHexStringLower("did help\n"u8), "OK"], Ask("qRcmd,68656c70"));

    [Fact]
    public void Packet_LongerThanTheLimit_IsDamaged()
    {
        var packets = new GdbPackets();
        GdbItem last = GdbItem.None;
        foreach (byte value in Wire.Packet(new string('m', GdbPackets.MaxPayload + 1)))
        {
            last = packets.Take(value);
        }

        Assert.Equal(GdbItem.Damaged, last);
        Assert.Equal(GdbPackets.MaxPayload, packets.Payload.Length);
    }

    // Bytes without a meaning, packets with a right checksum around them, and beginnings of real ones.
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void AnyBytes_Received_NeverThrowAndLeaveItAnswering(ulong seed)
    {
        string[] heads = ["g", "G", "p", "P1=", "m", "M10,4:", "X10,4:", "Z0,", "z", "vCont;", "vCont;s:", "qRcmd,", "qXfer:features:read:target.xml:", "qSupported:", "c", "s", "C", "H", "T", "D", "k", "?"];
        var random = new SplitMix(seed);
        GdbServer server = new(_target);
        for (int round = 0; round < 4_000; round++)
        {
            byte[] bytes = new byte[random.Below(40)];
            for (int i = 0; i < bytes.Length; i++)
            {
                bytes[i] = random.Below(2) == 0 ? (byte)"0123456789abcdef,:;=$#}+-"[(int)random.Below(25)] : (byte)random.Next();
            }

            byte[] head = Encoding.ASCII.GetBytes(heads[random.Below((ulong)heads.Length)]);
            server.Receive(random.Below(3) switch { 0 => bytes, 1 => Wire.Packet(bytes), _ => Wire.Packet([.. head, .. bytes]) });
            server.ReportStop(new GdbStop(GdbStopKind.Stepped));
            Assert.InRange(server.Output.Length, 0, 40 * (2 * GdbPackets.MaxPayload));
            server.Sent();
        }

        // Whatever was open is ended; then all is as ever.
        server.Receive("#00"u8);
        server.Reset();
        server.Receive(Wire.Packet("qC"));
        Assert.Equal("+$QC01#f5", Encoding.ASCII.GetString(server.Output));
    }

    private List<string> Ask(params string[] packets)
    {
        GdbServer server = new(_target);
        foreach (string packet in packets)
        {
            server.Receive(Wire.Packet(packet));
        }

        return Wire.Payloads(server.Output);
    }

    // Four registers of four bytes that hold their numbers; 256 bytes of memory that hold their addresses.
    private sealed class FakeTarget : IGdbTarget
    {
        public List<string> Written { get; } = [];

        public List<bool> Resumed { get; } = [];

        public int Interrupts { get; private set; }

        public ReadOnlySpan<byte> Description => "<target*/>"u8;

        public int RegisterCount => 4;

        public int ProgramCounter => 3;

        public int WidthOf(int register) => 4;

        public void ReadRegister(int register, Span<byte> destination) => BitConverter.TryWriteBytes(destination, register);

        public GdbResult WriteRegister(int register, ReadOnlySpan<byte> source) => GdbResult.Done;

        public int ReadMemory(ulong address, Span<byte> destination)
        {
            int count = 0;
            for (; count < destination.Length && address + (ulong)count < 256; count++)
            {
                destination[count] = (byte)(address + (ulong)count);
            }

            return count;
        }

        public GdbResult WriteMemory(ulong address, ReadOnlySpan<byte> source)
        {
            Written.Add($"{address:x}:{Convert.ToHexString(source)}");
            return address < 256 ? GdbResult.Done : GdbResult.Failed;
        }

        public GdbResult Insert(GdbBreakpointKind kind, ulong address, ulong length) => GdbResult.Done;

        public void Remove(GdbBreakpointKind kind, ulong address, ulong length)
        {
        }

        public void Resume(bool step) => Resumed.Add(step);

        public void Interrupt() => Interrupts++;

        public void Detach()
        {
        }

        public void Kill()
        {
        }

        public string Monitor(string command) => $"did {command}\n";
    }
}
