using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace VmFuzz.Cli.Terminal;

/// <summary>
/// Standard input as a terminal in raw mode: every key comes at once and unchanged, Ctrl-C too. What is printed is still
/// translated (a line feed also returns). The terminal is as it was before when this is disposed, when the process ends in an
/// orderly way, and whenever <see cref="Restore"/> is called.
/// </summary>
internal sealed partial class RawTerminal : IDisposable
{
    private const int Input = 0;
    private const int AfterOutput = 1; // TCSADRAIN

    // Longer than struct termios of any system.
    private const int SettingsBytes = 256;

    private readonly Lock _gate = new();
    private readonly byte[] _before;
    private readonly FileStream _keys;
    private bool _restored;

    private RawTerminal(byte[] before)
    {
        _before = before;
        _keys = new FileStream(new SafeFileHandle(Input, ownsHandle: false), FileAccess.Read, bufferSize: 0);
        AppDomain.CurrentDomain.ProcessExit += AtExit;
    }

    /// <summary>What is typed, unbuffered.</summary>
    public Stream Keys => _keys;

    /// <summary>
    /// Puts the terminal into raw mode. Null when that cannot be: no terminal of this kind, or this process is in its
    /// background and has no claim to its keys.
    /// </summary>
    public static RawTerminal? TryOpen()
    {
        if (OperatingSystem.IsWindows() || Native.ForegroundGroup(Input) != Native.OwnGroup())
        {
            return null;
        }

        byte[] before = new byte[SettingsBytes];
        if (Native.GetSettings(Input, before) != 0)
        {
            return null;
        }

        byte[] raw = [.. before];
        Native.MakeRaw(raw);
        KeepOutput(before, raw);
        return Native.SetSettings(Input, AfterOutput, raw) == 0 ? new RawTerminal(before) : null;
    }

    /// <summary>Puts the terminal back as it was; the first call does it. From any thread.</summary>
    public void Restore()
    {
        lock (_gate)
        {
            if (!_restored)
            {
                _restored = true;
                _ = Native.SetSettings(Input, AfterOutput, _before);
            }
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        // The stream stays open: another thread may wait in it.
        AppDomain.CurrentDomain.ProcessExit -= AtExit;
        Restore();
    }

    private void AtExit(object? sender, EventArgs e) => Restore();

    // The output flags are the second of the four words that struct termios begins with.
    private static void KeepOutput(byte[] before, byte[] raw)
    {
        int word = OperatingSystem.IsMacOS() ? sizeof(long) : sizeof(int);
        before.AsSpan(word, word).CopyTo(raw.AsSpan(word));
    }

    // SAFETY: every function writes at most its system's struct termios, which is shorter than the arrays given.
    private static partial class Native
    {
        [LibraryImport("libc", EntryPoint = "tcgetattr")]
        public static partial int GetSettings(int file, [Out] byte[] settings);

        [LibraryImport("libc", EntryPoint = "tcsetattr")]
        public static partial int SetSettings(int file, int when, byte[] settings);

        [LibraryImport("libc", EntryPoint = "cfmakeraw")]
        public static partial void MakeRaw([In, Out] byte[] settings);

        [LibraryImport("libc", EntryPoint = "tcgetpgrp")]
        public static partial int ForegroundGroup(int file);

        [LibraryImport("libc", EntryPoint = "getpgrp")]
        public static partial int OwnGroup();
    }
}
