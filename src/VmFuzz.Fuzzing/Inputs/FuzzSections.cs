using System.Collections.Immutable;
using System.Runtime.InteropServices;

namespace VmFuzz.Fuzzing;

/// <summary>A set of parts of an input.</summary>
[Flags]
public enum FuzzSections : ushort
{
    /// <summary>None.</summary>
    None = 0,
    /// <summary>Mode of the guest and base of the capabilities.</summary>
    Setup = 1 << 0,
    /// <summary>Start values of registers.</summary>
    Registers = 1 << 1,
    /// <summary>Code bytes.</summary>
    Code = 1 << 2,
    /// <summary>Memory patches.</summary>
    Patches = 1 << 3,
    /// <summary>Event schedule.</summary>
    Events = 1 << 4,
    /// <summary>Answers of userspace.</summary>
    Answers = 1 << 5,
    /// <summary>Made exits.</summary>
    Exits = 1 << 6,
    /// <summary>VMCS differences.</summary>
    Vmcs = 1 << 7,
    /// <summary>Capability MSRs.</summary>
    Capabilities = 1 << 8,
    /// <summary>Everything.</summary>
    All = Setup | Registers | Code | Patches | Events | Answers | Exits | Vmcs | Capabilities,
}

/// <summary>One list of an input, whatever its items are: what crossover and the minimiser work on.</summary>
public abstract class FuzzSectionRow
{
    private protected FuzzSectionRow(FuzzSections section, string name)
    {
        Section = section;
        Name = name;
    }

    /// <summary>The section.</summary>
    public FuzzSections Section { get; }

    /// <summary>Name for people and in names of operations.</summary>
    public string Name { get; }

    /// <summary>Every list, in the order of the encoding.</summary>
    public static ImmutableArray<FuzzSectionRow> All { get; } =
    [
        new ListRow<RegisterOverride>(FuzzSections.Registers, "registers", static i => i.Registers),
        new ListRow<byte>(FuzzSections.Code, "code", static i => i.Code),
        new ListRow<MemoryPatch>(FuzzSections.Patches, "patches", static i => i.Patches),
        new ListRow<ScheduledEvent>(FuzzSections.Events, "events", static i => i.Events),
        new ListRow<ulong>(FuzzSections.Answers, "answers", static i => i.Answers),
        new ListRow<MadeExit>(FuzzSections.Exits, "exits", static i => i.Exits),
        new ListRow<FieldOverride>(FuzzSections.Vmcs, "vmcs", static i => i.Vmcs),
        new ListRow<CapabilityOverride>(FuzzSections.Capabilities, "capabilities", static i => i.Capabilities),
    ];

    /// <summary>Items of the list.</summary>
    public abstract int Count(FuzzInput input);

    /// <summary>Takes items out.</summary>
    public abstract void Remove(FuzzInput input, int at, int count);

    /// <summary>Makes the list of one input that of another.</summary>
    public abstract void Copy(FuzzInput from, FuzzInput to);

    /// <summary>Inserts items of another input's list.</summary>
    public abstract void Insert(FuzzInput from, int at, int count, FuzzInput to, int place);

    /// <summary>Whether two inputs have the same list.</summary>
    public abstract bool Same(FuzzInput left, FuzzInput right);

    private sealed class ListRow<T>(FuzzSections section, string name, Func<FuzzInput, List<T>> list) : FuzzSectionRow(section, name)
        where T : IEquatable<T>
    {
        public override int Count(FuzzInput input) => list(input).Count;

        public override void Remove(FuzzInput input, int at, int count) => list(input).RemoveRange(at, count);

        public override void Copy(FuzzInput from, FuzzInput to)
        {
            List<T> into = list(to);
            into.Clear();
            into.AddRange(list(from));
        }

        public override void Insert(FuzzInput from, int at, int count, FuzzInput to, int place) =>
            list(to).InsertRange(place, list(from).GetRange(at, count));

        public override bool Same(FuzzInput left, FuzzInput right) =>
            CollectionsMarshal.AsSpan(list(left)).SequenceEqual(CollectionsMarshal.AsSpan(list(right)));
    }
}
