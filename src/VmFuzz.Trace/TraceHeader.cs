using System.Collections.Immutable;
using System.IO.Hashing;
using System.Text;

namespace VmFuzz.Trace;

/// <summary>One setting of the machine, as text.</summary>
/// <param name="Key">The setting's name.</param>
/// <param name="Value">Its value.</param>
public readonly record struct TraceSetting(string Key, string Value);

/// <summary>An image the run starts from.</summary>
/// <param name="Role">What it is for: bios, kernel, initrd, state...</param>
/// <param name="Name">Name for people, for instance of the file; never a path to be opened.</param>
/// <param name="Hash">XxHash128 of the content: 32 lower-case hexadecimal digits.</param>
/// <param name="Length">Bytes of the content, 0 to <see cref="TraceHeader.MaxBlob"/>.</param>
public sealed record TraceBlobReference(string Role, string Name, string Hash, long Length)
{
    /// <summary>The reference of some content.</summary>
    public static TraceBlobReference Of(string role, string name, ReadOnlySpan<byte> content) =>
        new(role, name, HashOf(content), content.Length);

    /// <summary>The hash of some content as it stands in <see cref="Hash"/>.</summary>
    public static string HashOf(ReadOnlySpan<byte> content) => Convert.ToHexStringLower(XxHash128.Hash(content));
}

/// <summary>What a trace says about itself before its events.</summary>
public sealed record TraceHeader
{
    /// <summary>Longest text in a header. Unit: bytes of UTF-8.</summary>
    public const int MaxText = 65536;
    /// <summary>Most settings, plug-ins or images.</summary>
    public const int MaxItems = 1024;
    /// <summary>Largest image. Unit: bytes.</summary>
    public const long MaxBlob = 1L << 30;
    /// <summary>Bytes of an image's hash.</summary>
    internal const int HashSize = 16;

    /// <summary>Version of the format.</summary>
    public int FormatVersion { get; init; } = TraceSchema.Version;

    /// <summary>Version of the engine, for people.</summary>
    public string EngineVersion { get; init; } = "";

    /// <summary>Changes when guest-visible behaviour changes.</summary>
    public uint SemanticsVersion { get; init; }

    /// <summary>What kind of source made the inputs: live, chaos, replay, fuzz...</summary>
    public string Source { get; init; } = "";

    /// <summary>Hash of the ids of all rows of the engine's tables.</summary>
    public ulong RowsHash { get; init; }

    /// <summary>Names and versions of plug-ins.</summary>
    public ImmutableArray<string> Plugins { get; init; } = [];

    /// <summary>The machine: everything needed to build it again, in a fixed order.</summary>
    public ImmutableArray<TraceSetting> Machine { get; init; } = [];

    /// <summary>The images the run starts from; they may be in the file or not.</summary>
    public ImmutableArray<TraceBlobReference> Blobs { get; init; } = [];

    /// <summary>The value of a setting, or null.</summary>
    public string? Setting(string key)
    {
        foreach (TraceSetting setting in Machine)
        {
            if (string.Equals(setting.Key, key, StringComparison.Ordinal))
            {
                return setting.Value;
            }
        }

        return null;
    }

    /// <summary>The payload of the header chunk.</summary>
    /// <exception cref="ArgumentException">Something is over its limit.</exception>
    internal byte[] Encode()
    {
        Check();
        byte[] buffer = new byte[4096];
        while (true)
        {
            MsgPackWriter writer = new(buffer);
            Write(ref writer);
            if (!writer.Failed)
            {
                return writer.Written.ToArray();
            }

            if (buffer.Length >= TraceChunk.MaxRaw)
            {
                throw new ArgumentException("the header is too large");
            }

            buffer = new byte[buffer.Length * 2];
        }
    }

    /// <summary>Reads the payload of the header chunk, after name and version.</summary>
    /// <returns>Null when it is not a header of this version.</returns>
    internal static TraceHeader? Decode(ref MsgPackReader reader)
    {
        if (!TryText(ref reader, out string engine)
            || !reader.TryReadUInt(uint.MaxValue, out ulong semantics)
            || !TryText(ref reader, out string source)
            || !reader.TryReadUInt(out ulong rows)
            || !reader.TryReadArrayHeader(MaxItems, out int pluginCount))
        {
            return null;
        }

        ImmutableArray<string>.Builder plugins = ImmutableArray.CreateBuilder<string>();
        for (int i = 0; i < pluginCount; i++)
        {
            if (!TryText(ref reader, out string plugin))
            {
                return null;
            }

            plugins.Add(plugin);
        }

        if (!reader.TryReadArrayHeader(2 * MaxItems, out int settingCount) || (settingCount & 1) != 0)
        {
            return null;
        }

        ImmutableArray<TraceSetting>.Builder settings = ImmutableArray.CreateBuilder<TraceSetting>();
        for (int i = 0; i < settingCount; i += 2)
        {
            if (!TryText(ref reader, out string key) || !TryText(ref reader, out string value))
            {
                return null;
            }

            settings.Add(new(key, value));
        }

        if (!reader.TryReadArrayHeader(MaxItems, out int blobCount))
        {
            return null;
        }

        ImmutableArray<TraceBlobReference>.Builder blobs = ImmutableArray.CreateBuilder<TraceBlobReference>();
        for (int i = 0; i < blobCount; i++)
        {
            if (!reader.TryReadArrayHeader(4, out int size) || size != 4
                || !TryText(ref reader, out string role) || !TryText(ref reader, out string name)
                || !reader.TryReadBin(HashSize, out ReadOnlySpan<byte> hash) || hash.Length != HashSize
                || !reader.TryReadUInt((ulong)MaxBlob, out ulong length))
            {
                return null;
            }

            blobs.Add(new(role, name, Convert.ToHexStringLower(hash), (long)length));
        }

        return !reader.Finished ? null : new()
        {
            EngineVersion = engine,
            SemanticsVersion = (uint)semantics,
            Source = source,
            RowsHash = rows,
            Plugins = plugins.ToImmutable(),
            Machine = settings.ToImmutable(),
            Blobs = blobs.ToImmutable(),
        };
    }

    /// <summary>Elements of the header's array.</summary>
    internal const int Elements = 9;

    private void Write(ref MsgPackWriter writer)
    {
        writer.WriteArrayHeader(Elements);
        writer.WriteText(TraceSchema.FormatName);
        writer.WriteUInt((ulong)FormatVersion);
        writer.WriteText(EngineVersion);
        writer.WriteUInt(SemanticsVersion);
        writer.WriteText(Source);
        writer.WriteUInt(RowsHash);
        writer.WriteArrayHeader(Plugins.Length);
        foreach (string plugin in Plugins)
        {
            writer.WriteText(plugin);
        }

        writer.WriteArrayHeader(2 * Machine.Length);
        foreach (TraceSetting setting in Machine)
        {
            writer.WriteText(setting.Key);
            writer.WriteText(setting.Value);
        }

        writer.WriteArrayHeader(Blobs.Length);
        foreach (TraceBlobReference blob in Blobs)
        {
            writer.WriteArrayHeader(4);
            writer.WriteText(blob.Role);
            writer.WriteText(blob.Name);
            writer.WriteBin(Convert.FromHexString(blob.Hash));
            writer.WriteUInt((ulong)blob.Length);
        }
    }

    private void Check()
    {
        if (FormatVersion != TraceSchema.Version)
        {
            throw new ArgumentException("only the current version of the format is written");
        }

        if (Plugins.Length > MaxItems || Machine.Length > MaxItems || Blobs.Length > MaxItems)
        {
            throw new ArgumentException($"a header has at most {MaxItems} plug-ins, settings and images");
        }

        CheckText(EngineVersion);
        CheckText(Source);
        foreach (string plugin in Plugins)
        {
            CheckText(plugin);
        }

        foreach (TraceSetting setting in Machine)
        {
            CheckText(setting.Key);
            CheckText(setting.Value);
        }

        foreach (TraceBlobReference blob in Blobs)
        {
            CheckText(blob.Role);
            CheckText(blob.Name);
            if (blob.Length is < 0 or > MaxBlob || blob.Hash.Length != 2 * HashSize || !IsLowerHex(blob.Hash))
            {
                throw new ArgumentException($"image {blob.Name}: length or hash out of range");
            }
        }
    }

    private static bool IsLowerHex(string text)
    {
        foreach (char letter in text)
        {
            if (!char.IsAsciiHexDigitLower(letter))
            {
                return false;
            }
        }

        return true;
    }

    private static void CheckText(string text)
    {
        if (Encoding.UTF8.GetByteCount(text) > MaxText)
        {
            throw new ArgumentException($"a text in the header is longer than {MaxText} bytes");
        }
    }

    private static bool TryText(ref MsgPackReader reader, out string text)
    {
        bool read = reader.TryReadText(MaxText, out ReadOnlySpan<byte> utf8);
        text = Encoding.UTF8.GetString(utf8);
        return read;
    }
}
