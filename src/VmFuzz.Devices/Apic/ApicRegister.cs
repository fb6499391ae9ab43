using System.Collections.Immutable;

namespace VmFuzz.Devices.Apic;

/// <summary>How a register can be reached.</summary>
[Flags]
internal enum ApicAccess : byte
{
    None = 0,
    XRead = 1,
    XWrite = 2,
    X2Read = 4,
    X2Write = 8,
    Read = XRead | X2Read,
    Write = XWrite | X2Write,
    ReadWrite = Read | Write,
}

/// <summary>One register, or a run of registers with one meaning.</summary>
/// <param name="First">Number of the first: its offset divided by 16, its MSR less 0x800.</param>
/// <param name="Last">Number of the last.</param>
/// <param name="Name">Name as in the SDM.</param>
/// <param name="Access">How it can be reached.</param>
/// <param name="Initial">Value after power-on.</param>
/// <param name="Writable">Bits that a write sets.</param>
/// <param name="Fixed">Further bits that a write in x2APIC mode may carry: read-only, not reserved.</param>
/// <param name="Reads">What a read gives; null for what is stored.</param>
/// <param name="Writes">What a write does, with the value's writable bits; null for storing them.</param>
internal sealed record ApicRegister(
    int First,
    int Last,
    string Name,
    ApicAccess Access,
    uint Initial = 0,
    uint Writable = 0,
    uint Fixed = 0,
    Func<LocalApic, uint>? Reads = null,
    Action<LocalApic, int, uint>? Writes = null);

/// <summary>The registers of a local APIC (SDM "Local APIC Register Address Map", "x2APIC Register Address Space").</summary>
internal static class ApicRegisters
{
    public const int Count = 64;
    public const int Id = 0x02;
    public const int TaskPriority = 0x08;
    public const int LogicalDestination = 0x0D;
    public const int DestinationFormat = 0x0E;
    public const int SpuriousVector = 0x0F;
    public const int InService = 0x10;
    public const int TriggerMode = 0x18;
    public const int Requests = 0x20;
    public const int ErrorStatus = 0x28;
    public const int LvtCmci = 0x2F;
    public const int CommandLow = 0x30;
    public const int CommandHigh = 0x31;
    public const int LvtTimer = 0x32;
    public const int LvtThermal = 0x33;
    public const int LvtPerformance = 0x34;
    public const int LvtLint0 = 0x35;
    public const int LvtLint1 = 0x36;
    public const int LvtError = 0x37;
    public const int InitialCount = 0x38;
    public const int Divide = 0x3E;

    public const uint Masked = 1 << 16;
    public const uint RemoteIrr = 1 << 14;
    public const uint LevelTriggered = 1 << 15;
    public const uint SoftwareEnabled = 1 << 8;
    public const uint SuppressBroadcast = 1 << 12;

    // Delivery status of LVT entries: no message waits in this model.
    private const uint DeliveryStatus = 1 << 12;

    // Version 0x14, seven LVT entries, suppression of EOI broadcasts.
    private const uint VersionValue = 0x0106_0014;

    public static readonly ImmutableArray<ApicRegister> Rows =
    [
        new(Id, Id, "ID", ApicAccess.Read | ApicAccess.XWrite, Writable: 0xFF00_0000, Reads: static a => a.ReadId()),
        new(0x03, 0x03, "version", ApicAccess.Read, Reads: static _ => VersionValue),
        new(TaskPriority, TaskPriority, "TPR", ApicAccess.ReadWrite, Writable: 0xFF, Writes: static (a, _, v) => a.WriteTaskPriority((byte)v)),

        // Arbitration priority and remote read have no meaning since arbitration left the APIC bus; they read 0.
        new(0x09, 0x09, "APR", ApicAccess.XRead, Reads: static _ => 0),
        new(0x0A, 0x0A, "PPR", ApicAccess.Read, Reads: static a => a.ProcessorPriority),
        new(0x0B, 0x0B, "EOI", ApicAccess.Write, Writes: static (a, _, _) => a.EndOfInterrupt()),
        new(0x0C, 0x0C, "RRD", ApicAccess.XRead, Reads: static _ => 0),
        new(LogicalDestination, LogicalDestination, "LDR", ApicAccess.Read | ApicAccess.XWrite, Writable: 0xFF00_0000, Reads: static a => a.ReadLogicalDestination()),
        new(DestinationFormat, DestinationFormat, "DFR", ApicAccess.XRead | ApicAccess.XWrite, Initial: uint.MaxValue, Writable: 0xF000_0000),
        new(SpuriousVector, SpuriousVector, "SVR", ApicAccess.ReadWrite, Initial: 0xFF, Writable: 0x11FF, Writes: static (a, _, v) => a.WriteSpuriousVector(v)),
        new(InService, InService + 7, "ISR", ApicAccess.Read),
        new(TriggerMode, TriggerMode + 7, "TMR", ApicAccess.Read),
        new(Requests, Requests + 7, "IRR", ApicAccess.Read),
        new(ErrorStatus, ErrorStatus, "ESR", ApicAccess.ReadWrite, Writes: static (a, _, _) => a.LatchErrors()),
        Lvt(LvtCmci, "LVT CMCI", 0x107FF),
        new(CommandLow, CommandLow, "ICR low", ApicAccess.ReadWrite, Writable: 0x000C_CFFF, Writes: static (a, _, v) => a.WriteCommand(v)),
        new(CommandHigh, CommandHigh, "ICR high", ApicAccess.XRead | ApicAccess.XWrite, Writable: 0xFF00_0000),
        Lvt(LvtTimer, "LVT timer", 0x700FF, static (a, _, v) => a.WriteLvtTimer(v)),
        Lvt(LvtThermal, "LVT thermal", 0x107FF),
        Lvt(LvtPerformance, "LVT performance", 0x107FF),
        Lvt(LvtLint0, "LVT LINT0", 0x1A7FF),
        Lvt(LvtLint1, "LVT LINT1", 0x1A7FF),
        Lvt(LvtError, "LVT error", 0x100FF),
        new(InitialCount, InitialCount, "initial count", ApicAccess.ReadWrite, Writable: uint.MaxValue, Writes: static (a, _, v) => a.WriteInitialCount(v)),
        new(0x39, 0x39, "current count", ApicAccess.Read, Reads: static a => a.CurrentCount),
        new(Divide, Divide, "divide configuration", ApicAccess.ReadWrite, Writable: 0xB, Writes: static (a, _, v) => a.WriteDivide(v)),
        new(0x3F, 0x3F, "self IPI", ApicAccess.X2Write, Writable: 0xFF, Writes: static (a, _, v) => a.SendSelf((byte)v)),
    ];

    /// <summary>The row of each number, or null.</summary>
    public static readonly ImmutableArray<ApicRegister?> ByNumber = Index();

    private static ApicRegister Lvt(int number, string name, uint writable, Action<LocalApic, int, uint>? writes = null) =>
        new(number, number, name, ApicAccess.ReadWrite, Masked, writable, DeliveryStatus | RemoteIrr, null, writes ?? (static (a, n, v) => a.WriteLvt(n, v)));

    private static ImmutableArray<ApicRegister?> Index()
    {
        var table = new ApicRegister?[Count];
        foreach (ApicRegister row in Rows)
        {
            table.AsSpan(row.First, row.Last - row.First + 1).Fill(row);
        }

        return [.. table];
    }
}
