using System.Globalization;
using VmFuzz.Coverage;

namespace VmFuzz.Fuzz.Afl;

/// <summary>The host for AFL++.</summary>
internal static unsafe class Program
{
    private const string Usage = """
        VmFuzz.Fuzz.Afl: runs a target under AFL++ (Debian: afl++), which starts it:
          AFL_SKIP_BIN_CHECK=1 afl-fuzz -i SEEDS -o OUT -- VmFuzz.Fuzz.Afl --target=exit-handlers
        or runs files, to see what they break (status 1 when one does):
          VmFuzz.Fuzz.Afl --target=exit-handlers OUT/default/crashes/id*

        """ + HostOptions.Help;

    public static int Main(string[] args)
    {
        bool hello = args.Contains("--hello");
        string? page = args.FirstOrDefault(static a => a.StartsWith("--worker=", StringComparison.Ordinal))?["--worker=".Length..];
        string[] own = [.. args.Where(static a => a != "--hello" && !a.StartsWith("--worker=", StringComparison.Ordinal))];
        if (HostOptions.TryParse(own, out HostOptions options) is { } bad)
        {
            Console.Error.WriteLine(args.Length == 0 ? Usage : $"VmFuzz.Fuzz.Afl: {bad}\n{Usage}");
            return 2;
        }

        bool map = Number(ForkServer.MapVariable) is not null;
        return page is not null ? Work(options, int.Parse(page, CultureInfo.InvariantCulture), hello)
            : map && Native.IsOpen(ForkServer.Status) ? Supervisor.Run(own)
            : map ? RunOnce(options)
            : Reproduce(options);
    }

    private static int Work(HostOptions options, int page, bool hello)
    {
        Native.DieWithParent();
        int* debt = Native.MapPage(page);
        if (debt == null || !TryOpen(options, out CoveredTarget target))
        {
            return 2;
        }

        byte* cases = Number(ForkServer.CaseVariable) is { } id ? Native.Attach(id, out _) : null;
        if (hello)
        {
            // Whole cache lines, as AFL++ scans the map by words.
            int cells = Math.Min((CoveredTarget.Cells + 63) & ~63, ForkServer.MaxMap);
            if (!Native.TryWrite(ForkServer.Status, ForkServer.Hello(cells, cases != null)) || (cases != null && !Native.TryRead(ForkServer.Control, out _)))
            {
                return 2;
            }
        }

        new Worker(target, debt, cases, options.Rest.FirstOrDefault()).Serve();
        return 0;
    }

    // For afl-showmap and its like: one case, from the file named or standard input, and the end that it deserves.
    private static int RunOnce(HostOptions options)
    {
        if (!TryOpen(options, out CoveredTarget target))
        {
            return 2;
        }

        if (!target.Run(new Worker(target, null, null, options.Rest.FirstOrDefault()).Next()))
        {
            Environment.FailFast(target.LastViolation);
        }

        return 0;
    }

    private static int Reproduce(HostOptions options)
    {
        if (options.Rest.Length == 0)
        {
            Console.Error.WriteLine(Usage);
            return 2;
        }

        return TryOpen(options, out CoveredTarget target) ? target.Reproduce(options.Rest, Console.Out) : 2;
    }

    private static bool TryOpen(HostOptions options, out CoveredTarget target)
    {
        string? error = CoveredTarget.TryPrepare(options, out target);
        if (error is null && Number(ForkServer.MapVariable) is { } id)
        {
            byte* region = Native.Attach(id, out long length);

            // A segment that is too small is left alone: the hello says what is needed, and AFL++ starts again with it.
            if (region != null && length >= CoveredTarget.Cells)
            {
                // SAFETY: the segment is as long as the kernel says and stays mapped until the process ends.
                CoverageMap.UseExternal(region, (int)Math.Min(length, CoverageMap.MaxCapacity));
            }
        }

        error ??= target.TryOpen();
        if (error is not null)
        {
            Console.Error.WriteLine($"VmFuzz.Fuzz.Afl: {error}");
            return false;
        }

        target.WarmUp();
        return true;
    }

    private static int? Number(string variable) =>
        int.TryParse(Environment.GetEnvironmentVariable(variable), CultureInfo.InvariantCulture, out int number) ? number : null;
}
