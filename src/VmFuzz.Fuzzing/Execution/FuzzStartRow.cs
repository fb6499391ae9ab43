using System.Collections.Immutable;
using VmFuzz.Machines;

namespace VmFuzz.Fuzzing;

/// <summary>The machine that runs inputs of a kind, and how an input becomes its start state.</summary>
/// <param name="Target">The kind of inputs.</param>
/// <param name="MostInstructions">Instructions after which a run ends.</param>
/// <param name="Apply">Gives a machine behind <see cref="FuzzLayout.Prepare"/> the start state.</param>
/// <remarks>
/// VMCS inputs have no row: they are entered on a bare VT-x unit of any capabilities, without a machine, a door or a run
/// path whose events a trace could hold.
/// </remarks>
internal sealed record FuzzStartRow(FuzzTarget Target, ulong MostInstructions, Action<Machine, FuzzInput> Apply)
{
    private static readonly ImmutableArray<FuzzStartRow> Rows =
    [
        new(FuzzTarget.GuestCode, GuestCodeExecutor.MostInstructions, FuzzStart.Apply),
        new(FuzzTarget.ExitHandlers, ExitHandlersExecutor.MostInstructions, static (machine, input) =>
        {
            FuzzStart.Apply(machine, input);
            new MadeExitPlayer(machine).Load(input.Exits);
        }),
    ];

    /// <summary>The row of a kind; null when no machine runs it.</summary>
    public static FuzzStartRow? Find(FuzzTarget target) => Rows.FirstOrDefault(row => row.Target == target);

    /// <summary>The options of the machine that runs an input under the hypervisor.</summary>
    public MachineOptions Options(FuzzInput input) => FuzzLayout.Options(input.Mode, Accelerator.Kvm, MostInstructions);

    /// <summary>Variants that make a machine start where an input starts.</summary>
    /// <param name="input">The input.</param>
    /// <param name="variants">Rows under test.</param>
    public MachineVariants Variants(FuzzInput input, MachineVariants variants)
    {
        Action<Machine>? prepare = variants.Prepare;
        return variants with
        {
            Prepare = machine =>
            {
                FuzzLayout.Prepare(machine);
                prepare?.Invoke(machine);
                Apply(machine, input);
            },
        };
    }
}
