using System.Collections.Immutable;
using Mono.Cecil;
using Mono.Cecil.Cil;

namespace VmFuzz.Architecture.Tests;

/// <summary>Each rule finds what it is there for, in an assembly made to break it, and nothing in one that keeps it.</summary>
public sealed class RuleTests
{
    /// <summary>Name of the made assembly.</summary>
    internal const string MadeName = "VmFuzz.Made";

    private static readonly Layer Made = new(MadeName, ["VmFuzz.Arch"], ["Iced"]);

    [Fact]
    public void Layers_ReferenceUpwards_IsFound()
    {
        Assert.Empty(LayerRules.Find(Make(static m => m.AssemblyReferences.Add(new AssemblyNameReference("VmFuzz.Arch", new Version(1, 0)))), Made));
        Assert.Empty(LayerRules.Find(Make(static m => m.AssemblyReferences.Add(new AssemblyNameReference("Iced", new Version(1, 0)))), Made));
        Assert.Single(LayerRules.Find(Make(static m => m.AssemblyReferences.Add(new AssemblyNameReference("VmFuzz.Cpu", new Version(1, 0)))), Made));
    }

    [Theory]
    [InlineData("Mono.Cecil")]
    [InlineData("FsCheck")]
    [InlineData("Spectre.Console")]
    [InlineData("System.CommandLine")]
    public void Layers_PackageOfAnotherLayer_IsFound(string package) =>
        Assert.Single(LayerRules.Find(Make(m => m.AssemblyReferences.Add(new AssemblyNameReference(package, new Version(1, 0)))), Made));

    [Theory]
    [InlineData(typeof(int), true)]
    [InlineData(typeof(string), true)]
    [InlineData(typeof(ImmutableArray<int>), true)]
    [InlineData(typeof(Func<List<int>, int>), true)]
    [InlineData(typeof(int[]), false)]
    [InlineData(typeof(List<int>), false)]
    [InlineData(typeof(Dictionary<int, int>), false)]
    [InlineData(typeof(ImmutableArray<int[]>), false)]
    [InlineData(typeof(object), false)]
    [InlineData(typeof(byte*), false)]
    public void Statics_ReadOnlyFieldOfAType_IsFoundWhenItCanChange(Type type, bool allowed)
    {
        string[] found = [.. StaticRules.Find(Make(m => AddField(m, "Field", m.ImportReference(type), FieldAttributes.Static | FieldAttributes.InitOnly)), Made)];
        Assert.Equal(allowed ? 0 : 1, found.Length);
    }

    [Fact]
    public void Statics_FieldThatIsNotReadOnly_IsFound() =>
        Assert.Contains("readonly", Assert.Single(StaticRules.Find(Make(static m => AddField(m, "Count", m.TypeSystem.Int32, FieldAttributes.Static)), Made)), StringComparison.Ordinal);

    [Fact]
    public void Statics_BackingFieldOfASettableProperty_IsFound() =>
        Assert.Single(StaticRules.Find(Make(static m => AddField(m, "<Mode>k__BackingField", m.TypeSystem.Int32, FieldAttributes.Static)), Made));

    [Fact]
    public void Statics_ReadOnlyObjectWithAMutableField_IsFound()
    {
        Assert.Single(StaticRules.Find(Make(static m => Hold(m, FieldAttributes.Public)), Made));
        Assert.Empty(StaticRules.Find(Make(static m => Hold(m, FieldAttributes.Public | FieldAttributes.InitOnly)), Made));

        static void Hold(ModuleDefinition module, FieldAttributes inner)
        {
            var box = new TypeDefinition("Made", "Box", TypeAttributes.Class | TypeAttributes.Sealed, module.TypeSystem.Object);
            box.Fields.Add(new FieldDefinition("Value", inner, module.TypeSystem.Int32));
            module.Types.Add(box);
            AddField(module, "TheBox", box, FieldAttributes.Static | FieldAttributes.InitOnly);
        }
    }

    [Fact]
    public void Statics_CacheOfALambda_IsNotFound() =>
        Assert.Empty(StaticRules.Find(
            Make(static m =>
            {
                var closure = new TypeDefinition("", "<>c", TypeAttributes.Class, m.TypeSystem.Object);
                closure.Fields.Add(new FieldDefinition("<>9__0", FieldAttributes.Static | FieldAttributes.Public, m.TypeSystem.Object));
                m.Types.Add(closure);
            }),
            Made));

    [Theory]
    [InlineData(typeof(DateTime), "get_Now")]
    [InlineData(typeof(Random), ".ctor")]
    [InlineData(typeof(Guid), "NewGuid")]
    [InlineData(typeof(Environment), "get_TickCount64")]
    [InlineData(typeof(System.Diagnostics.Stopwatch), "GetTimestamp")]
    [InlineData(typeof(Thread), "get_CurrentThread")]
    [InlineData(typeof(Task), "get_CompletedTask")]
    [InlineData(typeof(object), "GetHashCode")]
    [InlineData(typeof(string), "GetHashCode")]
    [InlineData(typeof(HashCode), "ToHashCode")]
    [InlineData(typeof(System.Security.Cryptography.RandomNumberGenerator), "Create")]
    [InlineData(typeof(System.Globalization.CultureInfo), "get_CurrentCulture")]
    public void Symbols_CallOfABannedMember_IsFound(Type type, string member)
    {
        Assert.NotEmpty(SymbolRules.FindBanned(Make(m => Call(m, "Run", type, member)), Made));
        Assert.Empty(SymbolRules.FindBanned(Make(m => Call(m, "Run", type, member)), Made with { Ambient = true }));
    }

    [Fact]
    public void Symbols_HashCodeInsideEqualityOfARecord_IsNotFound() =>
        Assert.Empty(SymbolRules.FindBanned(Make(static m => Call(m, "GetHashCode", typeof(object), "GetHashCode")), Made));

    [Fact]
    public void Symbols_CallOfAnotherMember_IsNotFound() =>
        Assert.Empty(SymbolRules.FindBanned(Make(static m => Call(m, "Run", typeof(string), "get_Length")), Made));

    [Theory]
    [InlineData(typeof(Dictionary<int, int>), true)]
    [InlineData(typeof(HashSet<int>), true)]
    [InlineData(typeof(Dictionary<int, int>.KeyCollection), true)]
    [InlineData(typeof(Dictionary<int, int>.ValueCollection), true)]
    [InlineData(typeof(List<int>), false)]
    [InlineData(typeof(SortedDictionary<int, int>), false)]
    public void HashOrder_EnumeratorOfACollection_IsFoundForHashTables(Type type, bool banned)
    {
        string[] found = [.. SymbolRules.FindHashOrder(Make(m => Call(m, "Run", type, "GetEnumerator")), Made)];
        Assert.Equal(banned, found.Length != 0);
    }

    [Fact]
    public void HashOrder_CompiledForeach_IsFound()
    {
        using AssemblyDefinition self = Assemblies.Read("VmFuzz.Architecture.Tests");
        Assert.Contains(
            SymbolRules.FindHashOrder(self, Made),
            static line => line.Contains(nameof(SumInHashOrder), StringComparison.Ordinal));
        Assert.Equal(3, SumInHashOrder(new Dictionary<int, int> { [1] = 2 }));
    }

    [Fact]
    public void HashOrder_CompiledLinq_IsFoundUnlessItSorts()
    {
        using AssemblyDefinition self = Assemblies.Read("VmFuzz.Architecture.Tests");
        string[] found = [.. SymbolRules.FindHashOrder(self, Made)];
        Assert.Contains(found, static line => line.Contains(nameof(FirstOfSet), StringComparison.Ordinal));
        Assert.Contains(found, static line => line.Contains(nameof(FirstOfKeys), StringComparison.Ordinal));
        Assert.DoesNotContain(found, static line => line.Contains(nameof(SmallestOfSet), StringComparison.Ordinal));
        Assert.Equal(4, FirstOfSet([4]));
        Assert.Equal(1, FirstOfKeys(new Dictionary<int, string> { [1] = "" }));
        Assert.Equal(4, SmallestOfSet([5, 4]));
    }

    private static int FirstOfSet(HashSet<int> set) => set.First();

    private static int FirstOfKeys(Dictionary<int, string> table) => table.Keys.First();

    private static int SmallestOfSet(HashSet<int> set) => set.Order().ToArray()[0];

    private static int SumInHashOrder(Dictionary<int, int> table)
    {
        int sum = 0;
        foreach (KeyValuePair<int, int> pair in table)
        {
            sum += pair.Key + pair.Value;
        }

        return sum;
    }

    private static AssemblyDefinition Make(Action<ModuleDefinition> fill)
    {
        var assembly = AssemblyDefinition.CreateAssembly(new AssemblyNameDefinition(MadeName, new Version(1, 0)), MadeName, ModuleKind.Dll);
        fill(assembly.MainModule);
        return assembly;
    }

    private static void AddField(ModuleDefinition module, string name, TypeReference type, FieldAttributes attributes)
    {
        var holder = new TypeDefinition("Made", "Holder", TypeAttributes.Class | TypeAttributes.Public, module.TypeSystem.Object);
        holder.Fields.Add(new FieldDefinition(name, attributes, type));
        module.Types.Add(holder);
    }

    private static void Call(ModuleDefinition module, string caller, Type type, string member)
    {
        System.Reflection.MethodBase target = type
            .GetMember(member, System.Reflection.BindingFlags.Public | System.Reflection.BindingFlags.Instance | System.Reflection.BindingFlags.Static)
            .OfType<System.Reflection.MethodBase>()
            .OrderBy(static m => m.GetParameters().Length)
            .First();
        var holder = new TypeDefinition("Made", "Caller", TypeAttributes.Class | TypeAttributes.Public, module.TypeSystem.Object);
        var method = new MethodDefinition(caller, MethodAttributes.Public | MethodAttributes.Static, module.TypeSystem.Void);
        ILProcessor il = method.Body.GetILProcessor();
        il.Emit(OpCodes.Call, module.ImportReference(target));
        il.Emit(OpCodes.Ret);
        holder.Methods.Add(method);
        module.Types.Add(holder);
    }
}
