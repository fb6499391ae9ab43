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

    // Operators whose answer does not depend on the order.
    private static readonly ImmutableArray<string> OrderFree =
        ["Any", "All", "Contains", "Count", "LongCount", "Sum", "Min", "Max", "ToHashSet", "ToDictionary"];

    // Equality of records, written by the compiler: never an answer that reaches a guest, and hash tables need it.
    private static bool IsEquality(MethodDefinition method) =>
        method.Name is "GetHashCode" or "Equals" or "PrintMembers" or "ToString";

    // An iterator, written by the compiler, asks whether the thread that made it enumerates it; here there is only one.
    private static bool IsIteratorCheck(MethodDefinition method, MemberReference member) =>
        member.Name == "get_CurrentManagedThreadId" && method.DeclaringType.Name.StartsWith('<');

    public static IEnumerable<string> FindBanned(AssemblyDefinition assembly, Layer layer)
    {
        if (layer.Ambient)
        {
            yield break;
        }

        foreach ((MethodDefinition method, MemberReference member) in References(assembly))
        {
            if (IsEquality(method) || IsIteratorCheck(method, member))
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
        }

        foreach (TypeDefinition type in assembly.MainModule.GetTypes())
        {
            foreach (MethodDefinition method in type.Methods.Where(static method => method.HasBody))
            {
                foreach (string line in LinqOverTables(method))
                {
                    yield return line;
                }
            }
        }
    }

    // LINQ hides the enumerator: a method that loads a table and calls an operator over elements of the table's type.
    private static IEnumerable<string> LinqOverTables(MethodDefinition method)
    {
        List<string> elements =
        [
            .. method.Body.Instructions.Select(instruction => Loaded(method, instruction)).Select(ElementOfTable).OfType<string>(),
        ];
        foreach (Instruction instruction in method.Body.Instructions)
        {
            if (instruction.Operand is not GenericInstanceMethod { DeclaringType.FullName: "System.Linq.Enumerable" } call
                || !elements.Contains(call.GenericArguments[0].FullName, StringComparer.Ordinal))
            {
                continue;
            }

            if (call.Name.StartsWith("Order", StringComparison.Ordinal))
            {
                elements.RemoveAll(element => element == call.GenericArguments[0].FullName); // What follows is sorted.
            }
            else if (!OrderFree.Contains(call.Name, StringComparer.Ordinal))
            {
                yield return $"{Name(method)} uses Enumerable.{call.Name} over a hash table";
            }
        }
    }

    private static TypeReference? Loaded(MethodDefinition method, Instruction instruction) => instruction.Operand switch
    {
        FieldReference field => field.FieldType,
        MethodReference { Name: ".ctor" } made when instruction.OpCode.Code == Code.Newobj => made.DeclaringType,
        MethodReference { Name: "get_Keys" or "get_Values" } part when IsTable(part.DeclaringType) => part.ReturnType is GenericInstanceType result
            ? WithArguments(result, (GenericInstanceType)part.DeclaringType)
            : part.ReturnType,
        MethodReference call => call.ReturnType,
        ParameterDefinition parameter => parameter.ParameterType,
        VariableDefinition variable => variable.VariableType,
        _ => instruction.OpCode.Code switch
        {
            Code.Ldarg_0 => Argument(method, 0),
            Code.Ldarg_1 => Argument(method, 1),
            Code.Ldarg_2 => Argument(method, 2),
            Code.Ldarg_3 => Argument(method, 3),
            Code.Ldloc_0 => method.Body.Variables[0].VariableType,
            Code.Ldloc_1 => method.Body.Variables[1].VariableType,
            Code.Ldloc_2 => method.Body.Variables[2].VariableType,
            Code.Ldloc_3 => method.Body.Variables[3].VariableType,
            _ => null,
        },
    };

    private static TypeReference? Argument(MethodDefinition method, int index)
    {
        index -= method.HasThis ? 1 : 0;
        return index >= 0 && index < method.Parameters.Count ? method.Parameters[index].ParameterType : null;
    }

    private static GenericInstanceType WithArguments(GenericInstanceType open, GenericInstanceType owner)
    {
        var closed = new GenericInstanceType(open.ElementType);
        foreach (TypeReference argument in owner.GenericArguments)
        {
            closed.GenericArguments.Add(argument);
        }

        return closed;
    }

    private static bool IsTable(TypeReference type) => HashTables.Contains(type.GetElementType().FullName, StringComparer.Ordinal);

    private static string? ElementOfTable(TypeReference? type)
    {
        if (type is not GenericInstanceType table || !IsTable(table))
        {
            return null;
        }

        string name = table.ElementType.Name;
        return name switch
        {
            "KeyCollection" => table.GenericArguments[0].FullName,
            "ValueCollection" => table.GenericArguments[1].FullName,
            _ when table.GenericArguments.Count == 1 => table.GenericArguments[0].FullName,
            _ => $"System.Collections.Generic.KeyValuePair`2<{table.GenericArguments[0].FullName},{table.GenericArguments[1].FullName}>",
        };
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
