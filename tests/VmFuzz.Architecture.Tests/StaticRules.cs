using System.Collections.Immutable;
using System.Runtime.CompilerServices;
using Mono.Cecil;

namespace VmFuzz.Architecture.Tests;

/// <summary>
/// Law 3, mutable statics: a static field is written once, by its type's initialiser, and holds something that cannot
/// change afterwards.
/// </summary>
internal static class StaticRules
{
    // Types of other assemblies that cannot change once made. Generic ones by their open name; their arguments are
    // looked at too.
    private static readonly ImmutableArray<string> ImmutableTypes =
    [
        "System.Boolean", "System.Byte", "System.SByte", "System.Int16", "System.UInt16", "System.Int32", "System.UInt32",
        "System.Int64", "System.UInt64", "System.Int128", "System.UInt128", "System.Char", "System.Single", "System.Double",
        "System.IntPtr", "System.UIntPtr", "System.String", "System.Type", "System.Range", "System.Index",
        "System.Nullable`1", "System.ValueTuple`1", "System.ValueTuple`2", "System.ValueTuple`3", "System.ValueTuple`4",
        "System.ValueTuple`5", "System.Collections.Generic.KeyValuePair`2",
        "System.Collections.Immutable.ImmutableArray`1", "System.Collections.Immutable.ImmutableList`1",
        "System.Collections.Immutable.ImmutableDictionary`2", "System.Collections.Immutable.ImmutableSortedDictionary`2",
        "System.Collections.Immutable.ImmutableHashSet`1", "System.Collections.Frozen.FrozenDictionary`2",
        "System.Collections.Frozen.FrozenSet`1", "System.Buffers.SearchValues`1",
        "System.Text.Encoding", "System.Text.UTF8Encoding", "System.Text.Json.JsonSerializerOptions",
        "System.Text.Json.JsonEncodedText",
        "System.Text.CompositeFormat", "System.Collections.Generic.EqualityComparer`1", "System.StringComparer",
        // A generator is a function of size and seed; facts about an instruction are only read.
        "FsCheck.Gen`1", "Iced.Intel.OpCodeInfo",
    ];

    /// <summary>Fields that stay although the rule does not see why they may: the field, and the reason.</summary>
    public static readonly ImmutableSortedDictionary<string, string> Allowed = ImmutableSortedDictionary.CreateRange(
        StringComparer.Ordinal,
        new Dictionary<string, string>(StringComparer.Ordinal)
        {
            ["VmFuzz.Coverage.CoverageMap::Shared"] = "The coverage map's address and size, settled at first use: the one static that law 3 exempts. The engine never reads it.",
            ["VmFuzz.Coverage.CoverageProbe::Map"] = "The coverage map's counts, at a fixed address so that a probe is one instruction. The engine never reads them.",
            ["VmFuzz.Coverage.CoverageProbe::Previous"] = "The place of the last probe, part of the coverage map.",
        });

    /// <summary>Types of ours that never change although the rule does not see it: the type, and the reason.</summary>
    public static readonly ImmutableSortedDictionary<string, string> AllowedTypes = ImmutableSortedDictionary.CreateRange(
        StringComparer.Ordinal,
        new Dictionary<string, string>(StringComparer.Ordinal)
        {
            ["VmFuzz.Cpu.InstructionTable"] = "Its index by mnemonic is private, filled by the constructor and only read afterwards; an array for speed.",
            ["VmFuzz.Fuzzing.FuzzJson"] = "Written by the compiler: facts about the records, made when first asked for and always the same.",
            ["VmFuzz.Kvm.ExitTable"] = "Its rows by reason are private, filled by the constructor and only read afterwards; an array for speed.",
            ["VmFuzz.Vmx.EntryChecks"] = "Its arrays are private, filled by the constructor and only read afterwards; arrays for speed.",
        });

    public static IEnumerable<string> Find(AssemblyDefinition assembly, Layer layer)
    {
        if (layer.Ambient)
        {
            yield break;
        }

        foreach (TypeDefinition type in assembly.MainModule.GetTypes())
        {
            if (IsCompilerMade(type))
            {
                continue;
            }

            foreach (FieldDefinition field in type.Fields)
            {
                string name = $"{type.FullName}::{DisplayName(field)}";
                if (!field.IsStatic || field.IsLiteral || IsCompilerMade(field) || Allowed.ContainsKey(name))
                {
                    continue;
                }

                if (!field.IsInitOnly)
                {
                    yield return $"{name} can be written at any time: make it readonly";
                }
                else if (Why(field.FieldType, []) is { } why)
                {
                    yield return $"{name}: {why}";
                }
            }
        }
    }

    // Backing fields of static properties carry the property's name.
    private static string DisplayName(FieldDefinition field) =>
        IsBackingField(field) ? field.Name[1..field.Name.IndexOf('>', StringComparison.Ordinal)] : field.Name;

    private static bool IsBackingField(FieldDefinition field) =>
        field.Name.EndsWith(">k__BackingField", StringComparison.Ordinal);

    // Caches of lambdas, switch tables over strings, data of array initialisers: nobody can name them.
    private static bool IsCompilerMade(TypeDefinition type) =>
        type.Name.StartsWith('<') || (type.DeclaringType is { } outer && IsCompilerMade(outer));

    private static bool IsCompilerMade(FieldDefinition field) =>
        field.Name.StartsWith('<') && !IsBackingField(field);

    /// <summary>Why a value of this type may change; null when it cannot.</summary>
    private static string? Why(TypeReference type, HashSet<string> seen)
    {
        if (!seen.Add(type.FullName))
        {
            return null;
        }

        if (type is ArrayType array)
        {
            return $"elements of {array.FullName} can be written: use ImmutableArray, or a ReadOnlySpan property";
        }

        if (type is PointerType)
        {
            return $"memory behind {type.FullName} can be written";
        }

        if (type is FunctionPointerType or GenericParameter)
        {
            return null; // Pointers to functions and type parameters: what they stand for is looked at where it is made.
        }

        if (type is GenericInstanceType generic)
        {
            foreach (TypeReference argument in generic.GenericArguments)
            {
                // A delegate's or a comparer's arguments say nothing about it.
                if (!IsDelegate(generic) && ImmutableTypes.Contains(generic.ElementType.FullName, StringComparer.Ordinal) && Why(argument, seen) is { } inner)
                {
                    return inner;
                }
            }
        }

        string open = type.GetElementType().FullName;
        if (ImmutableTypes.Contains(open, StringComparer.Ordinal) || IsDelegate(type) || AllowedTypes.ContainsKey(open))
        {
            return null;
        }

        TypeDefinition? definition = type.Resolve();
        if (definition is { IsEnum: true })
        {
            return null;
        }

        if (definition is null || !IsOurs(definition))
        {
            return $"{type.FullName} is not known to be immutable";
        }

        if (definition.IsInterface || (definition.IsAbstract && !definition.IsSealed && !HasOnlyReadOnlyFields(definition)))
        {
            return $"{type.FullName} may stand for something that changes";
        }

        // A class or structure of ours is immutable when all its fields are and it adds no unsafe storage.
        for (TypeDefinition? level = definition; level is not null && IsOurs(level); level = level.BaseType?.Resolve())
        {
            foreach (FieldDefinition field in level.Fields)
            {
                if (field.IsStatic)
                {
                    continue;
                }

                // Fields of a structure are protected by the readonly of the field that holds it.
                if (!field.IsInitOnly && !definition.IsValueType)
                {
                    return $"{level.FullName}.{DisplayName(field)} can be written";
                }

                if (Why(field.FieldType, seen) is { } inner)
                {
                    return $"through {level.FullName}.{DisplayName(field)}: {inner}";
                }
            }
        }

        return null;
    }

    private static bool HasOnlyReadOnlyFields(TypeDefinition type) => type.Fields.All(static f => f.IsStatic || f.IsInitOnly);

    private static bool IsOurs(TypeDefinition type) =>
        type.Module.Assembly.Name.Name.StartsWith("VmFuzz.", StringComparison.Ordinal)
        || type.Module.Assembly.Name.Name == RuleTests.MadeName;

    private static bool IsDelegate(TypeReference type)
    {
        TypeDefinition? definition = type.Resolve();
        return definition?.BaseType?.FullName == "System.MulticastDelegate";
    }
}
