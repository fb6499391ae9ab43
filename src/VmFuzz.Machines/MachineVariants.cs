using VmFuzz.Cpu;
using VmFuzz.Kvm;

namespace VmFuzz.Machines;

/// <summary>Rows that replace the product's own: a user's handlers, planted bugs, the mutation gate. A value.</summary>
public sealed record MachineVariants
{
    /// <summary>Nothing is replaced.</summary>
    public static MachineVariants None { get; } = new();

    /// <summary>Instruction rows; null for the default.</summary>
    public InstructionTable? Instructions { get; init; }

    /// <summary>
    /// Completes the start state of a new machine, before it is what <see cref="Machine.Reset"/> goes back to; null for
    /// nothing.
    /// </summary>
    public Action<Machine>? Prepare { get; init; }

    /// <summary>Entry checks of the VT-x unit; null for the default.</summary>
    public Vmx.EntryChecks? Checks { get; init; }

    /// <summary>Changes the options of the VM (run path, exit table); null for the product's own.</summary>
    public Func<VmOptions, VmOptions>? Kvm { get; init; }
}
