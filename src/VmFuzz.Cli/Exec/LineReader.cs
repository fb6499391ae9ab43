namespace VmFuzz.Cli.Exec;

/// <summary>Lines of bytes from a stream, each of a bounded length; a longer one is skipped and reported.</summary>
internal sealed class LineReader(Stream stream, int longest)
{
    private byte[] _buffer = new byte[Math.Min(longest, 64 << 10)];
    private int _start;
    private int _end;
    private bool _atEnd;

    /// <summary>Called before the stream is asked for more, which may wait.</summary>
    public Action? BeforeWait { get; init; }

    /// <summary>The next line without its end.</summary>
    /// <param name="line">The line, valid until the next call; empty when <paramref name="tooLong"/>.</param>
    /// <param name="tooLong">The line was longer than allowed.</param>
    /// <returns>False at the end of the stream.</returns>
    public bool TryRead(out ReadOnlyMemory<byte> line, out bool tooLong)
    {
        tooLong = false;
        int scanned = 0;
        for (; ; )
        {
            int newline = _buffer.AsSpan(_start + scanned, _end - _start - scanned).IndexOf((byte)'\n');
            if (newline >= 0)
            {
                int length = scanned + newline;
                line = tooLong ? default : _buffer.AsMemory(_start, length);
                _start += length + 1;
                return true;
            }

            scanned = _end - _start;
            if (scanned >= longest)
            {
                // The rest of a line that is too long is of no interest.
                tooLong = true;
                _start = _end = scanned = 0;
            }

            if (_atEnd)
            {
                line = tooLong ? default : _buffer.AsMemory(_start, scanned);
                _start = _end = 0;
                return scanned > 0 || tooLong;
            }

            Fill();
        }
    }

    private void Fill()
    {
        if (_start > 0)
        {
            _buffer.AsSpan(_start, _end - _start).CopyTo(_buffer);
            _end -= _start;
            _start = 0;
        }

        if (_end == _buffer.Length)
        {
            Array.Resize(ref _buffer, Math.Min(_buffer.Length * 2, longest));
        }

        BeforeWait?.Invoke();
        int count = stream.Read(_buffer, _end, _buffer.Length - _end);
        _end += count;
        _atEnd = count == 0;
    }
}
