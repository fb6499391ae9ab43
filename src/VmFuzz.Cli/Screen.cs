namespace VmFuzz.Cli;

/// <summary>The guest's console and the progress line, kept apart on one terminal.</summary>
internal sealed class Screen : IDisposable
{
    private readonly Lock _gate = new();
    private readonly Stream? _bytes;
    private readonly TextWriter? _text;
    private readonly bool _owned;
    private readonly TextWriter _progress;
    private readonly byte[] _buffer = new byte[512];
    private int _count;
    private bool _lineStart = true;
    private bool _shown;
    private Timer? _timer;

    /// <summary>Makes a screen.</summary>
    /// <param name="bytes">Where console bytes go; null to use <paramref name="text"/>.</param>
    /// <param name="text">Where they go as Latin-1 text; null for nowhere.</param>
    /// <param name="progress">Where the progress line goes.</param>
    /// <param name="owned">Whether <paramref name="bytes"/> is closed at the end.</param>
    public Screen(Stream? bytes, TextWriter? text, TextWriter progress, bool owned)
    {
        _bytes = bytes;
        _text = text;
        _progress = progress;
        _owned = owned;
    }

    /// <summary>Takes a byte of the console; lines are shown when they are complete.</summary>
    public void Write(byte value)
    {
        _buffer[_count++] = value;
        if (value == (byte)'\n' || _count == _buffer.Length)
        {
            Flush();
        }
    }

    /// <summary>Shows what was written.</summary>
    public void Flush()
    {
        if (_count == 0)
        {
            return;
        }

        lock (_gate)
        {
            Erase();
            _lineStart = _buffer[_count - 1] == (byte)'\n';
            if (_bytes is not null)
            {
                _bytes.Write(_buffer, 0, _count);
                _bytes.Flush();
            }
            else
            {
                _text?.Write(System.Text.Encoding.Latin1.GetString(_buffer, 0, _count));
            }

            _count = 0;
        }
    }

    /// <summary>Shows a progress line five times a second from now on, while the console is at the start of a line.</summary>
    public void StartProgress(Func<string> line) => _timer = new Timer(
        _ =>
        {
            lock (_gate)
            {
                if (_lineStart && _timer is not null)
                {
                    _progress.Write("\r\u001b[K" + line());
                    _shown = true;
                }
            }
        },
        null,
        200,
        200);

    /// <summary>Ends the progress line; nothing reads the counters any more when this returns.</summary>
    public void StopProgress()
    {
        lock (_gate)
        {
            _timer?.Dispose();
            _timer = null;
            Erase();
        }
    }

    /// <summary>Ends the console's last line, so that what follows starts a new one.</summary>
    public void EndLine()
    {
        Flush();
        if (!_lineStart && !_owned)
        {
            Write((byte)'\n');
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        StopProgress();
        Flush();
        if (_owned)
        {
            _bytes?.Dispose();
        }
    }

    private void Erase()
    {
        if (_shown)
        {
            _progress.Write("\r\u001b[K");
            _shown = false;
        }
    }
}
