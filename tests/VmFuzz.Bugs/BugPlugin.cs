using System.Collections.Immutable;
using VmFuzz.Fuzzing;

namespace VmFuzz.Bugs;

/// <summary>The faults as targets, one each: <c>vmfuzz fuzz --plugin VmFuzz.Bugs.dll --target bug:CVE-2009-3722</c>.</summary>
public sealed class BugPlugin : IFuzzPlugin
{
    /// <inheritdoc/>
    public string Identity => $"VmFuzz.Bugs {typeof(BugPlugin).Assembly.GetName().Version?.ToString(3)}";

    /// <inheritdoc/>
    public ImmutableArray<FuzzTargetRow> Targets { get; } = [.. PlantedBugs.All.Select(static bug => bug.Row)];
}
