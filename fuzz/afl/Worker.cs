namespace VmFuzz.Fuzz.Afl;

/// <summary>Runs test cases in this process until one kills it or AFL++ is gone.</summary>
internal sealed unsafe class Worker
{
    private readonly CoveredTarget _target;
    private readonly int* _debt;
    private readonly byte* _cases;
    private readonly string? _file;
    private readonly byte[] _buffer = new byte[1 << 20];

    /// <param name="target">Warmed up.</param>
    /// <param name="debt">The word shared with the supervisor; see <see cref="Debt"/>.</param>
    /// <param name="cases">The segment of test cases, or null.</param>
    /// <param name="file">Where test cases are when there is no such segment; null for standard input.</param>
    public Worker(CoveredTarget target, int* debt, byte* cases, string? file)
    {
        _target = target;
        _debt = debt;
        _cases = cases;
        _file = file;
    }

    /// <summary>Answers requests. Comes back when AFL++ closes its end.</summary>
    public void Serve()
    {
        uint self = (uint)Environment.ProcessId;
        while (Native.TryRead(ForkServer.Control, out _))
        {
            Volatile.Write(ref *_debt, Debt.Both);
            if (!Native.TryWrite(ForkServer.Status, self))
            {
                return;
            }

            Volatile.Write(ref *_debt, Debt.Status);
            bool fine = _target.Run(Next());
            bool heard = Native.TryWrite(ForkServer.Status, fine ? 0 : ForkServer.Aborted);
            Volatile.Write(ref *_debt, Debt.None);
            if (!heard)
            {
                return;
            }
        }
    }

    /// <summary>The test case that is due.</summary>
    public ReadOnlySpan<byte> Next()
    {
        if (_cases != null)
        {
            // SAFETY: AFL++ makes this segment for its largest test case and keeps it mapped in this process for good.
            return new(_cases + sizeof(uint), *(int*)_cases);
        }

        return _file is null ? _buffer.AsSpan(0, Native.ReadFromStart(0, _buffer)) : File.ReadAllBytes(_file);
    }
}
