using System.Collections.Immutable;
using VmFuzz.Arch;
using VmFuzz.Machines;

namespace VmFuzz.Fuzzing;

/// <summary>Mutators of what a machine starts from and of what comes from outside: registers, memory, events, answers.</summary>
internal static class OutsideMutators
{
    private const FuzzTargets Targets = FuzzTargets.GuestCode | FuzzTargets.ExitHandlers;
    private const int StormLength = 16;

    private static readonly ImmutableArray<InputKind> Kinds =
    [
        InputKind.Interrupt, InputKind.Interrupt, InputKind.Nmi, InputKind.Smi, InputKind.Init, InputKind.Sipi, InputKind.MachineCheck,
        InputKind.ConsoleByte, InputKind.Signal, InputKind.Kick, InputKind.Kick, InputKind.Reschedule, InputKind.HostVector,
        InputKind.StealDelay, InputKind.PageAbsent, InputKind.PageReady, InputKind.PmuOverflow, InputKind.AllocationFailure,
    ];

    private static readonly ImmutableArray<InputPoint> Points =
    [
        InputPoint.Boundary, InputPoint.Boundary, InputPoint.Boundary, InputPoint.Boundary, InputPoint.Signal, InputPoint.Reschedule,
        InputPoint.AfterRequests, InputPoint.AfterInjection, InputPoint.AfterPrepare, InputPoint.BeforeLastCheck, InputPoint.BeforeEntry,
        InputPoint.Blocked, InputPoint.Userspace,
    ];

    public static readonly ImmutableArray<Mutator> Rows =
    [
        Events("events.add", 25, static (ref MutationContext c) => Add(ref c, Event(ref c))),
        Events("events.move", 15, static (ref MutationContext c) => Change(ref c, static (ref MutationContext c, ScheduledEvent e) =>
            e with { At = c.OneIn(2) ? Position(ref c) : e.At + 1 - (2 * (ulong)c.Pick(2)) })),
        Events("events.change", 15, static (ref MutationContext c) => Change(ref c, static (ref MutationContext c, ScheduledEvent e) =>
            Event(ref c) with { At = e.At })),
        Events("events.point", 10, static (ref MutationContext c) => Change(ref c, static (ref MutationContext c, ScheduledEvent e) =>
            e with { Point = c.Pick(Points) })),
        Events("events.remove", 15, static (ref MutationContext c) => Remove(ref c, c.Input.Events)),
        Events("events.storm", 8, Storm),
        new("answers.add", Targets, 15, FuzzSections.Answers, static (ref MutationContext c) =>
        {
            c.Input.Answers.Insert(c.Pick(c.Input.Answers.Count + 1), c.Word());
            return MutationResult.Mutated;
        }),
        new("answers.boundary", Targets, 15, FuzzSections.Answers, static (ref MutationContext c) =>
        {
            List<ulong> answers = c.Input.Answers;
            if (answers.Count == 0)
            {
                return MutationResult.Skipped;
            }

            int at = c.Pick(answers.Count);
            answers[at] = c.OneIn(2) ? c.Pick(FuzzTables.Boundaries) : c.Near(answers[at]);
            return MutationResult.Mutated;
        }),
        new("answers.remove", Targets, 8, FuzzSections.Answers, static (ref MutationContext c) => Remove(ref c, c.Input.Answers)),
        new("registers.set", Targets, 25, FuzzSections.Registers, static (ref MutationContext c) =>
        {
            ushort id = c.OneIn(3) ? c.Pick(Canonical.RegisterIds) : (ushort)c.Pick(16);
            c.Input.Registers.Add(new RegisterOverride(id, c.Word()));
            return MutationResult.Mutated;
        }),
        new("registers.start", Targets, 20, FuzzSections.Registers, static (ref MutationContext c) =>
        {
            c.Input.Registers.Add(c.Pick(FuzzStart.Choices));
            return MutationResult.Mutated;
        }),
        new("registers.change", Targets, 15, FuzzSections.Registers, static (ref MutationContext c) =>
        {
            List<RegisterOverride> registers = c.Input.Registers;
            if (registers.Count == 0)
            {
                return MutationResult.Skipped;
            }

            int at = c.Pick(registers.Count);
            registers[at] = registers[at] with { Value = c.Near(registers[at].Value) };
            return MutationResult.Mutated;
        }),
        new("registers.remove", Targets, 10, FuzzSections.Registers, static (ref MutationContext c) => Remove(ref c, c.Input.Registers)),
        new("patches.add", Targets, 12, FuzzSections.Patches, static (ref MutationContext c) =>
        {
            if (c.Input.Patches.Count >= FuzzLimits.Items)
            {
                return MutationResult.Skipped;
            }

            c.Input.Patches.Insert(c.Pick(c.Input.Patches.Count + 1), new MemoryPatch(Address(ref c), Bytes(ref c)));
            return MutationResult.Mutated;
        }),
        new("patches.change", Targets, 12, FuzzSections.Patches, static (ref MutationContext c) =>
        {
            List<MemoryPatch> patches = c.Input.Patches;
            if (patches.Count == 0)
            {
                return MutationResult.Skipped;
            }

            int at = c.Pick(patches.Count);
            MemoryPatch patch = patches[at];
            int byteAt = c.Pick(patch.Bytes.Length);
            patches[at] = c.OneIn(3)
                ? patch with { Address = c.OneIn(2) ? Address(ref c) : c.Near(patch.Address) }
                : patch with { Bytes = patch.Bytes.SetItem(byteAt, (byte)c.Near(patch.Bytes[byteAt])) };
            return MutationResult.Mutated;
        }),
        new("patches.remove", Targets, 6, FuzzSections.Patches, static (ref MutationContext c) => Remove(ref c, c.Input.Patches)),
    ];

    private delegate ScheduledEvent EventChange(ref MutationContext c, ScheduledEvent e);

    private static Mutator Events(string id, int weight, MutatorApply apply) => new(id, Targets, weight, FuzzSections.Events, apply);

    private static MutationResult Remove<T>(ref MutationContext c, List<T> list)
    {
        if (list.Count == 0)
        {
            return MutationResult.Skipped;
        }

        int at = c.Pick(list.Count);
        list.RemoveRange(at, c.OneIn(4) ? list.Count - at : 1);
        return MutationResult.Mutated;
    }

    private static MutationResult Change(ref MutationContext c, EventChange change)
    {
        List<ScheduledEvent> events = c.Input.Events;
        if (events.Count == 0)
        {
            return MutationResult.Skipped;
        }

        int at = c.Pick(events.Count);
        events[at] = change(ref c, events[at]);
        return MutationResult.Mutated;
    }

    private static MutationResult Add(ref MutationContext c, ScheduledEvent added)
    {
        if (c.Input.Events.Count >= FuzzLimits.Items)
        {
            return MutationResult.Skipped;
        }

        c.Input.Events.Add(added);
        return MutationResult.Mutated;
    }

    private static MutationResult Storm(ref MutationContext c)
    {
        ScheduledEvent first = Event(ref c);
        ulong step = (ulong)c.Pick(3);
        int count = 2 + c.Pick(StormLength - 1);
        MutationResult result = MutationResult.Skipped;
        for (int i = 0; i < count; i++)
        {
            result |= Add(ref c, first with { At = unchecked(first.At + ((ulong)i * step)) });
        }

        return result;
    }

    private static ScheduledEvent Event(ref MutationContext c)
    {
        InputKind kind = c.Pick(Kinds);
        ulong value = kind switch
        {
            InputKind.Interrupt or InputKind.HostVector or InputKind.Sipi or InputKind.ConsoleByte => (ulong)c.Pick(256),
            InputKind.StealDelay => c.Word() & 0xFF_FFFF,
            InputKind.PageAbsent or InputKind.PageReady => (ulong)c.Pick(4096),
            InputKind.PmuOverflow => (ulong)c.Pick(8),
            _ => 0,
        };
        return new ScheduledEvent(Position(ref c), c.Pick(Points), kind, value);
    }

    // Short runs matter most: positions are small, or beside an event that is there already.
    private static ulong Position(ref MutationContext c)
    {
        List<ScheduledEvent> events = c.Input.Events;
        return c.Pick(4) switch
        {
            0 => (ulong)c.Pick(8),
            1 => (ulong)c.Pick(128),
            2 => (ulong)c.Pick(4096),
            _ when events.Count != 0 => events[c.Pick(events.Count)].At + (ulong)c.Pick(3),
            _ => (ulong)c.Pick(32),
        };
    }

    // Page tables, the tables of descriptors and interrupts, the stack and the code.
    private static ulong Address(ref MutationContext c) => c.Pick(5) switch
    {
        0 => (c.OneIn(2) ? FuzzLayout.Descriptors : FuzzLayout.TaskState) + (ulong)c.Pick(0x40),
        1 => FlatMachine.PageTables + (8 * (ulong)c.Pick(0xC00)),
        2 => c.OneIn(4) ? FuzzLayout.InterruptTable + (8 * (ulong)c.Pick(0x200)) : FuzzLayout.Stack - 0x80 + (ulong)c.Pick(0x100),
        3 => FuzzLayout.Code + (ulong)c.Pick(0x1000),
        _ => c.Word() & 0xFF_FFFF,
    };

    private static ImmutableArray<byte> Bytes(ref MutationContext c)
    {
        byte[] bytes = new byte[c.OneIn(4) ? 1 + c.Pick(32) : 1 << c.Pick(4)];
        ulong word = c.Word();
        for (int i = 0; i < bytes.Length; i++)
        {
            bytes[i] = (byte)(word >> (8 * (i & 7)));
        }

        return [.. bytes];
    }
}
