using System.Collections.Immutable;
using VmFuzz.Arch;
using VmFuzz.Vmx;

namespace VmFuzz.Kvm;

/// <summary>What an exit handler decides.</summary>
public enum ExitVerdict : byte
{
    /// <summary>Go on in the guest; RIP stays.</summary>
    Resume,

    /// <summary>The instruction is done: the dispatcher moves RIP past it, counts it, and goes on in the guest.</summary>
    RetireInstruction,

    /// <summary>Leave to userspace; <see cref="KvmRun.ExitReason"/> is set.</summary>
    ToUserspace,

    /// <summary>The instruction is done, then leave to userspace.</summary>
    RetireToUserspace,

    /// <summary>The run call fails with an errno.</summary>
    Error,
}

/// <summary>The result of an exit handler.</summary>
/// <param name="Verdict">What happens next.</param>
/// <param name="Errno">For Error: a positive <see cref="Arch.Errno"/>.</param>
public readonly record struct ExitOutcome(ExitVerdict Verdict, int Errno = 0)
{
    /// <summary>Go on in the guest; RIP stays.</summary>
    public static ExitOutcome Resume => new(ExitVerdict.Resume);

    /// <summary>The instruction is done.</summary>
    public static ExitOutcome RetireInstruction => new(ExitVerdict.RetireInstruction);

    /// <summary>Leave to userspace.</summary>
    public static ExitOutcome ToUserspace => new(ExitVerdict.ToUserspace);

    /// <summary>The instruction is done, then leave to userspace.</summary>
    public static ExitOutcome RetireToUserspace => new(ExitVerdict.RetireToUserspace);

    /// <summary>The run call fails.</summary>
    public static ExitOutcome Fail(int errno) => new(ExitVerdict.Error, errno);

    /// <summary>An emulator's or loop's integer: over 0 stay, 0 to userspace, below 0 an errno.</summary>
    public static ExitOutcome FromResult(int result) => result > 0 ? Resume : result == 0 ? ToUserspace : Fail(-result);
}

/// <summary>What a handler may write, for tests that watch it.</summary>
[Flags]
public enum ExitWrites
{
    /// <summary>Nothing but the run structure and counters.</summary>
    Nothing = 0,
    /// <summary>General registers.</summary>
    Gprs = 1,
    /// <summary>RIP, RFLAGS and segments.</summary>
    Flow = 2,
    /// <summary>Control, debug and model-specific registers.</summary>
    System = 4,
    /// <summary>Event queues and windows.</summary>
    Events = 8,
    /// <summary>Guest memory.</summary>
    Memory = 16,
    /// <summary>Second-stage tables.</summary>
    SecondStage = 32,
}

/// <summary>Handles one exit. Never touches RIP: the dispatcher retires the instruction by the recorded length.</summary>
public delegate ExitOutcome ExitHandler(Vcpu vcpu, in VmExit exit);

/// <summary>One row of the exit table.</summary>
/// <param name="Id">Id of the row.</param>
/// <param name="Reason">The basic exit reason.</param>
/// <param name="Handler">What handles it.</param>
/// <param name="Writes">What it may write.</param>
/// <param name="Row">Row of run-path.tsv that states it.</param>
/// <param name="Source">SDM section title or kernel function.</param>
public sealed record ExitRow(string Id, ExitReason Reason, ExitHandler Handler, ExitWrites Writes, string Row, string Source)
{
    internal int Number { get; } = RunPath.Number(Row);
}

/// <summary>The exit handlers: an immutable value, looked up by the basic exit reason.</summary>
public sealed class ExitTable
{
    private const int Reasons = 80;
    private readonly ImmutableArray<ExitRow> _rows;
    private readonly ExitRow?[] _byReason = new ExitRow?[Reasons];

    private ExitTable(ImmutableArray<ExitRow> rows)
    {
        _rows = rows;
        foreach (ExitRow row in rows)
        {
            _byReason[(int)row.Reason] = row;
        }
    }

    /// <summary>The handlers of this build.</summary>
    public static ExitTable Default { get; } = new(ExitRows.All);

    /// <summary>All rows.</summary>
    public ImmutableArray<ExitRow> Rows => _rows;

    /// <summary>A table in which the handler of a reason is replaced or added.</summary>
    /// <param name="reason">The reason.</param>
    /// <param name="handler">The handler.</param>
    /// <param name="writes">What it may write; null for what the replaced one may, and anything when there was none.</param>
    public ExitTable With(ExitReason reason, ExitHandler handler, ExitWrites? writes = null)
    {
        ExitRow? old = Find((ushort)reason);
        ExitRow row = old is null
            ? new ExitRow("user." + (int)reason, reason, handler, writes ?? (ExitWrites)0x3F, "S80", "a user's handler")
            : old with { Handler = handler, Writes = writes ?? old.Writes };
        return new(old is null ? _rows.Add(row) : _rows.Replace(old, row));
    }

    /// <summary>A table without the row of a reason.</summary>
    public ExitTable Without(ExitReason reason)
    {
        ExitRow? old = Find((ushort)reason);
        return old is null ? this : new(_rows.Remove(old));
    }

    /// <summary>The row of a 16-bit reason; null when there is none.</summary>
    public ExitRow? Find(ushort reason) => reason < Reasons ? _byReason[reason] : null;
}
