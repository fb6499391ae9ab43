using System.Collections.Immutable;
using VmFuzz.Bugs.Planted;

namespace VmFuzz.Bugs;

/// <summary>The table of planted faults.</summary>
internal static class PlantedBugs
{
    /// <summary>All of them, by theme.</summary>
    public static ImmutableArray<PlantedBug> All { get; } = [.. HandlerBugs.Rows, .. RetireBugs.Rows, .. EmulatorBugs.Rows, .. RunPathBugs.Rows];

    /// <summary>A fault by its id, whatever the case of its letters.</summary>
    public static PlantedBug? Find(string id) => All.FirstOrDefault(bug => string.Equals(bug.Id, id, StringComparison.OrdinalIgnoreCase));
}
