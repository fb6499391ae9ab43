using VmFuzz.Fuzzing;
using VmFuzz.Kvm;

namespace VmFuzz.Bugs.Tests;

public class PlantedBugTests
{
    public static TheoryData<string> Ids() => [.. PlantedBugs.All.Select(static bug => bug.Id)];

    [Fact]
    public void Table_IdsAreUnique_AndEachHasAScene()
    {
        string[] ids = [.. PlantedBugs.All.Select(static bug => bug.Id)];
        Assert.Equal(ids.Length, ids.Distinct(StringComparer.Ordinal).Count());
        Assert.Equal(ids.Order(StringComparer.Ordinal), Scenes.All.Select(static scene => scene.Id).Order(StringComparer.Ordinal));
        Assert.True(ids.Length >= 18);
        Assert.True(PlantedBugs.All.Count(static bug => bug.MinExits >= 2) >= 2);
    }

    [Theory]
    [MemberData(nameof(Ids))]
    public void Fault_AgainstTheProduct_IsSeen(string id)
    {
        PlantedBug bug = PlantedBugs.Find(id)!;
        Scene scene = Scenes.All.Single(s => s.Id == id);
        string correct = Observe(scene, static o => o);
        string faulty = Observe(scene, bug.Plant);
        Assert.Contains(scene.Correct, correct, StringComparison.Ordinal);
        Assert.Contains(scene.Faulty, faulty, StringComparison.Ordinal);
        Assert.NotEqual(correct, faulty, StringComparer.Ordinal);
    }

    // Every other scene runs as on the product: a fault is that fault and nothing else.
    [Theory]
    [MemberData(nameof(Ids))]
    public void Fault_InTheScenesOfOthers_ChangesNothing(string id)
    {
        PlantedBug bug = PlantedBugs.Find(id)!;
        foreach (Scene scene in Scenes.All.Where(s => s.Id != id))
        {
            Assert.Equal(Observe(scene, static o => o), Observe(scene, bug.Plant));
        }
    }

    [Fact]
    public void Plugin_OffersEachFaultAsATarget()
    {
        IFuzzPlugin plugin = new BugPlugin();
        Assert.Equal(PlantedBugs.All.Length, plugin.Targets.Length);
        Assert.All(plugin.Targets, static row => Assert.StartsWith("bug:", row.Name, StringComparison.Ordinal));
        Assert.StartsWith("VmFuzz.Bugs ", plugin.Identity, StringComparison.Ordinal);
    }

    private static string Observe(Scene scene, Func<VmOptions, VmOptions> plant)
    {
        try
        {
            return scene.Run(plant);
        }
        catch (IndexOutOfRangeException exception)
        {
            return exception.GetType().Name;
        }
    }
}
