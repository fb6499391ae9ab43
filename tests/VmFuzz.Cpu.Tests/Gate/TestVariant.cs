using Iced.Intel;
using VmFuzz.Arch;

namespace VmFuzz.Cpu.Tests.Gate;

/// <summary>The instruction rows that the fixtures of this thread give their processors. Only the mutation gate changes them.</summary>
internal static class TestVariant
{
    private const ulong MostInstructions = 200_000;

    [ThreadStatic]
    private static InstructionTable? s_table;

    public static InstructionTable Instructions => s_table ?? InstructionTable.Default;

    /// <summary>Stops a processor whose code no longer ends; null outside of the gate.</summary>
    public static IBoundary? Guard => s_table is null ? null : new Limit();

    /// <summary>Runs something with other rows.</summary>
    public static void With(InstructionTable table, Action run)
    {
        s_table = table;
        try
        {
            run();
        }
        finally
        {
            s_table = null;
        }
    }

    /// <summary>The rows of this build, each of which tells what it executes.</summary>
    public static InstructionTable Recording(Action<Code> executed)
    {
        InstructionTable table = InstructionTable.Default;
        foreach (InstructionRow row in InstructionTable.Default.Rows)
        {
            table = table.With(row with
            {
                Handler = (Processor cpu, in Instruction ins) =>
                {
                    executed(ins.Code);
                    return row.Handler(cpu, ins);
                },
            });
        }

        return table;
    }

    private sealed class Limit : IBoundary
    {
        public bool OnBoundary(ulong retired, out ulong nextLimit)
        {
            nextLimit = MostInstructions;
            return retired < MostInstructions;
        }
    }
}
