using SharpFuzz;
using VmFuzz.Fuzzing;

namespace VmFuzz.Fuzz.SharpFuzz;

/// <summary>The host for SharpFuzz: <c>VmFuzz.Fuzz.SharpFuzz TARGET afl|libfuzzer</c>, started by the fuzzer.</summary>
internal static class Program
{
    private static readonly byte[] Buffer = new byte[FuzzLimits.InputBytes];

    public static int Main(string[] args)
    {
        FuzzTargetRow? row = FuzzTargetRow.BuiltIn.FirstOrDefault(row => args.Length > 1 && row.Name == args[0]);
        if (row is null || args[1] is not ("afl" or "libfuzzer"))
        {
            string names = string.Join('|', FuzzTargetRow.BuiltIn.Select(static row => row.Name));
            Console.Error.WriteLine($"usage: VmFuzz.Fuzz.SharpFuzz {names} afl|libfuzzer");
            return 2;
        }

        using ByteTarget target = new(row.CreateExecutor());
        if (args[1] == "libfuzzer")
        {
            Fuzzer.LibFuzzer.Run(bytes => Run(target, bytes));
        }
        else
        {
            Fuzzer.OutOfProcess.Run((Stream stream) => Run(target, Buffer.AsSpan(0, stream.ReadAtLeast(Buffer, Buffer.Length, throwOnEndOfStream: false))));
        }

        return 0;
    }

    // SharpFuzz takes what is thrown for a finding.
    private static void Run(ByteTarget target, ReadOnlySpan<byte> bytes)
    {
        if (target.Run(bytes) is { } violation)
        {
            throw new FindingException(violation.ToString());
        }
    }

    private sealed class FindingException(string message) : Exception(message);
}
