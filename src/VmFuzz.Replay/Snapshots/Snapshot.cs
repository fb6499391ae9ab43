using VmFuzz.Machines;
using VmFuzz.Trace;

namespace VmFuzz.Replay.Snapshots;

/// <summary>
/// Machines saved in the middle of a run. The file is a trace without events: header, images, and as one image more the state
/// (role <see cref="MachineImage.SnapshotRole"/>); so all that protects traces protects it, and a run that goes on from it has
/// it among its images.
/// </summary>
public static class Snapshot
{
    /// <summary>What made the file, in its header.</summary>
    public const string Source = "snapshot";

    /// <summary>Saves a machine that was paused (<see cref="Machine.PauseAt"/>).</summary>
    /// <param name="machine">The machine.</param>
    /// <param name="path">The file.</param>
    /// <param name="overwrite">Whether an existing file is replaced.</param>
    /// <returns>Bytes of the file.</returns>
    /// <exception cref="TraceFileException">The file cannot be written, or the state is too large.</exception>
    public static long Save(Machine machine, string path, bool overwrite = false)
    {
        ArgumentNullException.ThrowIfNull(machine);
        MachineOptions options = OptionsOf(machine);
        using TraceWriter writer = TraceWriter.Create(path, TraceHeaders.Of(options, Source), overwrite);
        return Write(machine, options, writer);
    }

    /// <summary>Saves a machine that was paused, as bytes.</summary>
    public static byte[] Save(Machine machine)
    {
        ArgumentNullException.ThrowIfNull(machine);
        using var stream = new MemoryStream();
        MachineOptions options = OptionsOf(machine);
        using (var writer = new TraceWriter(stream, TraceHeaders.Of(options, Source), leaveOpen: true))
        {
            Write(machine, options, writer);
        }

        return stream.ToArray();
    }

    /// <summary>The options of a machine that goes on from a snapshot, the state among their images.</summary>
    /// <param name="reader">The opened file.</param>
    /// <param name="options">The options, when the result is null.</param>
    /// <returns>What is wrong, in one line that says what to do; or null.</returns>
    public static string? TryOptions(TraceReader reader, out MachineOptions options)
    {
        ArgumentNullException.ThrowIfNull(reader);
        options = new MachineOptions();
        if (reader.Header is not { } header || !reader.Status.IsWhole)
        {
            return $"not a snapshot: {reader.Status}";
        }

        if (header.Source != Source)
        {
            return "a trace, not a snapshot; make one of it with 'vmfuzz snapshot'";
        }

        string? wrong = TraceHeaders.TryMachine(reader, compareOnly: false, out options);
        return wrong ?? (options.Image(MachineImage.SnapshotRole) is null ? "the snapshot holds no state" : null);
    }

    /// <summary>Variants that put a machine into the state among its options' images; the same as given when there is none.</summary>
    /// <param name="options">The machine's options.</param>
    /// <param name="variants">What else is replaced; null for nothing.</param>
    public static MachineVariants? Variants(MachineOptions options, MachineVariants? variants = null)
    {
        ArgumentNullException.ThrowIfNull(options);
        if (options.Image(MachineImage.SnapshotRole) is not { } image)
        {
            return variants;
        }

        Action<Machine>? before = variants?.Prepare;
        return (variants ?? MachineVariants.None) with
        {
            Prepare = machine =>
            {
                before?.Invoke(machine);
                StateImage.Restore(image.Bytes.Span, machine);
            },
        };
    }

    // What ends a run is the next run's own choice.
    private static MachineOptions OptionsOf(Machine machine)
    {
        var state = new MachineImage(MachineImage.SnapshotRole, $"state after {machine.Processor.Retired} instructions", StateImage.Encode(machine));
        return machine.Options with
        {
            UntilSerial = "",
            MaxInstructions = 0,
            Images = [.. machine.Options.Images.Where(static i => i.Role != MachineImage.SnapshotRole), state],
        };
    }

    private static long Write(Machine machine, MachineOptions options, TraceWriter writer)
    {
        foreach (MachineImage image in options.Images)
        {
            writer.AddBlob(image.Bytes.Span);
        }

        var end = new TraceEvent();
        end.Clear(TraceEventKind.End);
        end.Retired = machine.Processor.Retired;
        end.SetText(machine.Stop.Kind == MachineStopKind.None ? "the machine has not run" : machine.Stop.Text);
        writer.Finish(end);
        return writer.Length;
    }
}
