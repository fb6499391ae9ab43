using System.ComponentModel;
using System.Diagnostics;
using System.Runtime.InteropServices;

namespace VmFuzz.Cli;

/// <summary>A running process of a fuzzer from outside. Its output is heard and kept in a file.</summary>
internal sealed partial class OutsideProcess : IDisposable
{
    private const int Interrupt = 2;

    private readonly Process _process;
    private readonly StreamWriter _log;
    private readonly Lock _gate = new();
    private string _last = "";

    private OutsideProcess(Process process, StreamWriter log) => (_process, _log) = (process, log);

    /// <summary>Whether it has ended and all that it wrote was heard.</summary>
    public bool HasExited => _process.HasExited;

    /// <summary>Its last line that was not empty.</summary>
    public string LastLine
    {
        get
        {
            lock (_gate)
            {
                return _last;
            }
        }
    }

    /// <summary>Starts it.</summary>
    /// <param name="recipe">What.</param>
    /// <param name="log">Where its output goes; appended to.</param>
    /// <param name="hear">Takes each line, on some thread, one at a time.</param>
    public static OutsideProcess Start(ProcessStartInfo recipe, string log, Action<string> hear)
    {
        recipe.UseShellExecute = false;
        recipe.RedirectStandardInput = true;
        recipe.RedirectStandardOutput = true;
        recipe.RedirectStandardError = true;
        var writer = new StreamWriter(log, append: true) { AutoFlush = true };
        try
        {
            Process process = Process.Start(recipe)!;
            var started = new OutsideProcess(process, writer);
            process.StandardInput.Close();
            process.OutputDataReceived += (_, line) => started.Take(line.Data, hear);
            process.ErrorDataReceived += (_, line) => started.Take(line.Data, hear);
            process.BeginOutputReadLine();
            process.BeginErrorReadLine();
            return started;
        }
        catch (Win32Exception error)
        {
            writer.Dispose();
            throw UserError.At($"the fuzzer cannot be started ({error.Message})", recipe.FileName, "check the installation");
        }
    }

    /// <summary>Waits for the rest of its output.</summary>
    /// <returns>Its exit code.</returns>
    public int Finish()
    {
        _process.WaitForExit();
        return _process.ExitCode;
    }

    /// <summary>Asks it to end, as Ctrl-C does.</summary>
    public void Stop()
    {
        if (!_process.HasExited)
        {
            _ = Signal(_process.Id, Interrupt);
        }
    }

    /// <summary>Ends it at once, with all that it started.</summary>
    public void Kill()
    {
        try
        {
            _process.Kill(entireProcessTree: true);
        }
        catch (Exception error) when (error is InvalidOperationException or Win32Exception)
        {
            // It has ended.
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Kill();
        _process.Dispose();
        lock (_gate)
        {
            _log.Dispose();
        }
    }

    private void Take(string? line, Action<string> hear)
    {
        if (line is null)
        {
            return;
        }

        lock (_gate)
        {
            _last = line.Trim().Length != 0 ? line.Trim() : _last;
            hear(line);
            if (_log.BaseStream is { CanWrite: true })
            {
                _log.WriteLine(line);
            }
        }
    }

    [LibraryImport("libc", EntryPoint = "kill")]
    private static partial int Signal(int process, int signal);
}
