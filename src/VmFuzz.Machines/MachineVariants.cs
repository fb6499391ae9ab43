using VmFuzz.Cpu;

namespace VmFuzz.Machines;

/// <summary>Rows that replace the product's own: a user's handlers, planted bugs, the mutation gate. A value.</summary>
public sealed record MachineVariants
{
    /// <summary>Nothing is replaced.</summary>
    public static MachineVariants None { get; } = new();

    /// <summary>Instruction rows; null for the default.</summary>
    public InstructionTable? Instructions { get; init; }
}
