using System.Collections.Immutable;
using Mono.Cecil;
using Mono.Cecil.Cil;

namespace VmFuzz.Coverage;

/// <summary>What the rules look at besides the method.</summary>
/// <param name="Options">How to instrument.</param>
/// <param name="Taken">Names of the methods whose address the module takes, for delegates mostly; overloads share one.</param>
internal sealed record SkipContext(InstrumentOptions Options, SortedSet<string> Taken)
{
    /// <summary>Looks through the methods of a module.</summary>
    public static SkipContext Of(List<MethodDefinition> methods, InstrumentOptions options)
    {
        var taken = new SortedSet<string>(StringComparer.Ordinal);
        foreach (MethodDefinition method in methods)
        {
            foreach (Instruction instruction in method.Body.Instructions)
            {
                if (instruction.OpCode.Code is Code.Ldftn or Code.Ldvirtftn && instruction.Operand is MethodReference target)
                {
                    taken.Add(NameOf(target));
                }
            }
        }

        return new SkipContext(options, taken);
    }

    /// <summary>The name by which a method is known here.</summary>
    public static string NameOf(MethodReference method) => $"{method.DeclaringType.GetElementType().FullName}::{method.Name}";
}

/// <summary>A reason not to put probes into a method.</summary>
/// <param name="Reason">Its name, as the table of probes shows it.</param>
/// <param name="Applies">Whether it holds for a method.</param>
internal sealed record SkipRule(string Reason, Func<MethodDefinition, SkipContext, bool> Applies)
{
    /// <summary>The rules; the first that holds gives the reason.</summary>
    // State machines of async methods and iterators, lambdas and local functions are ordinary IL: they get probes,
    // unless the method that they were written in is skipped.
    public static readonly ImmutableArray<SkipRule> Rows =
    [
        new("attribute", static (method, _) => HasAttribute(method)),
        new("part of a skipped method", static (method, _) => OwnerHasAttribute(method)),
        new("compiler-generated member", static (method, context) => context.Options.SkipCompilerGenerated && IsGeneratedMember(method)),
        // It runs once a process, when the runtime sees fit: its probes would tell first runs from later ones.
        new("static constructor", static (method, context) => context.Options.SkipStaticConstructors && method.IsConstructor && method.IsStatic),
        // What calls it tells as much, and such methods are the most called. A row's lambda, or another method that a
        // delegate is made of, is called by nobody in particular: it keeps its probe.
        new("single small block", static (method, context) => context.Options.SkipSmall && IsSmallBlock(method, context)),
    ];

    /// <summary>The reason why a method gets no probes, or null.</summary>
    public static string? Find(MethodDefinition method, SkipContext context)
    {
        foreach (SkipRule rule in Rows)
        {
            if (rule.Applies(method, context))
            {
                return rule.Reason;
            }
        }

        return null;
    }

    private static bool HasAttribute(MethodDefinition method)
    {
        if (IsMarked(method) || IsMarked(method.Module.Assembly) || (method.SemanticsAttributes != 0 && PropertyIsMarked(method)))
        {
            return true;
        }

        for (TypeDefinition? type = method.DeclaringType; type is not null; type = type.DeclaringType)
        {
            if (IsMarked(type))
            {
                return true;
            }
        }

        return false;
    }

    private static bool PropertyIsMarked(MethodDefinition method)
    {
        foreach (PropertyDefinition property in method.DeclaringType.Properties)
        {
            if ((property.GetMethod == method || property.SetMethod == method) && IsMarked(property))
            {
                return true;
            }
        }

        return false;
    }

    // The compiler names what it makes from a method M <M>..., in M's type or in a type nested in it.
    private static bool OwnerHasAttribute(MethodDefinition method)
    {
        if (OwnerName(method.Name) is { } inMethod && MethodIsMarked(method.DeclaringType, inMethod))
        {
            return true;
        }

        for (TypeDefinition type = method.DeclaringType; type.DeclaringType is { } outer && type.Name.StartsWith('<'); type = outer)
        {
            string? owner = OwnerName(type.Name) ?? OwnerName(method.Name);
            if (owner is not null && MethodIsMarked(outer, owner))
            {
                return true;
            }
        }

        return false;
    }

    private static bool MethodIsMarked(TypeDefinition type, string name)
    {
        foreach (MethodDefinition method in type.Methods)
        {
            if (method.Name == name && IsMarked(method))
            {
                return true;
            }
        }

        return false;
    }

    private static string? OwnerName(string name)
    {
        int end = name.StartsWith('<') ? name.IndexOf('>', StringComparison.Ordinal) : 0;
        return end > 1 ? name[1..end] : null;
    }

    // Accessors of automatic properties, members of records; in types that the compiler makes, all but what was written
    // by somebody: lambdas, local functions and finally blocks (names in <>), and the steps of a state machine.
    private static bool IsGeneratedMember(MethodDefinition method)
    {
        bool written = method.Name.StartsWith('<') && method.Name != "<Clone>$";
        return method.DeclaringType.Name.StartsWith('<')
            ? !written && method.Name != "MoveNext"
            : !written && Has(method, "CompilerGeneratedAttribute");
    }

    private static bool IsSmallBlock(MethodDefinition method, SkipContext context)
    {
        if (method.Body.CodeSize > InstrumentOptions.SmallCode || method.Body.HasExceptionHandlers || method.IsVirtual || method.Name.StartsWith('<')
            || context.Taken.Contains(SkipContext.NameOf(method)))
        {
            return false;
        }

        foreach (Instruction instruction in method.Body.Instructions)
        {
            if (instruction.OpCode.FlowControl is FlowControl.Branch or FlowControl.Cond_Branch or FlowControl.Throw)
            {
                return false;
            }
        }

        return true;
    }

    private static bool IsMarked(Mono.Cecil.ICustomAttributeProvider provider) =>
        Has(provider, nameof(SkipCoverageAttribute)) || Has(provider, "ExcludeFromCodeCoverageAttribute");

    private static bool Has(Mono.Cecil.ICustomAttributeProvider provider, string name)
    {
        if (!provider.HasCustomAttributes)
        {
            return false;
        }

        foreach (CustomAttribute attribute in provider.CustomAttributes)
        {
            if (attribute.AttributeType.Name == name)
            {
                return true;
            }
        }

        return false;
    }
}
