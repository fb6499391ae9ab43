using Iced.Intel;
using VmFuzz.Arch;
using VmFuzz.Cpu;

namespace VmFuzz.Cli.Lockstep;

/// <summary>What one instruction did on both sides, where that differs.</summary>
/// <param name="Facts">The instruction.</param>
/// <param name="Before">The registers before it, on which both agree.</param>
/// <param name="Model">VmFuzz's behind it.</param>
/// <param name="Unicorn">Unicorn's behind it.</param>
/// <param name="Flags">Flags that the architecture defines here.</param>
/// <param name="ModelEnd">How VmFuzz ended it: "retired", or an exception.</param>
/// <param name="UnicornEnd">How Unicorn did.</param>
/// <param name="Memory">First address at which their memory differs; null when it does not.</param>
internal sealed record LockstepCase(
    InstructionFacts Facts,
    RegisterImage Before,
    RegisterImage Model,
    RegisterImage Unicorn,
    ulong Flags,
    string ModelEnd,
    string UnicornEnd,
    ulong? Memory)
{
    /// <summary>What an instruction that completed is called.</summary>
    public const string Retired = "retired";

    /// <summary>Registers that differ, one bit each (see <see cref="RegisterImage"/>); 0 when the ends differ already.</summary>
    public uint Registers => Model.Rip == Unicorn.Rip || ModelEnd == UnicornEnd ? RegisterImage.Differences(Model, Unicorn, Flags) : 0;

    /// <summary>Defined flags that differ.</summary>
    public ulong FlagsDiffering => (Model.Flags ^ Unicorn.Flags) & Flags;

    /// <summary>Whether both completed it, with the same memory, and only these flags differ.</summary>
    public bool OnlyFlags(ulong flags) =>
        ModelEnd == UnicornEnd && Memory is null && Registers == 1U << RegisterImage.FlagsWord && (FlagsDiffering & ~flags) == 0;

    /// <summary>Whether both completed it, with the same memory, and only its first operand, a register, differs, and some of these flags.</summary>
    public bool OnlyDestination(ulong flags) =>
        ModelEnd == UnicornEnd && Memory is null && Facts.Instruction.Op0Kind == OpKind.Register
        && (Registers & ~(1U << RegisterImage.FlagsWord)) == 1U << (Facts.Instruction.Op0Register.GetFullRegister() - Iced.Intel.Register.RAX)
        && (FlagsDiffering & ~flags) == 0;

    /// <summary>Whether both completed it, with the same memory and flags, and only this register differs.</summary>
    public bool OnlyRegister(Gpr register) => ModelEnd == UnicornEnd && Memory is null && Registers == 1U << (int)register;

    /// <summary>Bits of the instruction's first operand.</summary>
    public int Bits => Facts.Instruction.Op0Register.GetSize() * 8;

    /// <summary>A general register before the instruction, by an operand that names it.</summary>
    public ulong Register(int operand) => Before[Facts.Instruction.GetOpRegister(operand).GetFullRegister() - Iced.Intel.Register.RAX];

    /// <summary>Whether VmFuzz completed what Unicorn raises an exception at.</summary>
    public bool OnlyUnicornRaises(int vector) => ModelEnd == Retired && UnicornEnd == Exception(vector);

    /// <summary>The name of an end by an exception.</summary>
    public static string Exception(int vector) => $"exception {vector}";

    /// <summary>The name of an end by a page fault.</summary>
    public static string PageFault(ulong address) => $"exception {Vector.Pf} for {address:x}";

    /// <summary>Whether two ends are the same: of a page fault, Unicorn does not always say the address.</summary>
    public static bool SameEnd(string model, string unicorn) =>
        model == unicorn || (unicorn == Exception(Vector.Pf) && model.StartsWith(unicorn + " ", StringComparison.Ordinal));

    /// <summary>The name of VmFuzz's end.</summary>
    public static string EndOf(CpuStop stop, Processor processor) => stop switch
    {
        CpuStop.Requested => Retired,
        CpuStop.Event when processor.ReportedEvent is { Vector: Vector.Pf } fault => PageFault(fault.Address),
        CpuStop.Event => Exception(processor.ReportedEvent.Vector),
        CpuStop.Unimplemented => $"not modelled: {processor.UnimplementedText}",
        _ => stop.ToString().ToLowerInvariant(),
    };
}
