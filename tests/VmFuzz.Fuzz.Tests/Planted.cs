using VmFuzz.Arch;
using VmFuzz.Fuzzing;

namespace VmFuzz.Fuzz.Tests;

/// <summary>Targets with a fault each, opened by the hosts through <c>--entry</c>.</summary>
public static class Planted
{
    /// <summary>What hosts are told to open.</summary>
    public const string Entry = "VmFuzz.Fuzz.Tests:VmFuzz.Fuzz.Tests.Planted:Open";

    /// <summary>
    /// <c>order</c>: a violation when an exit for CPUID is followed by one for an I/O instruction on a port below 0x100.
    /// <c>deaths</c>: the same, and the process dies or hangs of other orders. <c>deep</c>: a violation when run again,
    /// of any exit for CPUID.
    /// </summary>
    public static Func<ReadOnlySpan<byte>, Span<byte>, bool, string?>? Open(string target, string[] plugins)
    {
        if (target is not ("order" or "deaths" or "deep"))
        {
            return null;
        }

        ByteTarget opened = new(new Orders(target));
        return (bytes, features, deep) => (deep ? opened.RunDeep() : opened.Run(bytes, features))?.ToString();
    }

    private sealed class Orders(string name) : IFuzzExecutor
    {
        public FuzzTarget Target => FuzzTarget.ExitHandlers;

        public FeatureMap Features { get; } = new();

        public Execution Run(FuzzInput input)
        {
            Features.Clear();
            int step = 0;
            foreach (MadeExit made in input.Exits)
            {
                Features.Add(made.Exit.Reason);
                step = Step(step, made.Exit.Reason, made.Exit.Qualification);
            }

            Violation? violation = step == 2 && name != "deep" ? new Violation("planted", "order", "the order that must not be") : null;
            return new Execution(violation, (ulong)input.Exits.Count, 0);
        }

        public ulong Digest() => 0;

        public Violation? RunDeep(FuzzInput input) =>
            name == "deep" && input.Exits.Exists(static made => made.Exit.Reason == (uint)ExitReason.Cpuid) ? new Violation("planted", "deep", "not the same twice") : null;

        public Violation? Record(FuzzInput input, string path, FuzzOrigin origin) => null;

        public void Dispose()
        {
        }

        private int Step(int step, uint reason, ulong qualification)
        {
            if (step == 1)
            {
                if (reason == (uint)ExitReason.IoInstruction)
                {
                    return qualification >> 16 < 0x100 ? 2 : 1;
                }

                if (name == "deaths" && reason == (uint)ExitReason.Hlt)
                {
                    Environment.FailFast("planted death");
                }

                while (name == "deaths" && reason == (uint)ExitReason.Rdtsc)
                {
                }
            }

            return step == 2 ? 2 : reason == (uint)ExitReason.Cpuid ? 1 : 0;
        }
    }
}
