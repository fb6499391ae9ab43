namespace VmFuzz.Trace;

/// <summary>A trace file cannot be made, written or read. The message is one line for people and names the file.</summary>
public sealed class TraceFileException : Exception
{
    /// <summary>Makes the exception with a general message.</summary>
    public TraceFileException()
        : base("the trace file cannot be used")
    {
    }

    /// <summary>Makes the exception.</summary>
    /// <param name="message">One line for people.</param>
    public TraceFileException(string message)
        : base(message)
    {
    }

    /// <summary>Makes the exception.</summary>
    /// <param name="message">One line for people.</param>
    /// <param name="inner">What went wrong below.</param>
    public TraceFileException(string message, Exception inner)
        : base(message, inner)
    {
    }
}
