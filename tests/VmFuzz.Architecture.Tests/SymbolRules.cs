using System.Collections.Immutable;
using Mono.Cecil;
using Mono.Cecil.Cil;

namespace VmFuzz.Architecture.Tests;

/// <summary>Law 3 on the IL: what the analyzer cannot see (generated code, <c>foreach</c> over hash tables) included.</summary>
internal static class SymbolRules
{
    private static readonly ImmutableArray<string> BannedTypes =
    [
        "System.DateTime", "System.DateTimeOffset", "System.DateOnly", "System.TimeOnly", "System.TimeProvider",
        "System.Diagnostics.Stopwatch", "System.Random", "System.Guid", "System.Environment", "System.HashCode",
        "System.Security.Cryptography.RandomNumberGenerator", "System.Threading.Thread", "System.Threading.ThreadPool",
        "System.Threading.Timer", "System.Threading.PeriodicTimer", "System.Timers.Timer",
        "System.Threading.Tasks.Task", "System.Threading.Tasks.Task`1", "System.Threading.Tasks.ValueTask",
        "System.Threading.Tasks.ValueTask`1", "System.Threading.Tasks.Parallel", "System.Threading.Tasks.TaskFactory",
        "System.Threading.ThreadLocal`1", "System.Threading.AsyncLocal`1", "System.ThreadStaticAttribute",
    ];

    private static readonly ImmutableArray<string> BannedMethods =
    [
        "System.Object::GetHashCode", "System.String::GetHashCode", "System.ValueType::GetHashCode",
        "System.Globalization.CultureInfo::get_CurrentCulture", "System.Globalization.CultureInfo::get_CurrentUICulture",
        "System.Runtime.CompilerServices.RuntimeHelpers::GetHashCode",
        "System.GC::GetTotalMemory", "System.GC::CollectionCount",
    ];

    private static readonly ImmutableArray<string> HashTables =
    [
        "System.Collections.Generic.Dictionary`2", "System.Collections.Generic.HashSet`1",
        "System.Collections.Generic.Dictionary`2/KeyCollection", "System.Collections.Generic.Dictionary`2/ValueCollection",
        "System.Collections.Concurrent.ConcurrentDictionary`2", "System.Collections.Hashtable",
        "System.Collections.Immutable.ImmutableDictionary`2", "System.Collections.Immutable.ImmutableHashSet`1",
        "System.Collections.Frozen.FrozenDictionary`2", "System.Collections.Frozen.FrozenSet`1",
    ];

    // Equality of records, written by the compiler: never an answer that reaches a guest, and hash tables need it.
    private static bool IsEquality(MethodDefinition method) =>
        method.Name is "GetHashCode" or "Equals" or "PrintMembers" or "ToString";

    public static IEnumerable<string> FindBanned(AssemblyDefinition assembly, Layer layer)
    {
        if (layer.Ambient)
        {
            yield break;
        }

        foreach ((MethodDefinition method, MemberReference member) in References(assembly))
        {
            if (IsEquality(method))
            {
                continue;
            }

            TypeReference type = (member as TypeReference ?? member.DeclaringType).GetElementType();
            string name = $"{type.FullName}::{member.Name}";
            if (BannedTypes.Contains(type.FullName, StringComparer.Ordinal) || BannedMethods.Contains(name, StringComparer.Ordinal))
            {
                yield return $"{Name(method)} uses {name}";
            }
        }

        foreach (TypeDefinition type in assembly.MainModule.GetTypes())
        {
            foreach (FieldDefinition field in type.Fields)
            {
                if (BannedTypes.Contains(field.FieldType.GetElementType().FullName, StringComparer.Ordinal))
                {
                    yield return $"{type.FullName}::{field.Name} is a {field.FieldType.FullName}";
                }
            }
        }
    }

    public static IEnumerable<string> FindHashOrder(AssemblyDefinition assembly, Layer layer)
    {
        if (layer.Ambient)
        {
            yield break;
        }

        foreach ((MethodDefinition method, MemberReference member) in References(assembly))
        {
            if (member is MethodReference { Name: "GetEnumerator" } && HashTables.Contains(member.DeclaringType.GetElementType().FullName, StringComparer.Ordinal))
            {
                yield return $"{Name(method)} goes through a {member.DeclaringType.FullName} in hash order";
            }

            // LINQ over a hash table: the table is the value under conversion, and the call names its element type.
            if (member is MethodReference { DeclaringType.FullName: "System.Linq.Enumerable" } linq
                && linq is GenericInstanceMethod { GenericArguments.Count: > 0 } instance
                && instance.GenericArguments[0].GetElementType().FullName == "System.Collections.Generic.KeyValuePair`2")
            {
                yield return $"{Name(method)} uses Enumerable.{linq.Name} over the pairs of a table";
            }
        }
    }

    private static string Name(MethodDefinition method) => $"{method.DeclaringType.FullName}::{method.Name}";

    private static IEnumerable<(MethodDefinition Method, MemberReference Member)> References(AssemblyDefinition assembly)
    {
        foreach (TypeDefinition type in assembly.MainModule.GetTypes())
        {
            foreach (MethodDefinition method in type.Methods)
            {
                if (!method.HasBody)
                {
                    continue;
                }

                foreach (Instruction instruction in method.Body.Instructions)
                {
                    if (instruction.Operand is MemberReference member && (member is TypeReference || member.DeclaringType is not null))
                    {
                        yield return (method, member);
                    }
                }
            }
        }
    }
}
