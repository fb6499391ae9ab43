using System.Collections.Immutable;
using VmFuzz.Machines;

namespace VmFuzz.Fuzzing;

/// <summary>
/// Traces of the fuzzer's runs. The input is part of the start state: an image with the role
/// <see cref="MachineImage.InputRole"/> holds its encoding.
/// </summary>
public static class FuzzTraces
{
    /// <summary>The options of a run of an input, with the input as an image.</summary>
    /// <param name="options">From <see cref="FuzzLayout.Options"/>.</param>
    /// <param name="input">The input; brought into its canonical form.</param>
    public static MachineOptions With(MachineOptions options, FuzzInput input)
    {
        ArgumentNullException.ThrowIfNull(options);
        ImmutableArray<MachineImage> images = [.. options.Images, new MachineImage(MachineImage.InputRole, "input", FuzzCodec.Encode(input))];
        return options with { Images = images };
    }

    /// <summary>Variants that make a machine start where the fuzzer's run of the options' input started.</summary>
    /// <param name="options">Options of a trace.</param>
    /// <returns>Nothing is replaced when the options hold no input.</returns>
    public static MachineVariants Variants(MachineOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        return Variants(options, MachineVariants.None);
    }

    /// <summary>The same on top of replaced rows.</summary>
    /// <param name="options">Options of a trace.</param>
    /// <param name="variants">Rows under test.</param>
    public static MachineVariants Variants(MachineOptions options, MachineVariants variants)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(variants);
        if (options.Image(MachineImage.InputRole) is not { } image)
        {
            return variants;
        }

        FuzzInput input = new();
        FuzzCodec.Decode(image.Bytes.Span, input);
        Action<Machine>? prepare = variants.Prepare;
        return variants with
        {
            Prepare = machine =>
            {
                FuzzLayout.Prepare(machine);
                prepare?.Invoke(machine);
                FuzzStartRow.Of(input.Target).Apply(machine, input);
            },
        };
    }
}

/// <summary>How inputs of a target become a start state. Made exits add their stand-in here.</summary>
/// <param name="Target">The target.</param>
/// <param name="Apply">Gives a machine behind <see cref="FuzzLayout.Prepare"/> the start state.</param>
internal sealed record FuzzStartRow(FuzzTarget Target, Action<Machine, FuzzInput> Apply)
{
    private static readonly ImmutableArray<FuzzStartRow> Rows =
    [
        new(FuzzTarget.GuestCode, FuzzStart.Apply),
        new(FuzzTarget.ExitHandlers, FuzzStart.Apply),
        new(FuzzTarget.VmcsEntry, FuzzStart.Apply),
    ];

    /// <summary>The row of a target.</summary>
    public static FuzzStartRow Of(FuzzTarget target) => Rows[Rows.Select(static r => r.Target).ToList().IndexOf(target)];
}
