using System.Diagnostics;
using System.Globalization;

namespace VmFuzz.Fuzz.Afl;

/// <summary>
/// Stays while workers come and go: a worker speaks to AFL++ itself, and when it dies in the middle of a case, by a crash
/// or because AFL++ killed it for its time, what it owed is paid here and the next one is started.
/// </summary>
internal static unsafe class Supervisor
{
    /// <summary>Runs workers until AFL++ closes its end.</summary>
    /// <param name="arguments">Arguments of every worker; <c>--worker=FD</c> is added, and <c>--hello</c> for the first.</param>
    /// <returns>An exit status: 0 when AFL++ ended it.</returns>
    public static int Run(IReadOnlyList<string> arguments)
    {
        int* debt = Native.CreatePage(out int page);
        if (debt == null)
        {
            return 2;
        }

        string worker = string.Create(CultureInfo.InvariantCulture, $"--worker={page}");
        int status = Start([.. arguments, worker, "--hello"]);
        while (Volatile.Read(ref *debt) != Debt.None || status > 128)
        {
            if (Volatile.Read(ref *debt) == Debt.Both)
            {
                Native.TryWrite(ForkServer.Status, (uint)Environment.ProcessId);
            }

            if (Volatile.Read(ref *debt) != Debt.None)
            {
                Native.TryWrite(ForkServer.Status, ForkServer.StatusOf(status));
            }

            Volatile.Write(ref *debt, Debt.None);

            // The next request says that AFL++ has read the map: only now may a worker warm up on it.
            if (!Native.WaitReadable(ForkServer.Control))
            {
                return 0;
            }

            status = Start([.. arguments, worker]);
        }

        return status;
    }

    // The pipes are inherited: AFL++ leaves them open across exec, and so does .NET.
    private static int Start(IEnumerable<string> arguments)
    {
        string program = Environment.ProcessPath!;
        ProcessStartInfo start = new(program) { UseShellExecute = false };
        if (Path.GetFileNameWithoutExtension(program) == "dotnet")
        {
            start.ArgumentList.Add(typeof(Supervisor).Assembly.Location);
        }

        foreach (string argument in arguments)
        {
            start.ArgumentList.Add(argument);
        }

        using Process process = Process.Start(start)!;
        process.WaitForExit();
        return process.ExitCode;
    }
}
