namespace VmFuzz.Cli.Terminal;

/// <summary>What a byte from the keyboard means.</summary>
internal enum KeyAction : byte
{
    /// <summary>Nothing yet, or an unknown key behind the escape key.</summary>
    None,
    /// <summary>The guest gets it.</summary>
    Send,
    /// <summary>The run ends.</summary>
    End,
    /// <summary>The keys are shown.</summary>
    Help,
}

/// <summary>The escape key of a console in raw mode, Ctrl-A as in QEMU: the key behind it is for us, not for the guest.</summary>
internal sealed class EscapeKeys
{
    /// <summary>Ctrl-A.</summary>
    public const byte Escape = 1;

    /// <summary>The keys, for people.</summary>
    public const string Help = """
        Ctrl-A h    this help
        Ctrl-A x    end the run
        Ctrl-A a    send Ctrl-A to the guest (or Ctrl-A Ctrl-A)
        """;

    private bool _escaped;

    /// <summary>Takes a byte.</summary>
    /// <param name="value">What was typed.</param>
    /// <param name="sent">What the guest gets, when the result is <see cref="KeyAction.Send"/>.</param>
    public KeyAction Take(byte value, out byte sent)
    {
        sent = value;
        if (!_escaped)
        {
            _escaped = value == Escape;
            return _escaped ? KeyAction.None : KeyAction.Send;
        }

        _escaped = false;
        switch (value)
        {
            case (byte)'x':
                return KeyAction.End;
            case (byte)'h' or (byte)'?':
                return KeyAction.Help;
            case (byte)'a' or Escape:
                sent = Escape;
                return KeyAction.Send;
            default:
                return KeyAction.None;
        }
    }
}
