using System.Collections.Immutable;
using VmFuzz.Machines;
using VmFuzz.Replay;
using VmFuzz.Trace;

namespace VmFuzz.Fuzzing;

/// <summary>What a trace of a fuzzer's run says about where it came from.</summary>
/// <param name="Target">Name of the target's row, whose replaced rows the run had.</param>
/// <param name="Plugins">Name and version of each plug-in.</param>
public sealed record FuzzOrigin(string Target, ImmutableArray<string> Plugins)
{
    /// <summary>A built-in target.</summary>
    public static FuzzOrigin Of(FuzzTarget kind) => new(FuzzTargetRow.BuiltIn.First(row => row.Kind == kind).Name, []);
}

/// <summary>
/// Traces of the fuzzer's runs. The input is part of the start state: an image with the role
/// <see cref="MachineImage.InputRole"/> holds its encoding, and has the target's name.
/// </summary>
public static class FuzzTraces
{
    /// <summary>The options of a run of an input, with the input as an image.</summary>
    /// <param name="input">The input; brought into its canonical form.</param>
    /// <param name="target">Name of the target's row.</param>
    /// <exception cref="ArgumentException">Runs of inputs of this kind are not run by a machine.</exception>
    public static MachineOptions Options(FuzzInput input, string target)
    {
        ArgumentNullException.ThrowIfNull(input);
        FuzzStartRow start = FuzzStartRow.Find(input.Target)
            ?? throw new ArgumentException($"There are no traces of inputs of kind {input.Target}.", nameof(input));
        MachineOptions options = start.Options(input);
        return options with { Images = [.. options.Images, new MachineImage(MachineImage.InputRole, target, FuzzCodec.Encode(input))] };
    }

    /// <summary>Finds the variants that make a machine start where the fuzzer's run of the options' input started.</summary>
    /// <param name="options">Options of a trace: nothing about them is trusted.</param>
    /// <param name="targets">The targets that there are.</param>
    /// <param name="compareOnly">When the target is not there, take the product's own of the same kind.</param>
    /// <param name="variants">The variants; nothing is replaced when the options hold no input.</param>
    /// <returns>What is wrong, in one line that says what to do; or null.</returns>
    public static string? TryVariants(MachineOptions options, IReadOnlyCollection<FuzzTargetRow> targets, bool compareOnly, out MachineVariants variants)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(targets);
        variants = MachineVariants.None;
        if (options.Image(MachineImage.InputRole) is not { } image)
        {
            return null;
        }

        FuzzInput input = FuzzCodec.Decode(image.Bytes.Span);
        FuzzTargetRow? target = targets.FirstOrDefault(row => row.Name == image.Name)
            ?? (compareOnly ? FuzzTargetRow.BuiltIn.FirstOrDefault(row => row.Kind == input.Target) : null);
        if (target is null)
        {
            return $"the run is one of the target '{image.Name}', which is not here; give its plug-in with --plugin";
        }

        if (target.Kind != input.Target || FuzzStartRow.Find(input.Target) is not { } start || !IsMachineOf(options, start.Options(input)))
        {
            return $"the machine or the input is not of the kind that the target '{target.Name}' runs; record again";
        }

        variants = start.Variants(input, target.Variants);
        return null;
    }

    /// <summary>Runs a machine that stands at the start of an input, and writes the trace.</summary>
    /// <param name="machine">The machine; made from <see cref="Options"/>.</param>
    /// <param name="also">Who else watches.</param>
    /// <param name="path">The trace's file.</param>
    /// <param name="origin">Where the run comes from.</param>
    internal static void Record(Machine machine, IMachineObserver also, string path, FuzzOrigin origin)
    {
        try
        {
            using var writer = TraceWriter.Create(path, TraceHeaders.Of(machine.Options, "fuzz", origin.Plugins));
            using var recorder = new Recorder(machine, writer);
            machine.Observe(new ObserverPair(recorder, also));
            machine.Run();
        }
        catch (NoProgressException)
        {
            // A replay would go round in the same loop.
            File.Delete(path);
            throw;
        }
    }

    private static bool IsMachineOf(MachineOptions options, MachineOptions wanted) =>
        MachineSettings.ToSettings(options).SequenceEqual(MachineSettings.ToSettings(wanted))
        && options.Images.Length == wanted.Images.Length + 1
        && wanted.Images.All(image => options.Image(image.Role) is { } given && given.Bytes.Span.SequenceEqual(image.Bytes.Span));
}
