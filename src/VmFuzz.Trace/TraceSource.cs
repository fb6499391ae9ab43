using Microsoft.Win32.SafeHandles;

namespace VmFuzz.Trace;

/// <summary>The bytes of a file at any offset.</summary>
internal abstract class TraceSource : IDisposable
{
    /// <summary>Name for messages.</summary>
    public abstract string Name { get; }

    /// <summary>Bytes in all, when the source was opened.</summary>
    public abstract long Length { get; }

    /// <summary>Reads up to the whole of <paramref name="into"/>; less only at the end.</summary>
    public int Read(long offset, Span<byte> into)
    {
        int done = 0;
        try
        {
            while (done < into.Length)
            {
                int count = ReadSome(offset + done, into[done..]);
                if (count == 0)
                {
                    break;
                }

                done += count;
            }
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException or NotSupportedException)
        {
            throw new TraceFileException($"cannot read {Name}: {OneLine(error)}", error);
        }

        return done;
    }

    public abstract void Dispose();

    /// <summary>The message of an exception without line breaks.</summary>
    public static string OneLine(Exception error) => error.Message.ReplaceLineEndings(" ");

    public static TraceSource Open(string path)
    {
        try
        {
            return new FileSource(path, File.OpenHandle(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete));
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException)
        {
            throw new TraceFileException($"cannot read {path}: {OneLine(error)}", error);
        }
    }

    protected abstract int ReadSome(long offset, Span<byte> into);

    internal sealed class MemorySource(ReadOnlyMemory<byte> bytes) : TraceSource
    {
        public override string Name => "the trace";

        public override long Length => bytes.Length;

        public override void Dispose()
        {
        }

        protected override int ReadSome(long offset, Span<byte> into)
        {
            ReadOnlySpan<byte> rest = bytes.Span[(int)Math.Min(offset, bytes.Length)..];
            int count = Math.Min(rest.Length, into.Length);
            rest[..count].CopyTo(into);
            return count;
        }
    }

    internal sealed class StreamSource(Stream stream, bool leaveOpen) : TraceSource
    {
        public override string Name => "the trace";

        public override long Length { get; } = stream.Length;

        public override void Dispose()
        {
            if (!leaveOpen)
            {
                stream.Dispose();
            }
        }

        protected override int ReadSome(long offset, Span<byte> into)
        {
            stream.Position = offset;
            return stream.Read(into);
        }
    }

    private sealed class FileSource(string path, SafeFileHandle handle) : TraceSource
    {
        public override string Name => path;

        public override long Length { get; } = RandomAccess.GetLength(handle);

        public override void Dispose() => handle.Dispose();

        protected override int ReadSome(long offset, Span<byte> into) => RandomAccess.Read(handle, into, offset);
    }
}
