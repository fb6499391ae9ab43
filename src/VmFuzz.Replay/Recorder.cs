using VmFuzz.Machines;
using VmFuzz.Trace;

namespace VmFuzz.Replay;

/// <summary>Writes what a machine does into a trace.</summary>
public sealed class Recorder : EventBuilder, IDisposable
{
    private readonly TraceWriter _writer;

    /// <summary>Starts to record a machine that has not run yet.</summary>
    /// <param name="machine">The machine.</param>
    /// <param name="writer">A new writer whose header came from <see cref="TraceHeaders.Of"/>.</param>
    public Recorder(Machine machine, TraceWriter writer)
        : base(machine)
    {
        _writer = writer;
        foreach (MachineImage image in machine.Options.Images)
        {
            writer.AddBlob(image.Bytes.Span);
        }

        machine.Observe(this);
    }

    /// <summary>Events written so far.</summary>
    public ulong Events => _writer.Count;

    /// <summary>Bytes written so far.</summary>
    public long Bytes => _writer.Length;

    /// <summary>Is shown every event that was written; the object is reused. For logs.</summary>
    public Action<TraceEvent>? Written { get; set; }

    /// <summary>Makes what was recorded so far survive the end of this process.</summary>
    public void Flush() => _writer.Flush();

    /// <inheritdoc/>
    public void Dispose() => _writer.Dispose();

    /// <inheritdoc/>
    protected override void Emit(TraceEvent made)
    {
        if (made.Kind == TraceEventKind.End)
        {
            _writer.Finish(made);
        }
        else
        {
            _writer.Append(made);
        }

        Written?.Invoke(made);
    }
}
