using System.Buffers.Binary;
using System.IO.MemoryMappedFiles;

namespace VmFuzz.Fuzzing;

/// <summary>What a campaign is doing.</summary>
public enum CampaignPhase : uint
{
    /// <summary>Execution <see cref="CurrentExecution.Index"/> runs.</summary>
    Fuzzing = 0,
    /// <summary>Queue entry number <see cref="CurrentExecution.Index"/> runs, to learn what it covers.</summary>
    Loading = 1,
    /// <summary>An input of another worker runs; the index is that of the epoch.</summary>
    Importing = 2,
    /// <summary>Nothing runs.</summary>
    Idle = 3,
}

/// <summary>
/// What a campaign was doing when it was last heard of: the content of <c>.current</c> in its directory, a small file
/// that the campaign maps and a supervisor reads when the process hangs or is gone.
/// </summary>
/// <param name="Phase">What it was doing.</param>
/// <param name="Index">With which execution or entry.</param>
/// <param name="Executions">Executions until then, this one not included.</param>
public readonly record struct CurrentExecution(CampaignPhase Phase, ulong Index, ulong Executions)
{
    /// <summary>Name of the file.</summary>
    public const string FileName = ".current";

    internal const int Length = 32;
    internal const uint Magic = 0x3143_4656; // "VFC1"

    /// <summary>Reads the file of a campaign's directory.</summary>
    /// <returns>Null when there is none or it is not one.</returns>
    public static CurrentExecution? TryRead(string directory)
    {
        ArgumentException.ThrowIfNullOrEmpty(directory);
        Span<byte> bytes = stackalloc byte[Length];
        try
        {
            using FileStream stream = new(
                Path.Combine(directory, FileName), FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
            stream.ReadExactly(bytes);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }

        uint phase = BinaryPrimitives.ReadUInt32LittleEndian(bytes[4..]);
        return BinaryPrimitives.ReadUInt32LittleEndian(bytes) == Magic && phase <= (uint)CampaignPhase.Idle
            ? new((CampaignPhase)phase, BinaryPrimitives.ReadUInt64LittleEndian(bytes[8..]), BinaryPrimitives.ReadUInt64LittleEndian(bytes[16..]))
            : null;
    }
}

/// <summary>Writes <see cref="CurrentExecution"/>: three stores into mapped memory each time.</summary>
internal sealed class CurrentFile : IDisposable
{
    private readonly MemoryMappedFile? _file;
    private readonly MemoryMappedViewAccessor? _view;

    private CurrentFile(MemoryMappedFile? file, MemoryMappedViewAccessor? view) => (_file, _view) = (file, view);

    /// <summary>Opens the file; when that cannot be done there is a line in the log and nothing is written.</summary>
    public static CurrentFile Open(string directory, Action<string> log)
    {
        string path = Path.Combine(directory, CurrentExecution.FileName);
        try
        {
            // A link put there is not written through.
            if (new FileInfo(path).LinkTarget is not null)
            {
                File.Delete(path);
            }

            FileStream stream = new(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.ReadWrite | FileShare.Delete);
            stream.SetLength(CurrentExecution.Length);
            MemoryMappedFile file = MemoryMappedFile.CreateFromFile(
                stream, mapName: null, CurrentExecution.Length, MemoryMappedFileAccess.ReadWrite, HandleInheritability.None, leaveOpen: false);
            MemoryMappedViewAccessor view = file.CreateViewAccessor(0, CurrentExecution.Length);
            if (view.ReadUInt32(0) != CurrentExecution.Magic)
            {
                view.Write(4, (uint)CampaignPhase.Idle);
                view.Write(8, 0UL);
                view.Write(16, 0UL);
                view.Write(0, CurrentExecution.Magic);
            }

            return new(file, view);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            log($"{path} cannot be used, so a supervisor will not see what hangs: {e.Message}");
            return new(null, null);
        }
    }

    public void Set(CampaignPhase phase, ulong index, ulong executions)
    {
        if (_view is { } view)
        {
            view.Write(4, (uint)phase);
            view.Write(8, index);
            view.Write(16, executions);
        }
    }

    public void Dispose()
    {
        _view?.Dispose();
        _file?.Dispose();
    }
}
