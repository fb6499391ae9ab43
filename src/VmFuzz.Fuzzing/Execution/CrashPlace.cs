using System.Diagnostics;
using System.Reflection;

namespace VmFuzz.Fuzzing;

/// <summary>Names what a C# exception is: its type and the innermost method of this project on the stack.</summary>
internal static class CrashPlace
{
    /// <summary>Id of the oracle.</summary>
    public const string Oracle = "crash.exception";

    /// <summary>The violation of an exception.</summary>
    public static Violation Of(Exception exception)
    {
        if (exception is NoProgressException)
        {
            return new Violation(GuestKill.NoProgress, "", exception.Message);
        }

        string where = "";
        foreach (StackFrame frame in new StackTrace(exception, fNeedFileInfo: false).GetFrames())
        {
            MethodBase? method = frame.GetMethod();
            string name = method?.DeclaringType?.FullName ?? "";
            if (name.StartsWith("VmFuzz.", StringComparison.Ordinal) && !name.StartsWith("VmFuzz.Fuzzing.", StringComparison.Ordinal))
            {
                where = $"{name["VmFuzz.".Length..]}.{method!.Name}";
                break;
            }
        }

        return new Violation(Oracle, $"{exception.GetType().Name}:{where}", $"{exception.GetType().Name} in {(where.Length == 0 ? "the engine" : where)}: {FirstLine(exception.Message)}");
    }

    private static string FirstLine(string text)
    {
        int end = text.AsSpan().IndexOfAny('\r', '\n');
        return end < 0 ? text : text[..end];
    }
}
