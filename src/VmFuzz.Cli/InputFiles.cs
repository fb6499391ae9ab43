using VmFuzz.Machines;
using VmFuzz.Replay;
using VmFuzz.Trace;

namespace VmFuzz.Cli;

/// <summary>Files that a run reads and writes, with every way in which they can be unfit.</summary>
internal static class InputFiles
{
    /// <summary>Reads a ROM image: whole 4 KiB pages, at most 16 MiB.</summary>
    public static MachineImage Rom(string path)
    {
        const int most = 16 << 20;
        byte[] bytes = Read(path, "the ROM", most);
        return (bytes.Length & 0xFFF) != 0
            ? throw UserError.At($"the ROM has {bytes.Length} bytes, which is not a whole number of 4 KiB pages", path, "it may be truncated; give the whole image")
            : new MachineImage(MachineImage.BiosRole, Path.GetFileName(path), bytes);
    }

    /// <summary>Reads a kernel, or raw code for a flat machine.</summary>
    public static MachineImage Kernel(string path) =>
        new(MachineImage.KernelRole, Path.GetFileName(path), Read(path, "the guest", MachineOptions.MaxImage));

    /// <summary>Reads an initial RAM disk.</summary>
    public static MachineImage Initrd(string path) =>
        new(MachineImage.InitrdRole, Path.GetFileName(path), Read(path, "the initial RAM disk", MachineOptions.MaxImage));

    /// <summary>Reads a script for the console.</summary>
    public static ConsoleScript Script(string path)
    {
        byte[] bytes = Read(path, "the script", ConsoleScript.MaxLength);
        return ConsoleScript.TryParse(System.Text.Encoding.UTF8.GetString(bytes), out ConsoleScript script) is { } wrong
            ? throw UserError.At(wrong, path, "correct the script")
            : script;
    }

    /// <summary>Reads a snapshot: the options of the machine that goes on from it.</summary>
    public static MachineOptions Snapshot(string path)
    {
        using TraceReader reader = ReplayCommand.Open(path);
        return Replay.Snapshots.Snapshot.TryOptions(reader, out MachineOptions options) is { } wrong
            ? throw UserError.At(wrong, path, "name a file that 'vmfuzz snapshot' made with this version")
            : options;
    }

    /// <summary>Complains when a file to be read is not there or a directory.</summary>
    public static void MustExist(string path, string what)
    {
        if (Directory.Exists(path))
        {
            throw UserError.At($"{what} is a directory", path, "name a file");
        }

        if (!File.Exists(path))
        {
            throw UserError.At($"{what} does not exist", path, "check the path");
        }
    }

    /// <summary>Opens a file for reading.</summary>
    public static FileStream OpenRead(string path, string what)
    {
        MustExist(path, what);
        try
        {
            return File.OpenRead(path);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException or NotSupportedException)
        {
            throw Unreadable(path, what, error);
        }
    }

    /// <summary>Complains when a file that is to be made cannot be; nothing is touched.</summary>
    public static void MustBeWritable(string path, string option, IEnumerable<string> others, bool overwrite)
    {
        if (path.Length == 0)
        {
            throw UserError.At("there is no file name", option, "name the file to write");
        }

        if (Directory.Exists(path))
        {
            throw UserError.At("the output is a directory", path, "name a file in it");
        }

        string real = RealPath(path);
        foreach (string other in others)
        {
            if (string.Equals(RealPath(other), real, StringComparison.Ordinal))
            {
                throw UserError.At($"{option} names a file that this run uses already", path, "choose another name");
            }
        }

        string folder = Path.GetDirectoryName(Path.GetFullPath(path)) ?? "/";
        if (!Directory.Exists(folder))
        {
            throw UserError.At("the directory of the output does not exist", folder, "make it first");
        }

        if (!overwrite && File.Exists(path))
        {
            throw UserError.At("the output exists already", path, "choose another name, or --force to replace it");
        }
    }

    /// <summary>Opens a file for writing.</summary>
    public static FileStream Create(string path, string option)
    {
        try
        {
            return new FileStream(path, FileMode.Create, FileAccess.Write, FileShare.ReadWrite);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException or NotSupportedException)
        {
            throw UserError.At($"{option} cannot be written ({error.Message.ReplaceLineEndings(" ")})", path, "choose another place");
        }
    }

    /// <summary>Reads a whole file that is not empty.</summary>
    public static byte[] Read(string path, string what, int most)
    {
        try
        {
            using FileStream stream = OpenRead(path, what);
            long length = stream.CanSeek ? stream.Length : 0;
            var bytes = new MemoryStream();
            var buffer = new byte[81920];
            while (length <= most && bytes.Length <= most)
            {
                int count = stream.Read(buffer);
                if (count == 0)
                {
                    break;
                }

                bytes.Write(buffer, 0, count);
            }

            if (length > most || bytes.Length > most)
            {
                throw UserError.At($"{what} is larger than {most >> 20} MiB", path, "give a smaller image");
            }

            return bytes.Length == 0
                ? throw UserError.At($"{what} is empty", path, "give an image with content")
                : bytes.ToArray();
        }
        catch (IOException error)
        {
            throw Unreadable(path, what, error);
        }
    }

    private static UserError Unreadable(string path, string what, Exception error) =>
        UserError.At($"{what} cannot be read ({error.Message.ReplaceLineEndings(" ")})", path, "check the path and its permissions");

    private static string RealPath(string path)
    {
        string full = Path.GetFullPath(path);
        try
        {
            return File.ResolveLinkTarget(full, returnFinalTarget: true)?.FullName ?? full;
        }
        catch (IOException)
        {
            return full;
        }
    }
}
