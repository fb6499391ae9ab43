using VmFuzz.Arch;
using VmFuzz.Cpu;

namespace VmFuzz.Machines;

/// <summary>The engine's identity, as traces carry it.</summary>
public static class Engine
{
    /// <summary>Changes whenever a fix changes guest-visible behaviour or digests.</summary>
    public const uint SemanticsVersion = 1;

    /// <summary>Version of the product.</summary>
    public static string Version { get; } = typeof(Engine).Assembly.GetName().Version?.ToString(3) ?? "0";

    /// <summary>Hash over the ids of all rows in force.</summary>
    public static ulong RowsHash { get; } = HashRows();

    private static ulong HashRows()
    {
        ulong hash = 0;
        foreach (InstructionRow row in InstructionTable.Default.Rows)
        {
            hash = StateHash.Step(hash, ((ulong)row.Mnemonic << 16) | (ulong)row.Form);
        }

        return hash;
    }
}
