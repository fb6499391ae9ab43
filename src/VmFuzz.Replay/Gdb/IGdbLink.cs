namespace VmFuzz.Replay.Gdb;

/// <summary>What came over a link.</summary>
public enum GdbLinkEvent : byte
{
    /// <summary>Bytes.</summary>
    Bytes,
    /// <summary>gdb connected.</summary>
    Connected,
    /// <summary>gdb went away.</summary>
    Closed,
    /// <summary>Nobody will come any more: the run is to end.</summary>
    Ended,
}

/// <summary>The way to gdb; a socket in the command, a list in tests.</summary>
public interface IGdbLink
{
    /// <summary>Whether something came. Asked often.</summary>
    bool Available { get; }

    /// <summary>Takes what came next; waits for it.</summary>
    /// <param name="buffer">Receives bytes.</param>
    /// <param name="count">How many.</param>
    GdbLinkEvent Receive(Span<byte> buffer, out int count);

    /// <summary>Sends bytes; without gdb they are dropped.</summary>
    void Send(ReadOnlySpan<byte> bytes);
}
