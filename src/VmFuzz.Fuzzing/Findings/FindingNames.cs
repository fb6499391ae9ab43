using System.Globalization;
using System.Text;
using VmFuzz.Arch;

namespace VmFuzz.Fuzzing;

/// <summary>Names of files and folders of findings.</summary>
public static class FindingNames
{
    /// <summary>Folder of all findings of a worker.</summary>
    public const string Folder = "findings";

    /// <summary>The minimised input.</summary>
    public const string Input = "input";

    /// <summary>The input as the campaign had it.</summary>
    public const string Original = "original";

    /// <summary>The facts.</summary>
    public const string Facts = "finding.json";

    /// <summary>The facts of a finding whose triage has not ended, with the input.</summary>
    public const string Pending = "pending.json";

    /// <summary>The readable report.</summary>
    public const string Report = "report.txt";

    /// <summary>The trace.</summary>
    public const string Trace = "trace.vmtrace";

    private const int MostLetters = 60;

    /// <summary>
    /// Folder name for a key: lower-case letters, digits, '.', '-', '_' of the key, then its hash, so that different keys
    /// have different names also where case or cut-off letters are all that tells them apart.
    /// </summary>
    /// <param name="key">The key of a violation.</param>
    /// <param name="attempt">0; higher when the name is taken by another key.</param>
    /// <returns>At most 80 letters.</returns>
    public static string Slug(string key, int attempt = 0)
    {
        ArgumentNullException.ThrowIfNull(key);
        var text = new StringBuilder(MostLetters + 20);
        ulong hash = (ulong)attempt;
        foreach (char letter in key)
        {
            hash = StateHash.Step(hash, letter);
            char low = char.ToLowerInvariant(letter);
            char clean = char.IsAsciiLetterOrDigit(low) || low is '.' or '_' ? low : '-';
            bool repeats = clean is '-' or '.' && (text.Length == 0 || text[^1] is '-' or '.');
            if (text.Length < MostLetters && !repeats)
            {
                text.Append(clean);
            }
        }

        string name = text.ToString().TrimEnd('-', '.');
        return string.Create(CultureInfo.InvariantCulture, $"{(name.Length == 0 ? "finding" : name)}-{(uint)(hash ^ (hash >> 32)):x8}");
    }

    /// <summary>Whether running the input again may end the process that does it.</summary>
    public static bool EndsProcess(Violation violation)
    {
        ArgumentNullException.ThrowIfNull(violation);
        return violation.Oracle is OracleFolders.Hang or OracleFolders.Death
            || violation.Key.StartsWith("hang.", StringComparison.Ordinal) || violation.Key.StartsWith("crash.process", StringComparison.Ordinal);
    }

    /// <summary>The command that reproduces what stands in a path.</summary>
    /// <param name="path">A finding's folder or an input.</param>
    /// <param name="target">Name of the target when the path does not say it; null otherwise.</param>
    /// <param name="pluginFiles">Plug-ins that the target needs.</param>
    public static string Command(string path, string? target, IEnumerable<string> pluginFiles)
    {
        ArgumentNullException.ThrowIfNull(path);
        ArgumentNullException.ThrowIfNull(pluginFiles);
        var text = new StringBuilder("vmfuzz reproduce ").Append(Quoted(path));
        if (target is not null)
        {
            text.Append(" --target ").Append(Quoted(target));
        }

        return AddPlugins(text, pluginFiles).ToString();
    }

    /// <summary>The command that replays the trace of a finding.</summary>
    /// <param name="folder">The finding's folder.</param>
    /// <param name="pluginFiles">Plug-ins that the target needs.</param>
    public static string Replay(string folder, IEnumerable<string> pluginFiles)
    {
        ArgumentNullException.ThrowIfNull(folder);
        ArgumentNullException.ThrowIfNull(pluginFiles);
        var text = new StringBuilder("vmfuzz replay ").Append(Quoted(Path.Combine(folder, Trace)));
        return AddPlugins(text, pluginFiles).Append(" --check").ToString();
    }

    private static StringBuilder AddPlugins(StringBuilder text, IEnumerable<string> pluginFiles)
    {
        foreach (string file in pluginFiles)
        {
            text.Append(" --plugin ").Append(Quoted(file));
        }

        return text;
    }

    private static string Quoted(string word)
    {
        bool plain = word.Length != 0;
        foreach (char letter in word)
        {
            plain &= char.IsAsciiLetterOrDigit(letter) || letter is '/' or '.' or '-' or '_' or ':' or ',' or '+' or '=' or '@' or '%';
        }

        return plain ? word : "'" + word.Replace("'", "'\\''", StringComparison.Ordinal) + "'";
    }
}
