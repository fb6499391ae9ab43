using System.Collections.Immutable;
using System.Runtime.InteropServices;
using VmFuzz.Arch;

namespace VmFuzz.Trace;

/// <summary>How a field is encoded and shown.</summary>
public enum TraceFieldType : byte
{
    /// <summary>Unsigned integer, shown in decimal.</summary>
    Number = 0,
    /// <summary>Unsigned integer, shown in hexadecimal.</summary>
    Hex = 1,
    /// <summary>Signed integer.</summary>
    Signed = 2,
    /// <summary>Unsigned integer of which some values have names.</summary>
    Named = 3,
    /// <summary>Byte string.</summary>
    Bytes = 4,
    /// <summary>Text, UTF-8.</summary>
    Text = 5,
    /// <summary>Changed control fields of the VMCS: a flat array of encoding, value, encoding, value.</summary>
    Controls = 6,
    /// <summary>Changed state: a flat array of component and an inner flat array of field, value, field, value.</summary>
    State = 7,
}

/// <summary>A value of a field and its name.</summary>
/// <param name="Value">The value.</param>
/// <param name="Name">The name, lower case.</param>
public readonly record struct TraceName(ulong Value, string Name);

/// <summary>One field of a kind of event: a row of the schema.</summary>
/// <param name="Key">Number of the field in its kind, 0 to 15; also its bit in the presence mask and its slot. Never reused.</param>
/// <param name="Name">Name for people, unique in the kind.</param>
/// <param name="Type">How it is encoded and shown.</param>
/// <param name="Max">Largest value; for byte strings, texts and deltas the largest length.</param>
/// <param name="Meaning">One sentence for the document.</param>
public sealed record TraceField(int Key, string Name, TraceFieldType Type, ulong Max, string Meaning)
{
    /// <summary>Names of values, when <see cref="Type"/> is <see cref="TraceFieldType.Named"/>.</summary>
    public ImmutableArray<TraceName> Names { get; init; } = [];

    /// <summary>Whether the value is one word in a slot.</summary>
    public bool IsScalar => Type <= TraceFieldType.Named;

    /// <summary>The name of a value, or null.</summary>
    public string? NameOf(ulong value)
    {
        foreach (TraceName name in Names)
        {
            if (name.Value == value)
            {
                return name.Name;
            }
        }

        return null;
    }
}

/// <summary>One kind of event: a row of the schema.</summary>
public sealed class TraceEventRow
{
    internal TraceEventRow(TraceEventKind kind, string name, params ImmutableArray<TraceField> fields)
    {
        Kind = kind;
        Name = name;
        Fields = fields;
        TraceField?[] byKey = new TraceField?[TraceSchema.SlotCount];
        foreach (TraceField field in fields)
        {
            Mask |= 1U << field.Key;
            byKey[field.Key] = field;
            ScalarMask |= field.IsScalar ? 1U << field.Key : 0;
            Deltas = field.Type is TraceFieldType.Controls or TraceFieldType.State ? field : Deltas;
            Bytes = field.Type is TraceFieldType.Bytes or TraceFieldType.Text ? field : Bytes;
        }

        ByKey = ImmutableCollectionsMarshal.AsImmutableArray(byKey);
    }

    /// <summary>The kind.</summary>
    public TraceEventKind Kind { get; }

    /// <summary>Its name for people.</summary>
    public string Name { get; }

    /// <summary>The fields in the order of their keys, which is the order in the file.</summary>
    public ImmutableArray<TraceField> Fields { get; }

    /// <summary>The fields by key; null where the kind has none.</summary>
    internal ImmutableArray<TraceField?> ByKey { get; }

    /// <summary>A bit for every key.</summary>
    public uint Mask { get; }

    /// <summary>A bit for every key whose value is a word in a slot.</summary>
    public uint ScalarMask { get; }

    /// <summary>The field that holds the deltas; a kind has at most one.</summary>
    public TraceField? Deltas { get; }

    /// <summary>The field that holds bytes or text; a kind has at most one.</summary>
    public TraceField? Bytes { get; }
}

/// <summary>
/// The table of all kinds of events. Encoding, decoding, comparison, text and the document come from it and from nothing else.
/// </summary>
public static class TraceSchema
{
    /// <summary>The version of the format that this code writes, and the newest that it reads.</summary>
    public const int Version = 1;
    /// <summary>The format's name, the first text in a file.</summary>
    public const string FormatName = "vmtrace";
    /// <summary>Slots of an event: one more than the largest key.</summary>
    public const int SlotCount = 16;
    /// <summary>VCPUs are numbered from 0 to one less than this.</summary>
    public const int MaxVcpus = 256;
    /// <summary>Longest byte string or text of an event. Unit: bytes.</summary>
    public const int MaxBytes = 65536;
    /// <summary>Most deltas of an event.</summary>
    public const int MaxDeltas = 4096;
    /// <summary>No event is longer in the file. Unit: bytes.</summary>
    internal const int MaxEncodedEvent = 131072;

    private const ulong Any = ulong.MaxValue;
    private const ulong Word = uint.MaxValue;

    private static readonly TraceField s_vcpu = new(TraceKeys.Vcpu, "vcpu", TraceFieldType.Number, MaxVcpus - 1, "Index of the VCPU.");
    private static readonly TraceField s_digest = new(TraceKeys.Digest, "digest", TraceFieldType.Hex, Any, "Digest of registers, VMCS, devices and consumed inputs.");
    private static readonly TraceField s_rip = new(TraceKeys.Rip, "rip", TraceFieldType.Hex, Any, "RIP of the guest.");
    private static readonly TraceField s_length = new(TraceKeys.InstructionLength, "instruction-length", TraceFieldType.Number, Word, "Instruction length in bytes.");
    private static readonly TraceField s_info = new(TraceKeys.InterruptionInfo, "interruption-info", TraceFieldType.Hex, Word, "Interruption information.");
    private static readonly TraceField s_error = new(TraceKeys.ErrorCode, "error-code", TraceFieldType.Hex, Word, "Error code of the event.");

    /// <summary>All kinds, in the order of their numbers.</summary>
    public static ImmutableArray<TraceEventRow> Rows { get; } =
    [
        new(TraceEventKind.Entry, "entry",
            s_vcpu,
            new(TraceKeys.EntryFlags, "flags", TraceFieldType.Hex, byte.MaxValue, "Bit 0: the pass emulated, the hardware was not entered."),
            s_length,
            new(TraceKeys.Deltas, "controls", TraceFieldType.Controls, MaxDeltas, "Control fields of the VMCS that changed since the last entry."),
            s_info,
            s_error),
        new(TraceEventKind.Exit, "exit",
            s_vcpu,
            s_digest,
            s_rip,
            new(TraceKeys.ExitReason, "reason", TraceFieldType.Hex, Word, "Exit reason with bit 31 (VM-entry failure)."),
            new(TraceKeys.Qualification, "qualification", TraceFieldType.Hex, Any, "Exit qualification."),
            s_length,
            new(TraceKeys.Deltas, "state", TraceFieldType.State, MaxDeltas, "State that changed since the last entry."),
            s_info,
            s_error,
            new(TraceKeys.GuestLinear, "guest-linear", TraceFieldType.Hex, Any, "Guest linear address."),
            new(TraceKeys.GuestPhysical, "guest-physical", TraceFieldType.Hex, Any, "Guest-physical address."),
            new(TraceKeys.IdtVectoringInfo, "idt-vectoring-info", TraceFieldType.Hex, Word, "IDT-vectoring information."),
            new(TraceKeys.IdtErrorCode, "idt-error-code", TraceFieldType.Hex, Word, "IDT-vectoring error code."),
            new(TraceKeys.InstructionInfo, "instruction-info", TraceFieldType.Hex, Word, "VM-exit instruction information.")),
        new(TraceEventKind.Injected, "injected", s_vcpu, s_digest, s_rip, s_info, s_error),
        new(TraceEventKind.Delivered, "delivered", s_vcpu, s_digest, s_rip, s_info, s_error),
        new(TraceEventKind.Input, "input",
            s_vcpu,
            s_digest,
            Names<InputPoint>(TraceKeys.InputPoint, "point", "Which place asked."),
            Names<InputKind>(TraceKeys.InputKind, "kind", "What came."),
            new(TraceKeys.Ordinal, "ordinal", TraceFieldType.Number, Word, "Consultations of the door before this one at the same count."),
            new(TraceKeys.Value, "value", TraceFieldType.Hex, Any, "The main word."),
            new(TraceKeys.Auxiliary, "auxiliary", TraceFieldType.Hex, Any, "The second word.")),
        new(TraceEventKind.Derived, "derived",
            s_vcpu,
            Names<ComponentId>(TraceKeys.Source, "source", "The component it comes from."),
            new(TraceKeys.DerivedValue, "value", TraceFieldType.Hex, Any, "The value.")),
        new(TraceEventKind.Request, "request",
            s_vcpu,
            new(TraceKeys.RequestNumber, "number", TraceFieldType.Number, Word, "Bit number of the request."),
            Names<TraceRequestPhase>(TraceKeys.RequestPhase, "phase", "Raised or served.")),
        new(TraceEventKind.UserspaceExit, "userspace-exit",
            s_vcpu,
            new(TraceKeys.UserspaceReason, "reason", TraceFieldType.Number, Word, "KVM exit reason."),
            new(TraceKeys.Errno, "errno", TraceFieldType.Signed, Word, "Result of the run call: 0 or a negative error number."),
            new(TraceKeys.Data0, "data0", TraceFieldType.Hex, Any, "First word of what the reason tells."),
            new(TraceKeys.Data0 + 1, "data1", TraceFieldType.Hex, Any, "Second word."),
            new(TraceKeys.Data0 + 2, "data2", TraceFieldType.Hex, Any, "Third word."),
            new(TraceKeys.Data0 + 3, "data3", TraceFieldType.Hex, Any, "Fourth word.")),
        new(TraceEventKind.Console, "console",
            s_vcpu,
            Names<TraceDirection>(TraceKeys.Direction, "direction", "Which way the bytes went."),
            new(TraceKeys.ConsoleBytes, "bytes", TraceFieldType.Bytes, MaxBytes, "The bytes.")),
        new(TraceEventKind.FirstAccess, "first-access",
            s_vcpu,
            s_rip,
            Names<TraceSpace>(TraceKeys.Space, "space", "Port or memory."),
            new(TraceKeys.Address, "address", TraceFieldType.Hex, Any, "Port number or guest-physical address."),
            new(TraceKeys.Size, "size", TraceFieldType.Number, Word, "Bytes."),
            new(TraceKeys.IsWrite, "write", TraceFieldType.Number, 1, "1 for a write.")),
        new(TraceEventKind.Sync, "sync", s_vcpu, s_digest),
        new(TraceEventKind.Checkpoint, "checkpoint",
            s_vcpu,
            s_digest,
            new(TraceKeys.MemoryDigest, "memory-digest", TraceFieldType.Hex, Any, "Digest of guest memory."),
            new(TraceKeys.CheckpointNumber, "number", TraceFieldType.Number, Word, "Number of the checkpoint, from 0.")),
        new(TraceEventKind.End, "end",
            s_vcpu,
            s_digest,
            new(TraceKeys.MemoryDigest, "memory-digest", TraceFieldType.Hex, Any, "Digest of guest memory."),
            new(TraceKeys.InputsHash, "inputs-hash", TraceFieldType.Hex, Any, "Running hash of all consumed inputs."),
            new(TraceKeys.Entries, "entries", TraceFieldType.Number, Any, "Entry events in the trace."),
            new(TraceKeys.Exits, "exits", TraceFieldType.Number, Any, "Exit events in the trace."),
            new(TraceKeys.InjectedEvents, "injected", TraceFieldType.Number, Any, "Injected events in the trace."),
            new(TraceKeys.DeliveredEvents, "delivered", TraceFieldType.Number, Any, "Delivered events in the trace."),
            new(TraceKeys.Inputs, "inputs", TraceFieldType.Number, Any, "Input events in the trace."),
            new(TraceKeys.ConsoleLength, "console-length", TraceFieldType.Number, Any, "Bytes the guest wrote to the console."),
            new(TraceKeys.ConsoleHash, "console-hash", TraceFieldType.Hex, Any, "Running hash of these bytes."),
            new(TraceKeys.Reason, "reason", TraceFieldType.Text, MaxBytes, "Why the run ended.")),
    ];

    /// <summary>The row of a kind, or null when the number is not one.</summary>
    public static TraceEventRow? Find(TraceEventKind kind)
    {
        int index = (int)kind - 1;
        return (uint)index < (uint)Rows.Length ? Rows[index] : null;
    }

    private static TraceField Names<T>(int key, string name, string meaning)
        where T : struct, Enum
    {
        ImmutableArray<TraceName>.Builder names = ImmutableArray.CreateBuilder<TraceName>();
        foreach (T value in Enum.GetValues<T>())
        {
            names.Add(new(Convert.ToUInt64(value, System.Globalization.CultureInfo.InvariantCulture), Dashed(value.ToString())));
        }

        ulong max = Enum.GetUnderlyingType(typeof(T)) == typeof(byte) ? byte.MaxValue : ushort.MaxValue;
        return new(key, name, TraceFieldType.Named, max, meaning) { Names = names.ToImmutable() };
    }

    private static string Dashed(string name)
    {
        System.Text.StringBuilder text = new();
        foreach (char letter in name)
        {
            if (char.IsAsciiLetterUpper(letter) && text.Length != 0)
            {
                text.Append('-');
            }

            text.Append(char.ToLowerInvariant(letter));
        }

        return text.ToString();
    }
}

/// <summary>
/// Keys of all fields: the number in the file and the slot in the event. Fields of different kinds share numbers.
/// The frequent ones of a kind come first, which keeps its presence mask in one byte.
/// </summary>
internal static class TraceKeys
{
    public const int Vcpu = 0;
    public const int Digest = 1;
    public const int Rip = 2;

    // Entry, exit, injected, delivered.
    public const int EntryFlags = 3;
    public const int ExitReason = 3;
    public const int Qualification = 4;
    public const int InstructionLength = 5;
    public const int Deltas = 6;
    public const int InterruptionInfo = 7;
    public const int ErrorCode = 8;
    public const int GuestLinear = 9;
    public const int GuestPhysical = 10;
    public const int IdtVectoringInfo = 11;
    public const int IdtErrorCode = 12;
    public const int InstructionInfo = 13;

    // Input.
    public const int InputPoint = 3;
    public const int InputKind = 4;
    public const int Ordinal = 5;
    public const int Value = 6;
    public const int Auxiliary = 7;

    // Derived.
    public const int Source = 3;
    public const int DerivedValue = 4;

    // Request.
    public const int RequestNumber = 3;
    public const int RequestPhase = 4;

    // Userspace exit.
    public const int UserspaceReason = 3;
    public const int Errno = 4;
    public const int Data0 = 5;

    // Console.
    public const int Direction = 3;
    public const int ConsoleBytes = 4;

    // First access.
    public const int Space = 3;
    public const int Address = 4;
    public const int Size = 5;
    public const int IsWrite = 6;

    // Checkpoint and end.
    public const int MemoryDigest = 3;
    public const int CheckpointNumber = 4;
    public const int InputsHash = 4;
    public const int Entries = 5;
    public const int Exits = 6;
    public const int InjectedEvents = 7;
    public const int DeliveredEvents = 8;
    public const int Inputs = 9;
    public const int ConsoleLength = 10;
    public const int ConsoleHash = 11;
    public const int Reason = 12;
}
