using VmFuzz.Coverage;
using VmFuzz.Machines;
using VmFuzz.Replay;
using VmFuzz.Trace;

namespace VmFuzz.Benchmarks;

/// <summary>A guest under the hypervisor that does little but exit.</summary>
internal static class CpuidLoop
{
    /// <summary>Exits of one run.</summary>
    public const ulong Exits = 1_000_000;

    /// <summary>Runs the loop once, with a fresh machine.</summary>
    /// <param name="level">Compression level of a recording; null records nothing.</param>
    public static long Run(int? level)
    {
        MachineOptions options = Guests.Options(Guests.CpuidLoop((uint)Exits), Accelerator.Kvm);
        using Machine machine = Machine.Create(options, NoInputs.Instance);
        using Recorder? recorder = level is { } chosen
            ? new Recorder(machine, new TraceWriter(Stream.Null, TraceHeaders.Of(options, "benchmark"), new TraceWriterOptions { CompressionLevel = chosen }))
            : null;
        machine.Run();
        return (long)Exits;
    }

    /// <summary>The way in for the loader, which has another copy of this type.</summary>
    public static byte[] Enter(byte[] input) => BitConverter.GetBytes(Run(level: null));

    /// <summary>The loop with probes in VmFuzz.Vmx and VmFuzz.Kvm.</summary>
    public static Func<long> Probed(ProbeKind kind)
    {
        var options = new CoverageLoaderOptions { Instrument = new InstrumentOptions { Kind = kind } };
        CoverageError? error = CoverageLoader.TryCreate(options, out CoverageLoader loader);
        Func<byte[], byte[]> entry = null!;
        error ??= loader.TryBind("VmFuzz.Benchmarks", typeof(CpuidLoop).FullName!, nameof(Enter), out entry);
        return error is null ? () => BitConverter.ToInt64(entry([])) : throw new InvalidOperationException(error.ToString());
    }

    /// <summary>Merging a map of 16 Ki cells, a few of them hit, of which nothing is new.</summary>
    public static Func<long> Scan()
    {
        byte[] counts = new byte[16 << 10];
        for (int i = 0; i < counts.Length; i += 37)
        {
            counts[i] = 1;
        }

        var seen = new CoverageAccumulator(counts.Length);
        return () =>
        {
            const int Count = 20_000;
            for (int i = 0; i < Count; i++)
            {
                seen.Merge(counts);
            }

            return Count;
        };
    }
}
