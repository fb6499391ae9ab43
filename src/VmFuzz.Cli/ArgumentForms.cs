using System.Collections.Immutable;

namespace VmFuzz.Cli;

/// <summary>QEMU's options take one dash or two; here they all become two.</summary>
internal static class ArgumentForms
{
    private static readonly ImmutableArray<string> QemuNames =
        ["machine", "accel", "cpu", "smp", "m", "kernel", "initrd", "append", "bios", "serial", "rtc", "gdb"];

    /// <summary>Turns <c>-machine</c> into <c>--machine</c> and so on. The value of an option stays as it is.</summary>
    public static string[] Normalize(string[] args)
    {
        var result = new string[args.Length];
        bool value = false;
        for (int i = 0; i < args.Length; i++)
        {
            result[i] = args[i];
            string name = args[i];
            if (value)
            {
                value = false;
                continue;
            }

            if (name.Length < 2 || name[0] != '-')
            {
                continue;
            }

            int start = name[1] == '-' ? 2 : 1;
            int end = name.IndexOf('=', StringComparison.Ordinal);
            end = end < 0 ? name.Length : end;
            if (end > start && QemuNames.Contains(name[start..end], StringComparer.Ordinal))
            {
                result[i] = "--" + name[start..];
                value = end == name.Length;
            }
        }

        return result;
    }
}
