namespace VmFuzz.Fuzzing;

public sealed partial class Corpus
{
    /// <summary>Makes a folder and those above it.</summary>
    /// <param name="relative">A path in the directory.</param>
    /// <returns>Whether it is there; if not, there is a line in the log.</returns>
    public bool TryMakeFolder(string relative)
    {
        string? full = Resolve(relative);
        if (full is null)
        {
            _log($"{relative} leads out of {_root}: not made");
            return false;
        }

        try
        {
            Directory.CreateDirectory(full);
            Changed?.Invoke();
            return true;
        }
        catch (Exception e) when (IsFile(e))
        {
            _log($"{full} cannot be made: {e.Message}");
            return false;
        }
    }

    /// <summary>Names of the folders in a folder, in ordinal order; links are not among them.</summary>
    /// <param name="relative">A path in the directory.</param>
    /// <returns>Empty when it is not there or cannot be read.</returns>
    public IReadOnlyList<string> Folders(string relative)
    {
        if (Resolve(relative) is not { } full || !Directory.Exists(full))
        {
            return [];
        }

        try
        {
            return [.. new DirectoryInfo(full).GetDirectories().Where(static d => d.LinkTarget is null).Select(static d => d.Name).Order(StringComparer.Ordinal)];
        }
        catch (Exception e) when (IsFile(e))
        {
            _log($"{full} cannot be read: {e.Message}");
            return [];
        }
    }

    /// <summary>Reads a file of the directory that may be longer than an input.</summary>
    /// <param name="relative">A path in the directory.</param>
    /// <param name="most">Most bytes that are read; longer files are cut off.</param>
    /// <returns>Null when there is none or it cannot be read.</returns>
    public byte[]? TryRead(string relative, int most) =>
        Resolve(relative) is { } full && File.Exists(full) && TryRead(full, most, _log, out byte[] bytes) ? bytes : null;

    /// <summary>Has a file written by something that takes a path: under another name first, as all files are.</summary>
    /// <param name="relative">A path in the directory.</param>
    /// <param name="make">Makes the file; the path that it is given does not exist.</param>
    /// <returns>Whether it was made; if not, there is a line in the log, unless it was not even tried.</returns>
    public bool TryProduce(string relative, Action<string> make)
    {
        ArgumentNullException.ThrowIfNull(make);
        if (ForWriting(relative) is not { } full)
        {
            return false;
        }

        string draft = Path.Combine(Path.GetDirectoryName(full)!, Temporary + "made");
        try
        {
            File.Delete(draft);
            make(draft);
            if (!File.Exists(draft))
            {
                return false;
            }

            Publish(draft, full);
            return true;
        }
        catch (Exception e) when (IsFile(e))
        {
            _log($"{full} cannot be written: {e.Message}");
            return false;
        }
    }

    /// <summary>Deletes a file of the directory if it is there.</summary>
    /// <returns>Whether it is gone; if not, there is a line in the log.</returns>
    public bool TryDelete(string relative)
    {
        string? full = Resolve(relative);
        if (full is null)
        {
            _log($"{relative} leads out of {_root}: not deleted");
            return false;
        }

        try
        {
            File.Delete(full);
            Changed?.Invoke();
            return true;
        }
        catch (Exception e) when (IsFile(e))
        {
            _log($"{full} cannot be deleted: {e.Message}");
            return false;
        }
    }

    /// <summary>A file's path in the directory, with '/'.</summary>
    public static string RelativeOf(CorpusFolder folder, string fileName) => NameOf(folder) + "/" + fileName;

    /// <summary>Names of the files of a folder, in ordinal order, without what a kill left behind.</summary>
    public IReadOnlyList<string> Names(CorpusFolder folder)
    {
        if (Resolve(NameOf(folder)) is not { } full || !Directory.Exists(full))
        {
            return [];
        }

        try
        {
            return
            [
                .. new DirectoryInfo(full).GetFiles()
                    .Select(static f => f.Name)
                    .Where(static n => !n.StartsWith(Temporary, StringComparison.Ordinal))
                    .Order(StringComparer.Ordinal),
            ];
        }
        catch (Exception e) when (IsFile(e))
        {
            _log($"{full} cannot be read: {e.Message}");
            return [];
        }
    }

    /// <summary>A directory that is only read: nothing is made in it.</summary>
    /// <param name="path">The directory.</param>
    /// <param name="log">Takes lines for people.</param>
    public static Corpus OpenToRead(string path, Action<string> log)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        ArgumentNullException.ThrowIfNull(log);
        return new(Path.TrimEndingDirectorySeparator(Path.GetFullPath(path)), log);
    }
}
