using System.Text;

namespace VmFuzz.Machines;

/// <summary>Looks for a text in a stream of bytes.</summary>
public sealed class ConsoleMatch
{
    private readonly byte[] _text;
    private readonly int[] _fallback;
    private int _length;

    /// <summary>Looks for a text in UTF-8. An empty one is never found.</summary>
    public ConsoleMatch(string text)
        : this(Encoding.UTF8.GetBytes(text))
    {
    }

    /// <summary>Looks for bytes.</summary>
    public ConsoleMatch(ReadOnlySpan<byte> text)
    {
        _text = text.ToArray();
        _fallback = new int[_text.Length + 1];
        for (int i = 1, k = 0; i < _text.Length; i++)
        {
            while (k > 0 && _text[i] != _text[k])
            {
                k = _fallback[k];
            }

            k += _text[i] == _text[k] ? 1 : 0;
            _fallback[i + 1] = k;
        }
    }

    /// <summary>The whole text was seen.</summary>
    public bool Matched { get; private set; }

    /// <summary>Starts again.</summary>
    public void Reset()
    {
        _length = 0;
        Matched = false;
    }

    /// <summary>Takes a byte. True when it completes the text for the first time.</summary>
    public bool Add(byte value)
    {
        if (_text.Length == 0 || Matched)
        {
            return false;
        }

        while (_length > 0 && _text[_length] != value)
        {
            _length = _fallback[_length];
        }

        _length += _text[_length] == value ? 1 : 0;
        Matched = _length == _text.Length;
        return Matched;
    }
}
