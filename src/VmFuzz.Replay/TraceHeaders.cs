using System.Collections.Immutable;
using VmFuzz.Machines;
using VmFuzz.Replay.Snapshots;
using VmFuzz.Trace;

namespace VmFuzz.Replay;

/// <summary>Between a trace's header and the options of a machine.</summary>
public static class TraceHeaders
{
    /// <summary>The header of a recording.</summary>
    /// <param name="options">What the run starts from.</param>
    /// <param name="source">Kind of source, for people.</param>
    /// <param name="plugins">Name and version of each plug-in; empty or default for none.</param>
    public static TraceHeader Of(MachineOptions options, string source, ImmutableArray<string> plugins = default) => new()
    {
        EngineVersion = Engine.Version,
        SemanticsVersion = Engine.SemanticsVersion,
        RowsHash = Engine.RowsHash,
        Source = source,
        Plugins = plugins.IsDefault ? [] : plugins,
        Machine = [.. MachineSettings.ToSettings(options).Select(static s => new TraceSetting(s.Key, s.Value))],
        Blobs = [.. options.Images.Select(static i => TraceBlobReference.Of(i.Role, i.Name, i.Bytes.Span))],
    };

    /// <summary>Makes the options of a recorded run.</summary>
    /// <param name="reader">An opened trace.</param>
    /// <param name="compareOnly">Accept traces of another engine, to compare with them.</param>
    /// <param name="options">The options, when the result is null.</param>
    /// <param name="knowsInput">
    /// The caller makes the start state of traces that a fuzzer's input belongs to; others are told to leave them alone.
    /// </param>
    /// <param name="plugins">Name and version of each plug-in that is here; empty or default for none.</param>
    /// <returns>What is wrong, in one line that says what to do; or null.</returns>
    public static string? TryOptions(TraceReader reader, bool compareOnly, out MachineOptions options, bool knowsInput = false, ImmutableArray<string> plugins = default)
    {
        if (reader.Header is { Source: Snapshot.Source })
        {
            options = new MachineOptions();
            return "a snapshot has no events to replay; go on from it with 'vmfuzz run --from FILE'";
        }

        return TryMachine(reader, compareOnly, out options, knowsInput, plugins);
    }

    // The machine of a trace or of a snapshot.
    internal static string? TryMachine(TraceReader reader, bool compareOnly, out MachineOptions options, bool knowsInput = false, ImmutableArray<string> plugins = default)
    {
        options = new MachineOptions();
        if (reader.Header is not { } header)
        {
            return $"not a trace that can be replayed: {reader.Status}";
        }

        if (!compareOnly && header.SemanticsVersion != Engine.SemanticsVersion)
        {
            return $"recorded by an engine of semantics version {header.SemanticsVersion}, this one has {Engine.SemanticsVersion}; use --compare to run it all the same and see the first difference";
        }

        if (!compareOnly && header.RowsHash != Engine.RowsHash)
        {
            return "recorded by an engine with other rows; use --compare to run it all the same and see the first difference";
        }

        if (!compareOnly && !header.Plugins.AsSpan().SequenceEqual(plugins.AsSpan()))
        {
            return $"recorded with {(header.Plugins.Length == 0 ? "no plug-ins" : "the plug-ins " + string.Join(", ", header.Plugins))}; give the same with --plugin, or use --compare to run it all the same and see the first difference";
        }

        string? wrong = MachineSettings.FromSettings(header.Machine.Select(static s => KeyValuePair.Create(s.Key, s.Value)), out options);
        if (wrong is not null)
        {
            return wrong;
        }

        // Before any image is read: a header may name many, or large ones.
        for (int i = 0; i < reader.Blobs.Length; i++)
        {
            TraceBlobReference blob = reader.Blobs[i];
            int most = MachineImage.MaxBytesOf(blob.Role);
            if (blob.Length > most)
            {
                return $"the image {blob.Name} has {blob.Length} bytes; at most {most} can be loaded";
            }

            for (int j = 0; j < i; j++)
            {
                if (reader.Blobs[j].Role == blob.Role)
                {
                    return $"two images have the role '{blob.Role}'";
                }
            }

            if (blob.Role == MachineImage.InputRole && !knowsInput)
            {
                return "the run starts from a fuzzer's input, which is not known here; replay it with 'vmfuzz replay'";
            }

            if (!MachineImage.Roles.Contains(blob.Role, StringComparer.Ordinal))
            {
                return $"no machine knows the role '{blob.Role}' of the image {blob.Name}";
            }
        }

        var images = ImmutableArray.CreateBuilder<MachineImage>();
        foreach (TraceBlobReference blob in reader.Blobs)
        {
            byte[]? bytes = reader.ReadBlob(blob);
            if (bytes is null)
            {
                return $"the image {blob.Name} ({blob.Hash}) is not in the trace";
            }

            images.Add(new MachineImage(blob.Role, blob.Name, bytes));
        }

        options = options with { Images = images.ToImmutable() };
        return options.Validate();
    }
}
