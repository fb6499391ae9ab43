using System.Diagnostics;
using System.IO.Hashing;
using System.Runtime.InteropServices;

namespace VmFuzz.Fuzz.LibFuzzer;

/// <summary>Makes the shared library that is libFuzzer, with what this machine has.</summary>
internal static class Toolchain
{
    private static readonly EnumerationOptions Quiet = new() { IgnoreInaccessible = true };

    /// <summary>Finds the tools.</summary>
    /// <param name="compiler">Path of the compiler, when the result is null.</param>
    /// <param name="archive">Path of libFuzzer's archive, when the result is null.</param>
    /// <returns>What is missing, with the packages that have it, or null.</returns>
    public static string? TryFind(out string compiler, out string archive)
    {
        archive = Archives().FirstOrDefault() ?? "";
        compiler = (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':').Select(static p => Path.Combine(p, "g++")).FirstOrDefault(File.Exists) ?? "";
        return archive.Length == 0 ? "libclang_rt.fuzzer_no_main is not installed (Debian: libclang-rt-14-dev)"
            : compiler.Length == 0 ? "g++ is not installed (Debian: g++)"
            : null;
    }

    /// <summary>The library, made now if it was not made before from the same parts.</summary>
    /// <param name="path">Its path, when the result is null.</param>
    /// <returns>What is wrong, or null.</returns>
    public static string? TryBuild(out string path)
    {
        path = "";
        if (TryFind(out string compiler, out string archive) is { } missing)
        {
            return missing;
        }

        byte[] shim = Shim();
        XxHash3 hash = new();
        hash.Append(shim);
        hash.Append(File.ReadAllBytes(archive));
        string folder = Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.LocalApplicationData, Environment.SpecialFolderOption.DoNotVerify), "vmfuzz");
        path = Path.Combine(folder, $"libvmfuzz-libfuzzer-{hash.GetCurrentHashAsUInt64():x16}.so");
        if (File.Exists(path))
        {
            return null;
        }

        DirectoryInfo scratch = Directory.CreateTempSubdirectory("vmfuzz-");
        try
        {
            string source = Path.Combine(scratch.FullName, "shim.c");
            string made = Path.Combine(scratch.FullName, "library.so");
            File.WriteAllBytes(source, shim);
            if (Run(compiler, ["-shared", "-fPIC", "-O2", "-o", made, "-x", "c", source, "-x", "none", "-Wl,--whole-archive", archive, "-Wl,--no-whole-archive", "-lpthread", "-ldl", "-lm"]) is { } error)
            {
                return error;
            }

            // Two may do this at once; a move is whole or not at all.
            Directory.CreateDirectory(folder);
            string beside = $"{path}.{Environment.ProcessId}";
            File.Copy(made, beside, overwrite: true);
            File.Move(beside, path, overwrite: true);
            return null;
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            return error.Message;
        }
        finally
        {
            scratch.Delete(recursive: true);
        }
    }

    // Newest version first.
    private static IEnumerable<string> Archives()
    {
        string machine = RuntimeInformation.ProcessArchitecture == Architecture.Arm64 ? "aarch64" : "x86_64";
        return from llvm in Folders("/usr/lib", "llvm-*").OrderByDescending(static p => p.Length).ThenByDescending(static p => p, StringComparer.Ordinal)
               from version in Folders(Path.Combine(llvm, "lib", "clang"), "*").OrderDescending(StringComparer.Ordinal)
               let path = Path.Combine(version, "lib", "linux", $"libclang_rt.fuzzer_no_main-{machine}.a")
               where File.Exists(path)
               select path;
    }

    private static string[] Folders(string folder, string pattern) =>
        Directory.Exists(folder) ? Directory.GetDirectories(folder, pattern, Quiet) : [];

    private static byte[] Shim()
    {
        using Stream stream = typeof(Toolchain).Assembly.GetManifestResourceStream("shim.c")!;
        byte[] bytes = new byte[stream.Length];
        stream.ReadExactly(bytes);
        return bytes;
    }

    private static string? Run(string program, string[] arguments)
    {
        using Process process = Process.Start(new ProcessStartInfo(program, arguments) { UseShellExecute = false, RedirectStandardError = true })!;
        string error = process.StandardError.ReadToEnd();
        process.WaitForExit();
        return process.ExitCode == 0 ? null : $"g++ failed: {error.Trim()}";
    }
}
