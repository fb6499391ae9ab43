using System.Net;
using System.Net.Sockets;
using VmFuzz.Replay.Gdb;

namespace VmFuzz.Cli.Gdb;

/// <summary>Takes one gdb after another at a TCP port. A thread of its own reads; the run takes what came between two instructions.</summary>
internal sealed class GdbListener : IGdbLink, IDisposable
{
    // Bytes that may wait for the run; gdb waits when there are more.
    private const int MaxWaiting = 1 << 16;

    // How often a stopped run looks whether it is to end. Unit: milliseconds.
    private const int CancelPoll = 100;

    // How long gdb has to read the end. Unit: milliseconds.
    private const int LastWords = 1000;

    private readonly object _gate = new();
    private readonly Queue<(GdbLinkEvent Kind, byte[] Bytes)> _queue = new();
    private readonly TcpListener _listener;
    private readonly Thread _thread;
    private Socket? _socket;
    private volatile bool _available;
    private volatile bool _disposed;
    private int _waiting;

    private GdbListener(TcpListener listener)
    {
        _listener = listener;
        _thread = new Thread(Serve) { IsBackground = true, Name = "gdb" };
        _thread.Start();
    }

    /// <summary>Whether the run is to end without gdb: asked while the guest is stopped.</summary>
    public Func<bool>? Cancelled { get; set; }

    /// <summary>Where it listens.</summary>
    public IPEndPoint Address => (IPEndPoint)_listener.LocalEndpoint;

    /// <inheritdoc/>
    public bool Available => _available;

    /// <summary>Listens at an address.</summary>
    public static GdbListener Open(IPEndPoint address)
    {
        var listener = new TcpListener(address);
        try
        {
            listener.Start(1);
        }
        catch (SocketException error)
        {
            listener.Dispose();
            throw UserError.At($"gdb cannot be waited for: {error.Message}", $"-gdb tcp:{address}", "give another port, or 0 for any");
        }

        return new GdbListener(listener);
    }

    /// <inheritdoc/>
    public GdbLinkEvent Receive(Span<byte> buffer, out int count)
    {
        count = 0;
        lock (_gate)
        {
            while (_queue.Count == 0)
            {
                if (Cancelled?.Invoke() == true)
                {
                    return GdbLinkEvent.Ended;
                }

                Monitor.Wait(_gate, CancelPoll);
            }

            (GdbLinkEvent kind, byte[] bytes) = _queue.Dequeue();
            bytes.CopyTo(buffer);
            count = bytes.Length;
            _waiting -= count;
            _available = _queue.Count != 0;
            Monitor.PulseAll(_gate);
            return kind;
        }
    }

    /// <inheritdoc/>
    public void Send(ReadOnlySpan<byte> bytes)
    {
        try
        {
            _socket?.Send(bytes);
        }
        catch (Exception error) when (error is SocketException or ObjectDisposedException)
        {
            // The reading side says that gdb is gone.
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _disposed = true;
        _listener.Dispose();
        try
        {
            // gdb reads what was sent last and closes its side; cutting it off would lose that.
            _socket?.Shutdown(SocketShutdown.Send);
            _thread.Join(LastWords);
            _socket?.Dispose();
        }
        catch (Exception error) when (error is SocketException or ObjectDisposedException)
        {
            // It closed first.
        }
    }

    private void Serve()
    {
        byte[] buffer = new byte[4096];
        while (!_disposed)
        {
            try
            {
                using Socket socket = _listener.AcceptSocket();
                socket.NoDelay = true;
                _socket = socket;
                Add(GdbLinkEvent.Connected, []);
                for (int count = socket.Receive(buffer); count > 0; count = socket.Receive(buffer))
                {
                    Add(GdbLinkEvent.Bytes, buffer[..count]);
                }
            }
            catch (Exception error) when (error is SocketException or ObjectDisposedException or InvalidOperationException)
            {
                // gdb or the run went away.
            }

            if (_socket is not null)
            {
                _socket = null;
                Add(GdbLinkEvent.Closed, []);
            }
        }
    }

    private void Add(GdbLinkEvent kind, byte[] bytes)
    {
        lock (_gate)
        {
            while (_waiting + bytes.Length > MaxWaiting && !_disposed)
            {
                Monitor.Wait(_gate, CancelPoll);
            }

            _queue.Enqueue((kind, bytes));
            _waiting += bytes.Length;
            _available = true;
            Monitor.PulseAll(_gate);
        }
    }
}
