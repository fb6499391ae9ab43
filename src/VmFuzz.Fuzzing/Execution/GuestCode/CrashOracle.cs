using System.Diagnostics;
using System.Reflection;

namespace VmFuzz.Fuzzing;

/// <summary>Makes a violation of an exception that came out of a run.</summary>
public static class CrashOracle
{
    private const string Own = "VmFuzz";

    /// <summary>What an exception says: its type, and the innermost method of VmFuzz (or a plug-in) that it passed.</summary>
    public static Violation Of(Exception exception)
    {
        ArgumentNullException.ThrowIfNull(exception);
        return new Violation("crash.exception", $"{exception.GetType().Name}@{Place(exception)}", $"{exception.GetType().Name}: {FirstLine(exception.Message)}");
    }

    private static string Place(Exception exception)
    {
        string outside = "";
        foreach (StackFrame frame in new StackTrace(exception, fNeedFileInfo: false).GetFrames())
        {
            if (frame.GetMethod() is not { DeclaringType: { } type } method)
            {
                continue;
            }

            string name = $"{type.Name}.{method.Name}";
            if (type.Assembly.GetName().Name is { } assembly && !IsRuntime(assembly, type))
            {
                return name;
            }

            outside = outside.Length == 0 ? name : outside;
        }

        return outside;
    }

    private static bool IsRuntime(string assembly, MemberInfo type) =>
        !assembly.StartsWith(Own, StringComparison.Ordinal)
        && (assembly.StartsWith("System", StringComparison.Ordinal) || assembly.StartsWith("Iced", StringComparison.Ordinal)
            || type.Module.Assembly == typeof(object).Assembly);

    private static string FirstLine(string text)
    {
        int end = text.AsSpan().IndexOfAny('\r', '\n');
        return end < 0 ? text : text[..end];
    }
}
