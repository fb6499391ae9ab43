using System.Reflection;

namespace VmFuzz.Coverage;

/// <summary>Shapes of methods that can be called from outside a context.</summary>
internal static class EntryShape
{
    /// <summary>The first type in a type that is not of the core library, or null. Only of that library there is surely one copy.</summary>
    public static Type? FindForeign(Type type)
    {
        if (type.HasElementType)
        {
            return FindForeign(type.GetElementType()!);
        }

        if (type.IsFunctionPointer || type.Assembly != typeof(object).Assembly)
        {
            return type;
        }

        foreach (Type argument in type.GetGenericArguments())
        {
            if (FindForeign(argument) is { } foreign)
            {
                return foreign;
            }
        }

        return null;
    }

    /// <summary>The static method of a type that has a name and exactly the parameters and the result of another method, or null.</summary>
    public static MethodInfo? Find(Type owner, string name, MethodInfo shape)
    {
        const BindingFlags Which = BindingFlags.Static | BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.DeclaredOnly;
        foreach (MethodInfo method in owner.GetMethods(Which))
        {
            if (method.Name == name && !method.ContainsGenericParameters && method.ReturnType == shape.ReturnType && Types(method).SequenceEqual(Types(shape)))
            {
                return method;
            }
        }

        return null;
    }

    /// <summary>A shape in words, with the name in its place.</summary>
    public static string Describe(MethodInfo shape, string name) =>
        $"{shape.ReturnType} {name}({string.Join(", ", Types(shape))})";

    private static IEnumerable<Type> Types(MethodInfo method) => method.GetParameters().Select(static p => p.ParameterType);
}
