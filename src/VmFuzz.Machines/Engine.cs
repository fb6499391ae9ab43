using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Kvm;
using VmFuzz.Vmx;

namespace VmFuzz.Machines;

/// <summary>The engine's identity, as traces carry it.</summary>
public static class Engine
{
    /// <summary>Changes whenever a fix changes guest-visible behaviour or digests.</summary>
    public const uint SemanticsVersion = 3;

    /// <summary>Version of the product.</summary>
    public static string Version { get; } = typeof(Engine).Assembly.GetName().Version?.ToString(3) ?? "0";

    /// <summary>Hash over the ids of all rows in force.</summary>
    public static ulong RowsHash { get; } = HashRows();

    private static ulong HashRows()
    {
        ulong hash = InstructionTable.Default.RowsHash;
        foreach (EntryCheck check in EntryChecks.Default.Rows)
        {
            hash = Text(hash, check.Id);
        }

        foreach (ExitRow row in ExitTable.Default.Rows)
        {
            hash = Text(hash, row.Id);
        }

        return hash;
    }

    private static ulong Text(ulong hash, string id)
    {
        foreach (char c in id)
        {
            hash = StateHash.Step(hash, c);
        }

        return hash;
    }
}
