using System.Globalization;
using System.Text;
using VmFuzz.Arch;
using VmFuzz.Machines;

namespace VmFuzz.Fuzzing;

/// <summary>What a directory's campaign is, as its file <c>campaign</c> says: a line for each of these.</summary>
/// <param name="Target">Name of the target's row.</param>
/// <param name="Mode">What inputs are made from.</param>
/// <param name="Seed">Where all choices come from.</param>
/// <param name="Engine">Identity of the engine, the mutators and the plug-ins: their executions are the same.</param>
public sealed record CampaignIdentity(string Target, FuzzMode Mode, ulong Seed, string Engine)
{
    /// <summary>Name of the file.</summary>
    public const string FileName = "campaign";

    /// <summary>Changes when the same directory would be read in another way.</summary>
    public const int FormatVersion = 1;

    private const string First = "vmfuzz-campaign ";
    private const int MostBytes = 1 << 16;

    /// <summary>The identity of this build of the engine, with some mutators and plug-ins.</summary>
    /// <param name="mutators">The mutators.</param>
    /// <param name="plugins">Identities of the plug-ins, in order.</param>
    public static string EngineOf(MutatorTable mutators, IEnumerable<string> plugins)
    {
        ArgumentNullException.ThrowIfNull(mutators);
        ArgumentNullException.ThrowIfNull(plugins);
        ulong hash = 0;
        foreach (Mutator row in mutators.Rows)
        {
            hash = TextHash.Of(hash, row.Id);
        }

        string engine = string.Create(
            CultureInfo.InvariantCulture, $"{Machines.Engine.Version} semantics {Machines.Engine.SemanticsVersion} rows {Machines.Engine.RowsHash:x16} mutators {hash:x16}");
        return string.Join(" + ", plugins.Prepend(engine)).ReplaceLineEndings(" ");
    }

    /// <summary>The content of the file.</summary>
    public byte[] Format() => Encoding.UTF8.GetBytes(string.Create(
        CultureInfo.InvariantCulture, $"{First}{FormatVersion}\ntarget {Target}\nmode {Mode}\nseed {Seed}\nengine {Engine}\n"));

    /// <summary>Compares a directory with this identity. Changes nothing.</summary>
    /// <param name="directory">The directory, which need not exist.</param>
    /// <param name="exists">Whether there is a campaign in it.</param>
    /// <returns>Why it is not this campaign, in one line that says what to do; null when it is, or when there is none.</returns>
    public string? Check(string directory, out bool exists)
    {
        exists = false;
        string path = Path.Combine(directory, FileName);
        string text;
        try
        {
            if (!File.Exists(path))
            {
                return null;
            }

            exists = true;
            using FileStream stream = new(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
            byte[] bytes = new byte[(int)Math.Min(stream.Length, MostBytes)];
            text = Encoding.UTF8.GetString(bytes, 0, stream.ReadAtLeast(bytes, bytes.Length, throwOnEndOfStream: false));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return $"{path} cannot be read: {e.Message}";
        }

        string[] lines = text.Split('\n');
        string[] own = Encoding.UTF8.GetString(Format()).Split('\n');
        if (!lines[0].StartsWith(First, StringComparison.Ordinal))
        {
            return $"{path} is not of a campaign; use another directory";
        }

        for (int i = 0; i < own.Length; i++)
        {
            string there = i < lines.Length ? lines[i].TrimEnd('\r') : "";
            if (!string.Equals(own[i], there, StringComparison.Ordinal))
            {
                return $"{directory} holds another campaign (\"{Shown(there)}\", not \"{own[i]}\"); use another directory, or what that one was started with";
            }
        }

        return null;
    }

    private static string Shown(string line) =>
        string.Concat(line.Take(200).Select(static c => char.IsControl(c) ? '?' : c));
}

/// <summary>A hash of text that is the same everywhere.</summary>
internal static class TextHash
{
    public static ulong Of(ulong hash, string text)
    {
        foreach (char c in text)
        {
            hash = StateHash.Step(hash, c);
        }

        return StateHash.Step(hash, ulong.MaxValue);
    }

    public static ulong Of(ReadOnlySpan<byte> bytes)
    {
        ulong hash = (ulong)bytes.Length;
        for (; bytes.Length >= 8; bytes = bytes[8..])
        {
            hash = StateHash.Step(hash, System.Buffers.Binary.BinaryPrimitives.ReadUInt64LittleEndian(bytes));
        }

        foreach (byte value in bytes)
        {
            hash = StateHash.Step(hash, value);
        }

        return hash;
    }
}
