using System.Collections.Immutable;

namespace VmFuzz.Coverage;

/// <summary>Which assemblies get probes, which are loaded beside them, and where the files are.</summary>
/// <param name="Files">Path of each assembly by simple name.</param>
/// <param name="Instrumented">Names to instrument, in the order of the options.</param>
/// <param name="Private">Names that the context loads itself: the instrumented ones and all that bind to them.</param>
internal sealed record LoadPlan(
    ImmutableSortedDictionary<string, string> Files,
    ImmutableArray<string> Instrumented,
    ImmutableSortedSet<string> Private)
{
    public static CoverageError? Make(CoverageLoaderOptions options, out LoadPlan plan)
    {
        plan = null!;
        var files = new SortedDictionary<string, string>(StringComparer.Ordinal);
        var references = new SortedDictionary<string, ImmutableArray<string>>(StringComparer.Ordinal);
        foreach (string path in options.Files)
        {
            if (!File.Exists(path))
            {
                return new CoverageError(CoverageErrorKind.NotFound, $"{path} does not exist");
            }

            if (Add(path) is { } error)
            {
                return error with { Message = $"{path}: {error.Message}" };
            }
        }

        foreach (string folder in options.Folders)
        {
            if (!Directory.Exists(folder))
            {
                return new CoverageError(CoverageErrorKind.NotFound, $"the folder {folder} does not exist");
            }

            string[] paths = Directory.GetFiles(folder, "*.dll");
            Array.Sort(paths, StringComparer.Ordinal);
            foreach (string path in paths)
            {
                Add(path); // Native libraries lie there too: what is no assembly is none of ours.
            }
        }

        foreach (string name in options.Instrumented)
        {
            if (!files.ContainsKey(name))
            {
                return new CoverageError(CoverageErrorKind.NotFound, $"there is no assembly {name} in the folders");
            }

            if (CoverageLoader.Shared.Contains(name, StringComparer.Ordinal))
            {
                return new CoverageError(CoverageErrorKind.NotAllowed, $"{name} stays in the default context and is never instrumented");
            }
        }

        ImmutableSortedSet<string> closure = Close(options.Instrumented, references);
        foreach (string name in CoverageLoader.Shared)
        {
            if (closure.Contains(name))
            {
                return new CoverageError(CoverageErrorKind.NotAllowed, $"{name} stays in the default context but binds to an instrumented assembly");
            }
        }

        plan = new LoadPlan(ImmutableSortedDictionary.CreateRange(StringComparer.Ordinal, files), [.. options.Instrumented.Distinct(StringComparer.Ordinal)], closure);
        return null;

        CoverageError? Add(string path)
        {
            try
            {
                using FileStream stream = File.OpenRead(path);
                CoverageError? error = ImageFacts.Read(stream, out ImageFacts facts, ilOnly: false);
                if (error is null && files.TryAdd(facts.Name, Path.GetFullPath(path)))
                {
                    references.Add(facts.Name, facts.References);
                }

                return error;
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                return new CoverageError(CoverageErrorKind.NotFound, e.Message);
            }
        }
    }

    // Everything that refers to a member becomes a member, until nothing does.
    private static ImmutableSortedSet<string> Close(ImmutableArray<string> names, SortedDictionary<string, ImmutableArray<string>> references)
    {
        var members = new SortedSet<string>(names, StringComparer.Ordinal);
        bool grown = true;
        while (grown)
        {
            grown = false;
            foreach ((string name, ImmutableArray<string> uses) in references)
            {
                if (!members.Contains(name) && members.Overlaps(uses))
                {
                    members.Add(name);
                    grown = true;
                }
            }
        }

        return members.ToImmutableSortedSet(StringComparer.Ordinal);
    }
}
