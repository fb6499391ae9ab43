namespace VmFuzz.Cli.Terminal;

/// <summary>
/// Standard input as the guest's keyboard: a terminal, in raw mode where that can be, or a pipe when the user wrote
/// <c>-serial stdio</c>.
/// </summary>
internal sealed class Keyboard : IDisposable
{
    private readonly Host _host;
    private readonly LiveSource _live;
    private readonly RawTerminal? _terminal;

    private Keyboard(Host host, LiveSource live, RawTerminal? terminal)
    {
        _host = host;
        _live = live;
        _terminal = terminal;
    }

    /// <summary>Connects standard input, when it is there and wanted.</summary>
    public static Keyboard? Open(Host host, RunArguments arguments, LiveSource live)
    {
        if (arguments.Serial != SerialTarget.Stdio || host.OpenInput is null || !(host.InputIsTerminal || arguments.SerialExplicit))
        {
            return null;
        }

        RawTerminal? terminal = host.InputIsTerminal ? RawTerminal.TryOpen() : null;
        var keyboard = new Keyboard(host, live, terminal);
        if (terminal is not null)
        {
            host.Err.WriteLine("vmfuzz: the keyboard is the guest's: Ctrl-A x ends the run, Ctrl-A h shows the keys");
        }

        live.Attach(true);
        new Thread(keyboard.Read) { IsBackground = true, Name = "console input" }.Start();
        return keyboard;
    }

    /// <summary>Whether a person types at a terminal, for whom time passes.</summary>
    public bool IsTerminal => _terminal is not null;

    /// <summary>Puts the terminal back as it was. From any thread.</summary>
    public void Restore() => _terminal?.Restore();

    /// <inheritdoc/>
    public void Dispose() => _terminal?.Dispose();

    private void Read()
    {
        try
        {
            using Stream input = _terminal?.Keys ?? _host.OpenInput!();
            EscapeKeys? escape = _terminal is null ? null : new EscapeKeys();
            for (int value = input.ReadByte(); value >= 0; value = input.ReadByte())
            {
                Take((byte)value, escape);
            }
        }
        catch (IOException)
        {
            // A terminal that goes away is the end of what is typed.
        }

        _live.Attach(false);
    }

    private void Take(byte value, EscapeKeys? escape)
    {
        byte sent = value;
        switch (escape?.Take(value, out sent) ?? KeyAction.Send)
        {
            case KeyAction.Send:
                _live.Type(sent);
                break;
            case KeyAction.End:
                _live.RequestStop();
                break;
            case KeyAction.Help:
                _host.Err.WriteLine(Environment.NewLine + EscapeKeys.Help);
                break;
            default:
                break;
        }
    }
}
