using System.Globalization;
using System.Text;
using VmFuzz.Replay.Gdb;

namespace VmFuzz.Replay.Tests.Gdb;

/// <summary>Packets as gdb writes and reads them.</summary>
internal static class Wire
{
    public static byte[] Packet(string payload) => Packet(Encoding.Latin1.GetBytes(payload));

    public static byte[] Packet(byte[] payload)
    {
        byte sum = 0;
        foreach (byte value in payload)
        {
            sum += value;
        }

        return [(byte)'$', .. payload, (byte)'#', .. Encoding.ASCII.GetBytes(sum.ToString("x2", CultureInfo.InvariantCulture))];
    }

    /// <summary>The payloads in what a server sent.</summary>
    public static List<string> Payloads(ReadOnlySpan<byte> sent)
    {
        var packets = new GdbPackets();
        var found = new List<string>();
        foreach (byte value in sent)
        {
            GdbItem item = packets.Take(value);
            Assert.NotEqual(GdbItem.Damaged, item);
            if (item == GdbItem.Packet)
            {
                found.Add(Encoding.Latin1.GetString(packets.Payload));
            }
        }

        return found;
    }
}

/// <summary>A gdb that sends one packet after another when the guest stands still.</summary>
internal sealed class ScriptedLink(IEnumerable<string> packets) : IGdbLink
{
    private readonly IEnumerator<string> _packets = packets.GetEnumerator();
    private readonly List<byte> _sent = [];
    private bool _connected;

    public List<string> Replies => Wire.Payloads(_sent.ToArray());

    public bool Available => false;

    public GdbLinkEvent Receive(Span<byte> buffer, out int count)
    {
        count = 0;
        if (!_connected)
        {
            _connected = true;
            return GdbLinkEvent.Connected;
        }

        if (!_packets.MoveNext())
        {
            return GdbLinkEvent.Closed;
        }

        byte[] bytes = Wire.Packet(_packets.Current);
        bytes.CopyTo(buffer);
        count = bytes.Length;
        return GdbLinkEvent.Bytes;
    }

    public void Send(ReadOnlySpan<byte> bytes) => _sent.AddRange(bytes);
}
