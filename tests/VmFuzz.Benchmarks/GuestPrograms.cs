using VmFuzz.Fuzzing;
using VmFuzz.Machines;

namespace VmFuzz.Benchmarks;

/// <summary>Guest programs of a hundred instructions through the fuzzer's executor: reset, load, run, features.</summary>
internal static class GuestPrograms
{
    private const int Programs = 2000;

    /// <summary>Runs programs whose code differs from one to the next.</summary>
    /// <param name="changing">False runs the same program again and again.</param>
    public static Func<long> Create(bool changing)
    {
        var executor = new GuestCodeExecutor(MachineVariants.None);
        FuzzInput input = new() { Target = FuzzTarget.GuestCode, Mode = FlatMode.Long64 };
        // add rax, imm32 and its like: 96 of them, three CPUID, CLI; HLT stands behind.
        for (int i = 0; i < 96; i++)
        {
            input.Code.AddRange([0x48, 0x05, (byte)i, 0, 0, 0]);
        }

        input.Code.AddRange([0x0F, 0xA2, 0x0F, 0xA2, 0x0F, 0xA2]);
        input.Normalise();
        uint number = 0;
        return () =>
        {
            for (int i = 0; i < Programs; i++)
            {
                if (changing)
                {
                    number++;
                    input.Code[((int)(number % 96) * 6) + 2] = (byte)number;
                }

                if (executor.Run(input).Violation is { } violation)
                {
                    throw new InvalidOperationException(violation.ToString());
                }
            }

            return Programs;
        };
    }
}
