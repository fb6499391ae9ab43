using VmFuzz.Fuzzing;
using VmFuzz.Kvm;
using VmFuzz.Machines;

namespace VmFuzz.Bugs;

/// <summary>A published fault of KVM, planted as a replaced row: a machine with it behaves as the correct one but for it.</summary>
/// <param name="Id">CVE number, or the abbreviated commit that repaired it, or the row of run-path.tsv that names it.</param>
/// <param name="Title">One line.</param>
/// <param name="Published">What was published about it, in this project's words.</param>
/// <param name="Reference">Where.</param>
/// <param name="Target">What finds it with the least.</param>
/// <param name="MinExits">VM exits without which nothing of it can be seen; where 2, one exit prepares what the next shows.</param>
/// <param name="Plant">Replaces the row.</param>
internal sealed record PlantedBug(
    string Id,
    string Title,
    string Published,
    string Reference,
    FuzzTarget Target,
    int MinExits,
    Func<VmOptions, VmOptions> Plant)
{
    /// <summary>Name of its target on the command line.</summary>
    public string TargetName => $"bug:{Id}";

    /// <summary>The machine with the fault.</summary>
    public MachineVariants Variants => new() { Kvm = Plant };

    /// <summary>The target that fuzzes the machine with the fault.</summary>
    public FuzzTargetRow Row => new(TargetName, Target, Title, Variants);

    /// <inheritdoc/>
    public override string ToString() => Id;
}
