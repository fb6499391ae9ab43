using System.Collections.Immutable;
using VmFuzz.Arch;
using VmFuzz.Vmx;

namespace VmFuzz.Fuzzing;

/// <summary>Mutators of the sequence of made exits.</summary>
internal static class ExitMutators
{
    // Reasons of exits that can be made.
    private static readonly ImmutableArray<ExitReason> Playable = FuzzTables.Reasons.RemoveAll(static r => ExitWay.Find(r) is null);

    public static readonly ImmutableArray<Mutator> Rows =
    [
        Row("exits.add", 50, static (ref MutationContext c) =>
        {
            if (c.Input.Exits.Count >= FuzzLimits.Items)
            {
                return MutationResult.Skipped;
            }

            c.Input.Exits.Insert(c.Pick(c.Input.Exits.Count + 1), ExitTemplate.Of(c.Pick(Playable), c.Random));
            return MutationResult.Mutated;
        }),
        Row("exits.fail-entry", 10, static (ref MutationContext c) =>
        {
            if (c.Input.Exits.Count >= FuzzLimits.Items)
            {
                return MutationResult.Skipped;
            }

            VmExit failure = new(VmExit.EntryFailureBit | (uint)c.Pick(MadeExitPlayer.EntryFailures), (ulong)c.Pick(5));
            c.Input.Exits.Insert(c.Pick(c.Input.Exits.Count + 1), new MadeExit(failure));
            return MutationResult.Mutated;
        }),
        Row("exits.duplicate", 15, static (ref MutationContext c) =>
        {
            List<MadeExit> exits = c.Input.Exits;
            if (exits.Count is 0 or >= FuzzLimits.Items)
            {
                return MutationResult.Skipped;
            }

            int at = c.Pick(exits.Count);
            exits.Insert(c.OneIn(2) ? at : c.Pick(exits.Count + 1), exits[at]);
            return MutationResult.Mutated;
        }),
        Row("exits.remove", 20, static (ref MutationContext c) =>
        {
            List<MadeExit> exits = c.Input.Exits;
            if (exits.Count == 0)
            {
                return MutationResult.Skipped;
            }

            int at = c.Pick(exits.Count);
            exits.RemoveRange(at, 1 + c.Pick(Math.Min(4, exits.Count - at)));
            return MutationResult.Mutated;
        }),
        Row("exits.swap", 10, static (ref MutationContext c) =>
        {
            List<MadeExit> exits = c.Input.Exits;
            int left = c.Pick(exits.Count);
            int right = c.Pick(exits.Count);
            if (left == right)
            {
                return MutationResult.Skipped;
            }

            (exits[left], exits[right]) = (exits[right], exits[left]);
            return MutationResult.Mutated;
        }),
        Row("exits.splice", 20, static (ref MutationContext c) =>
        {
            List<MadeExit> other = c.Other.Exits;
            if (other.Count == 0 || c.Input.Exits.Count >= FuzzLimits.Items)
            {
                return MutationResult.Skipped;
            }

            int from = c.Pick(other.Count);
            List<MadeExit> part = other.GetRange(from, 1 + c.Pick(Math.Min(8, other.Count - from)));
            c.Input.Exits.InsertRange(c.Pick(c.Input.Exits.Count + 1), part);
            return MutationResult.Mutated;
        }),
        Row("exits.reason", 15, static (ref MutationContext c) => Change(ref c, static (ref MutationContext c, MadeExit made) =>
            made with { Exit = made.Exit with { Reason = c.OneIn(16) ? (uint)c.Word() : (uint)c.Pick(FuzzTables.Reasons) | (c.OneIn(16) ? VmExit.EntryFailureBit : 0) } })),
        Row("exits.remake", 25, static (ref MutationContext c) => Change(ref c, static (ref MutationContext c, MadeExit made) =>
            ExitTemplate.Of(made.Exit.Basic, c.Random))),
        Row("exits.field", 30, static (ref MutationContext c) => Change(ref c, static (ref MutationContext c, MadeExit made) =>
            made with { Exit = OneFieldOff(ref c, made.Exit) })),
        Row("exits.qualification-bit", 30, static (ref MutationContext c) => Change(ref c, static (ref MutationContext c, MadeExit made) =>
            made with { Exit = made.Exit with { Qualification = made.Exit.Qualification ^ (1UL << c.Pick(c.OneIn(4) ? 64 : 32)) } })),
        Row("exits.vectoring", 15, static (ref MutationContext c) => Change(ref c, static (ref MutationContext c, MadeExit made) =>
            c.OneIn(4)
                ? made with { Exit = made.Exit with { IdtVectoringInfo = default, IdtVectoringError = 0 } }
                : made with { Exit = made.Exit with { IdtVectoringInfo = ExitTemplate.Event(c.Random, out uint code), IdtVectoringError = code } })),
        Row("exits.register", 30, static (ref MutationContext c) => Change(ref c, static (ref MutationContext c, MadeExit made) =>
            made with { Registers = Set(made.Registers, new((ushort)(c.OneIn(8) ? c.Pick(Canonical.RegisterIds) : c.Pick(16)), c.Word())) })),
        Row("exits.guest-state", 30, static (ref MutationContext c) => Change(ref c, static (ref MutationContext c, MadeExit made) =>
            made with { GuestState = Set(made.GuestState, GuestField(ref c)) })),
        Row("exits.guest-states", 50, static (ref MutationContext c) => Change(ref c, static (ref MutationContext c, MadeExit made) =>
        {
            ImmutableArray<FieldOverride> fields = c.Pick(GuestStates.All).Fields;
            return made.GuestState.Length + fields.Length > FuzzLimits.OverridesOfExit ? made : made with { GuestState = made.GuestState.AddRange(fields) };
        })),
        Row("exits.step", 20, static (ref MutationContext c) => Change(ref c, static (ref MutationContext c, MadeExit made) =>
        {
            ImmutableArray<FieldOverride> fields = c.Pick(GuestStates.Steps).Fields;
            InterruptionInfo trap = new(InterruptionType.HardwareException, Vector.Db);
            return made.GuestState.Length + fields.Length > FuzzLimits.OverridesOfExit ? made : made with
            {
                Exit = new VmExit((uint)ExitReason.ExceptionOrNmi, PendingDebugExceptions.Bs, InterruptionInfo: trap),
                GuestState = made.GuestState.AddRange(fields),
            };
        })),
        Row("exits.drop-overrides", 10, static (ref MutationContext c) => Change(ref c, static (ref MutationContext c, MadeExit made) => c.OneIn(2)
            ? made with { Registers = DropOne(ref c, made.Registers) }
            : made with { GuestState = DropOne(ref c, made.GuestState) })),
    ];

    private delegate MadeExit ExitChange(ref MutationContext c, MadeExit made);

    private static Mutator Row(string id, int weight, MutatorApply apply) =>
        new(id, FuzzTargets.ExitHandlers, weight, FuzzSections.Exits, apply);

    private static MutationResult Change(ref MutationContext c, ExitChange change)
    {
        List<MadeExit> exits = c.Input.Exits;
        if (exits.Count == 0)
        {
            return MutationResult.Skipped;
        }

        int at = c.Pick(exits.Count);
        exits[at] = change(ref c, exits[at]);
        return MutationResult.Mutated;
    }

    private static VmExit OneFieldOff(ref MutationContext c, in VmExit exit) => c.Pick(9) switch
    {
        0 => exit with { Qualification = c.Near(exit.Qualification) },
        1 => exit with { GuestLinear = c.Near(exit.GuestLinear) },
        2 => exit with { GuestPhysical = c.Near(exit.GuestPhysical) },
        3 => exit with { InterruptionInfo = new InterruptionInfo((uint)c.Near(exit.InterruptionInfo.Value)) },
        4 => exit with { InterruptionError = (uint)c.Near(exit.InterruptionError) },
        5 => exit with { IdtVectoringInfo = new InterruptionInfo((uint)c.Near(exit.IdtVectoringInfo.Value)) },
        6 => exit with { IdtVectoringError = (uint)c.Near(exit.IdtVectoringError) },
        7 => exit with { InstructionLength = c.OneIn(4) ? (uint)c.Near(exit.InstructionLength) : (uint)c.Pick(16) },
        _ => exit with { InstructionInfo = (uint)c.Near(exit.InstructionInfo) },
    };

    private static FieldOverride GuestField(ref MutationContext c)
    {
        if (c.OneIn(2))
        {
            (VmcsField field, ImmutableArray<ulong> values) = c.Pick(FuzzTables.FieldValues);
            if (Canonical.IsGuestField(field))
            {
                return new FieldOverride(field, c.Pick(values));
            }
        }

        return new FieldOverride(c.Pick(FuzzTables.GuestFields), c.Word());
    }

    // The canonical form sorts; of two for one register the later stays.
    private static ImmutableArray<T> Set<T>(ImmutableArray<T> items, T item) =>
        items.Length < FuzzLimits.OverridesOfExit ? items.Add(item) : items.SetItem(items.Length - 1, item);

    private static ImmutableArray<T> DropOne<T>(ref MutationContext c, ImmutableArray<T> items) =>
        items.Length == 0 ? items : items.RemoveAt(c.Pick(items.Length));
}
