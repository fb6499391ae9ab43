using System.Runtime.InteropServices;
using VmFuzz.Fuzzing;

namespace VmFuzz.Fuzz.LibFuzzer;

/// <summary>The host for libFuzzer, which runs inside this process.</summary>
internal static unsafe class Program
{
    private const string Usage = """
        VmFuzz.Fuzz.LibFuzzer: runs a target under libFuzzer (Debian: g++, libclang-rt-14-dev).
          VmFuzz.Fuzz.LibFuzzer --target=exit-handlers -max_total_time=60 -artifact_prefix=OUT/ CORPUS
          VmFuzz.Fuzz.LibFuzzer --target=exit-handlers OUT/crash-*    runs files
          VmFuzz.Fuzz.LibFuzzer --check                               says whether all that is needed is here
          --structured                mutate instructions, fields and events, not bytes

        """ + HostOptions.Help;

    private static CoveredTarget _target = null!;
    private static ByteMutator? _mutator;
    private static bool _keepsFindings;
    private static delegate* unmanaged<void> _abort;

    public static int Main(string[] args)
    {
        if (args is ["--check"])
        {
            return Fail(Toolchain.TryFind(out _, out _));
        }

        bool structured = args.Contains("--structured");
        if (HostOptions.TryParse([.. args.Where(static a => a != "--structured")], out HostOptions options) is { } bad)
        {
            return Fail(args.Length == 0 ? Usage : $"{bad}\n{Usage}");
        }

        // Files are run to see what they break: fully. A folder is a corpus.
        string[] inputs = [.. options.Rest.Where(static word => !word.StartsWith('-'))];
        if (inputs.Length != 0 && options.DeepEvery != 0 && Array.TrueForAll(inputs, File.Exists))
        {
            options = options with { DeepEvery = 1 };
        }

        string library = "";
        string? error = CoveredTarget.TryPrepare(options, out _target) ?? Toolchain.TryBuild(out library) ?? _target.TryOpen();
        if (error is not null)
        {
            return Fail(error);
        }

        // What is kept in a folder need not end the process, which would have to start again.
        _keepsFindings = options.Findings.Length != 0;
        _target.WarmUp();
        if (structured)
        {
            FuzzTargetRow? row = FuzzTargetRow.BuiltIn.FirstOrDefault(row => row.Name == options.Target);
            _mutator = new ByteMutator(MutatorTable.Default, row?.Kind ?? FuzzTarget.ExitHandlers);
        }

        // SAFETY: the library is the shim beside this file, whose two functions have these parameters. The counts stay
        // where they are until the process ends, and so do the arguments, which are never freed.
        nint handle = NativeLibrary.Load(library);
        _abort = (delegate* unmanaged<void>)NativeLibrary.GetExport(handle, "vmfuzz_abort");
        var run = (delegate* unmanaged<int, byte**, delegate* unmanaged<byte*, nuint, int>, delegate* unmanaged<byte*, nuint, nuint, uint, nuint>, byte*, nuint, byte*, int>)NativeLibrary.GetExport(handle, "vmfuzz_run");
        string[] words = [Self(), .. options.Arguments, .. structured ? (string[])["--structured"] : [], .. options.Rest];
        byte** argv = (byte**)NativeMemory.AllocZeroed((nuint)(words.Length + 1), (nuint)sizeof(byte*));
        for (int i = 0; i < words.Length; i++)
        {
            argv[i] = (byte*)Marshal.StringToCoTaskMemUTF8(words[i]);
        }

        const string Prefix = "-artifact_prefix=";
        string? keep = options.Rest.LastOrDefault(static word => word.StartsWith(Prefix, StringComparison.Ordinal)) is { } prefix ? prefix[Prefix.Length..] + "current" : null;
        return run(words.Length, argv, &Run, structured ? &Mutate : null, CoveredTarget.Map, (nuint)CoveredTarget.Cells, (byte*)Marshal.StringToCoTaskMemUTF8(keep));
    }

    [UnmanagedCallersOnly]
    private static int Run(byte* data, nuint size)
    {
        // SAFETY: libFuzzer's copy of the input, for the length of the call.
        if (!_target.Run(new ReadOnlySpan<byte>(data, (int)size)))
        {
            Console.Error.WriteLine($"VmFuzz.Fuzz.LibFuzzer: {_target.LastViolation}");
            Console.Error.Flush();
            if (!_keepsFindings)
            {
                _abort();
            }
        }

        return 0;
    }

    // SAFETY: libFuzzer's buffer, of which size bytes are the input and room bytes may be written.
    [UnmanagedCallersOnly]
    private static nuint Mutate(byte* data, nuint size, nuint room, uint seed) =>
        (nuint)_mutator!.Mutate(new Span<byte>(data, (int)room), (int)size, seed);

    // How libFuzzer starts this program again for -fork and -jobs: the words go through a shell.
    private static string Self()
    {
        string program = Environment.ProcessPath!;
        return Path.GetFileNameWithoutExtension(program) == "dotnet" ? $"{program} {typeof(Program).Assembly.Location}" : program;
    }

    private static int Fail(string? message)
    {
        if (message is null)
        {
            return 0;
        }

        Console.Error.WriteLine($"VmFuzz.Fuzz.LibFuzzer: {message}");
        return 2;
    }
}
