using System.Collections.Immutable;
using VmFuzz.Arch;
using VmFuzz.Vmx;

namespace VmFuzz.Fuzzing;

/// <summary>How the qualification of an exit reason is read (SDM "Basic VM-Exit Information").</summary>
/// <param name="Reasons">The reasons.</param>
/// <param name="Read">Its parts; empty when this exit has none.</param>
internal sealed record QualificationRow(ImmutableArray<ExitReason> Reasons, Func<VmExit, ImmutableArray<InputFact>> Read)
{
    private static readonly BitNames EptBits = BitNames.Of(typeof(EptViolationQualification));

    private static readonly ImmutableArray<string> ApicAccessTypes =
        ["linear read", "linear write", "linear fetch", "linear, event delivery", "4", "5", "6", "7", "8", "9", "physical, event delivery", "11", "12", "13", "14", "physical"];

    /// <summary>The rows.</summary>
    public static ImmutableArray<QualificationRow> All { get; } =
    [
        new([ExitReason.ExceptionOrNmi], Exception),
        new([ExitReason.StartupIpi, ExitReason.VirtualizedEoi], static e => [new("vector", InputLines.Hex(e.Qualification & 0xFF))]),
        new([ExitReason.TaskSwitch], static e =>
        {
            var q = new TaskSwitchQualification(e.Qualification);
            return [new("selector", InputLines.Hex(q.Selector)), new("source", q.Source.ToString())];
        }),
        new([ExitReason.ControlRegisterAccess], ControlRegister),
        new([ExitReason.MovDr], static e =>
        {
            var q = new DebugRegisterQualification(e.Qualification);
            return [new("access", q.FromDr ? "from debug register" : "to debug register"), new("debug register", "dr" + q.Register), new("register", Name(q.Gpr))];
        }),
        new([ExitReason.IoInstruction, ExitReason.IoSmi], static e =>
        {
            var q = new IoQualification(e.Qualification);
            return
            [
                new("direction", q.IsIn ? "in" : "out"), new("port", InputLines.Hex(q.Port)), new("bytes", InputLines.Decimal((ulong)q.Size)),
                new("string", InputLines.YesNo(q.IsString)), new("rep", InputLines.YesNo(q.IsRep)),
                new("operand", q.IsImmediate ? "immediate" : "dx"),
            ];
        }),
        new([ExitReason.EntryFailureInvalidGuestState], static e =>
        [
            new("failure", e.Qualification switch
            {
                0 => "guest state",
                ExitQualification.EntryFailurePdpte => "loading PDPTEs",
                ExitQualification.EntryFailureNmiInjection => "NMI while events are blocked by STI",
                ExitQualification.EntryFailureLinkPointer => "VMCS link pointer",
                _ => "no such failure",
            }),
        ]),
        new([ExitReason.EntryFailureMsrLoading], static e => [new("entry of the area", InputLines.Decimal(e.Qualification))]),
        new([ExitReason.ApicAccess], static e =>
        [
            new("offset", InputLines.Hex(e.Qualification & 0xFFF)),
            new("access", ApicAccessTypes[(int)((e.Qualification >> 12) & 0xF)]),
            new("asynchronous", InputLines.YesNo((e.Qualification & (1 << 16)) != 0)),
        ]),
        new([ExitReason.ApicWrite], static e => [new("offset", InputLines.Hex(e.Qualification & 0xFFF))]),
        new([ExitReason.EptViolation], static e => [new("bits", EptBits.List(e.Qualification))]),
        new([ExitReason.Mwait, ExitReason.Umwait, ExitReason.Tpause], static e => [new("monitor armed", InputLines.YesNo((e.Qualification & 1) != 0))]),
        new([ExitReason.Invlpg], static e => [new("linear address", InputLines.Hex(e.Qualification))]),
        new(
            [
                ExitReason.GdtrOrIdtrAccess, ExitReason.LdtrOrTrAccess, ExitReason.Vmclear, ExitReason.Vmptrld, ExitReason.Vmptrst,
                ExitReason.Vmread, ExitReason.Vmwrite, ExitReason.Vmxon, ExitReason.Invept, ExitReason.Invvpid, ExitReason.Invpcid,
                ExitReason.Xsaves, ExitReason.Xrstors,
            ],
            static e => [new("displacement", InputLines.Hex(e.Qualification))]),
        new([ExitReason.PageModificationLogFull, ExitReason.SppRelatedEvent], static e => [new("NMI unblocking", InputLines.YesNo((e.Qualification & (1 << 12)) != 0))]),
        new([ExitReason.InstructionTimeout], static e =>
        [
            new("context", (e.Qualification & 1) != 0 ? "invalid" : "valid"), new("NMI unblocking", InputLines.YesNo((e.Qualification & (1 << 12)) != 0)),
        ]),
    ];

    private static readonly ImmutableArray<QualificationRow?> ByReason =
        [.. Enumerable.Range(0, (int)ExitReason.Wrmsrlist + 1).Select(static r => All.FirstOrDefault(q => q.Reasons.Contains((ExitReason)r)))];

    /// <summary>The parts of an exit's qualification.</summary>
    public static ImmutableArray<InputFact> Of(in VmExit exit) =>
        (int)exit.Basic < ByReason.Length && ByReason[(int)exit.Basic] is { } row ? row.Read(exit) : [];

    private static ImmutableArray<InputFact> Exception(VmExit exit)
    {
        InterruptionInfo info = exit.InterruptionInfo;
        if (!info.Valid || info.Type != InterruptionType.HardwareException)
        {
            return [];
        }

        // SDM "Debug Exceptions", DR6: the bits of the qualification stand where DR6 has them.
        return info.Vector switch
        {
            Vector.Pf => [new("linear address", InputLines.Hex(exit.Qualification))],
            Vector.Db =>
            [
                new("breakpoints", InputLines.Hex(exit.Qualification & 0xF)),
                new("debug-register access", InputLines.YesNo((exit.Qualification & (1 << 13)) != 0)),
                new("single step", InputLines.YesNo((exit.Qualification & (1 << 14)) != 0)),
            ],
            _ => [],
        };
    }

    private static ImmutableArray<InputFact> ControlRegister(VmExit exit)
    {
        var q = new ControlRegisterQualification(exit.Qualification);
        return q.AccessType switch
        {
            ControlRegisterAccessType.Clts => [new("access", "clts")],
            ControlRegisterAccessType.Lmsw =>
                [new("access", "lmsw"), new("source", InputLines.Hex(q.LmswSource)), new("operand", q.LmswMemory ? "memory" : "register")],
            _ =>
            [
                new("access", q.AccessType == ControlRegisterAccessType.MovToCr ? "to control register" : "from control register"),
                new("control register", "cr" + q.Register), new("register", Name(q.Gpr)),
            ],
        };
    }

    private static string Name(Gpr register) => ArchitectureNames.Register((ushort)register);
}

/// <summary>Made exits in words.</summary>
internal static class InputTextExits
{
    public static InputFact Describe(int index, MadeExit made)
    {
        VmExit exit = made.Exit;
        string reason = $"{ArchitectureNames.Exit(exit.Reason)} ({InputLines.Decimal((ushort)exit.Reason)})";
        uint odd = exit.Reason & 0x7FFF_0000;
        var parts = ImmutableArray.CreateBuilder<InputFact>();
        if (odd != 0)
        {
            parts.Add(new("reason, bits 30:16", InputLines.Hex(odd)));
        }

        ImmutableArray<InputFact> read = QualificationRow.Of(exit);
        if (exit.Qualification != 0 || !read.IsEmpty)
        {
            parts.Add(new("qualification", InputLines.Hex(exit.Qualification), read));
        }

        Number(parts, "guest-linear address", exit.GuestLinear);
        Number(parts, "guest-physical address", exit.GuestPhysical);
        Event(parts, "interruption", exit.InterruptionInfo, exit.InterruptionError);
        Event(parts, "IDT vectoring", exit.IdtVectoringInfo, exit.IdtVectoringError);
        Number(parts, "instruction length", exit.InstructionLength);
        if (exit.InstructionInfo != 0)
        {
            parts.Add(new("instruction information", InputLines.Hex(exit.InstructionInfo), InstructionInformationRow.Of(exit)));
        }

        if (!made.Registers.IsEmpty)
        {
            parts.Add(new("registers", "", [.. made.Registers.Select(static r => new InputFact(ArchitectureNames.Register(r.Register), InputLines.Hex(r.Value)))]));
        }

        if (!made.GuestState.IsEmpty)
        {
            parts.Add(new("guest state", "", [.. made.GuestState.Select(static f => new InputFact(f.Field.ToString(), FieldMeaning.Value(f.Field, f.Value)))]));
        }

        return new(InputLines.Decimal((ulong)index), reason, parts.ToImmutable());
    }

    private static void Number(ImmutableArray<InputFact>.Builder parts, string name, ulong value)
    {
        if (value != 0)
        {
            parts.Add(new(name, InputLines.Hex(value)));
        }
    }

    private static void Event(ImmutableArray<InputFact>.Builder parts, string name, InterruptionInfo info, uint error)
    {
        if (info.Value != 0)
        {
            string text = ArchitectureNames.Interruption(info.Value) ?? "not valid";
            parts.Add(new(name, $"{InputLines.Hex(info.Value)} ({text}{(info.NmiUnblocking ? ", NMI unblocking" : "")})"));
        }

        Number(parts, name + " error code", error);
    }
}
