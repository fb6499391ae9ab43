using System.Security.Cryptography;
using System.Text;

namespace VmFuzz.Fuzz;

/// <summary>
/// A folder with the input of each distinct finding, one file each, shared by all workers: what is there already is not
/// reported again, so that a fuzzer goes on behind a bug that is easy to find.
/// </summary>
/// <param name="folder">Path of the folder; empty for none.</param>
internal sealed class FindingFolder(string folder)
{
    private const int MostText = 80;

    private readonly HashSet<string> _known = new(StringComparer.Ordinal);

    /// <summary>Keeps an input if what it broke is new.</summary>
    /// <param name="violation">What it broke: a key, a colon and a space, words.</param>
    /// <param name="bytes">The input.</param>
    /// <returns>Whether it is new, as everything is without a folder.</returns>
    public bool Add(string violation, ReadOnlySpan<byte> bytes)
    {
        if (folder.Length == 0)
        {
            return true;
        }

        string key = violation.Split(": ", 2)[0];
        if (!_known.Add(key))
        {
            return false;
        }

        try
        {
            Directory.CreateDirectory(folder);
            using FileStream file = new(Path.Combine(folder, NameOf(key)), FileMode.CreateNew, FileAccess.Write);
            file.Write(bytes);
            return true;
        }
        catch (IOException)
        {
            // Another worker was first, or the disk is full: then the fuzzer's own file is all there is.
            return !File.Exists(Path.Combine(folder, NameOf(key)));
        }
    }

    private static string NameOf(string key)
    {
        string clean = string.Concat(key.Take(MostText).Select(static letter => char.IsAsciiLetterOrDigit(letter) || letter is '.' or '-' or '@' ? letter : '_'));
        return $"{clean},{Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(key)).AsSpan(0, 8))}";
    }
}
