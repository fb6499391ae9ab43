using System.Runtime.CompilerServices;
using System.Text;

namespace VmFuzz.Trace;

/// <summary>A field that changed. In an entry the component is 0 and the field is the encoding of a VMCS field.</summary>
/// <param name="Component">The component's number.</param>
/// <param name="Field">The field's number in its component.</param>
/// <param name="Value">The new value, zero-extended.</param>
public readonly record struct TraceDelta(ushort Component, ushort Field, ulong Value);

/// <summary>One difference between two events.</summary>
/// <param name="Field">The field's name in the schema; for a delta with its place.</param>
/// <param name="Expected">The value of the first event, as text.</param>
/// <param name="Actual">The value of the second event, as text.</param>
public readonly record struct TraceDifference(string Field, string Expected, string Actual)
{
    /// <inheritdoc/>
    public override string ToString() => $"{Field}: expected {Expected}, actual {Actual}";
}

/// <summary>
/// One event of any kind. Made once and used again: <see cref="Clear"/> gives it a kind and sets everything else to 0.
/// Fields of different kinds share storage, so only the properties of the event's own kind may be used.
/// </summary>
public sealed partial class TraceEvent
{
    private TraceSlots _slots;
    private TraceDelta[] _deltas = new TraceDelta[32];
    private byte[] _bytes = new byte[64];
    private int _deltaCount;
    private int _byteCount;

    /// <summary>Makes an event without a kind.</summary>
    public TraceEvent()
    {
    }

    /// <summary>Makes an empty event of a kind.</summary>
    public TraceEvent(TraceEventKind kind) => Kind = kind;

    /// <summary>The kind. Set it with <see cref="Clear"/>.</summary>
    public TraceEventKind Kind { get; private set; }

    /// <summary>Position in the trace, from 0. Not stored; writer and cursor set it.</summary>
    public ulong Sequence { get; set; }

    /// <summary>Instructions that the VCPU had retired.</summary>
    public ulong Retired { get; set; }

    /// <summary>Index of the VCPU, 0 to <see cref="TraceSchema.MaxVcpus"/> - 1.</summary>
    public int Vcpu
    {
        get => (int)_slots[TraceKeys.Vcpu];
        set
        {
            ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual((uint)value, (uint)TraceSchema.MaxVcpus, nameof(value));
            _slots[TraceKeys.Vcpu] = (ulong)value;
        }
    }

    /// <summary>The row of the schema for <see cref="Kind"/>, or null when it has none.</summary>
    public TraceEventRow? Row => TraceSchema.Find(Kind);

    /// <summary>The deltas, in the order they were added.</summary>
    public ReadOnlySpan<TraceDelta> Deltas => _deltas.AsSpan(0, _deltaCount);

    /// <summary>The byte string, or the text as UTF-8.</summary>
    public ReadOnlySpan<byte> Bytes => _bytes.AsSpan(0, _byteCount);

    /// <summary><see cref="Bytes"/> as text.</summary>
    public string Text => Encoding.UTF8.GetString(Bytes);

    /// <summary>The words, by key.</summary>
    internal ReadOnlySpan<ulong> Slots => _slots;

    /// <summary>The value of a scalar field by its key. Signed values are sign-extended.</summary>
    /// <param name="key">0 to 15.</param>
    public ulong GetWord(int key) => _slots[key];

    /// <summary>Sets a scalar field by its key. Writing an event fails when a value is above the field's maximum.</summary>
    /// <param name="key">0 to 15.</param>
    /// <param name="value">The value; signed ones sign-extended.</param>
    public void SetWord(int key, ulong value) => _slots[key] = value;

    /// <summary>Gives the event a kind and sets everything else to 0.</summary>
    /// <returns>The event.</returns>
    public TraceEvent Clear(TraceEventKind kind)
    {
        Kind = kind;
        Sequence = 0;
        Retired = 0;
        _slots = default;
        _deltaCount = 0;
        _byteCount = 0;
        return this;
    }

    /// <summary>Adds a delta. Deltas of one component should follow each other: that is shorter in the file.</summary>
    /// <exception cref="InvalidOperationException">There are <see cref="TraceSchema.MaxDeltas"/> already.</exception>
    public void AddDelta(ushort component, ushort field, ulong value)
    {
        if (_deltaCount == _deltas.Length)
        {
            GrowDeltas();
        }

        _deltas[_deltaCount++] = new(component, field, value);
    }

    /// <summary>Adds a changed control field to an entry.</summary>
    /// <param name="encoding">Encoding of the VMCS field.</param>
    /// <param name="value">The new value.</param>
    public void AddControl(ushort encoding, ulong value) => AddDelta(0, encoding, value);

    /// <summary>Removes all deltas.</summary>
    public void ClearDeltas() => _deltaCount = 0;

    /// <summary>Sets the byte string.</summary>
    /// <param name="bytes">At most <see cref="TraceSchema.MaxBytes"/> bytes.</param>
    public void SetBytes(ReadOnlySpan<byte> bytes)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(bytes.Length, TraceSchema.MaxBytes, nameof(bytes));
        if (bytes.Length > _bytes.Length)
        {
            _bytes = new byte[Math.Max(bytes.Length, Math.Min(_bytes.Length * 2, TraceSchema.MaxBytes))];
        }

        bytes.CopyTo(_bytes);
        _byteCount = bytes.Length;
    }

    /// <summary>Sets the text.</summary>
    /// <param name="text">At most <see cref="TraceSchema.MaxBytes"/> bytes of UTF-8.</param>
    public void SetText(string text) => SetBytes(Encoding.UTF8.GetBytes(text));

    /// <summary>Copies everything from another event.</summary>
    public void CopyFrom(TraceEvent other)
    {
        ArgumentNullException.ThrowIfNull(other);
        Kind = other.Kind;
        Sequence = other.Sequence;
        Retired = other.Retired;
        _slots = other._slots;
        if (_deltas.Length < other._deltaCount)
        {
            _deltas = new TraceDelta[other._deltas.Length];
        }

        other.Deltas.CopyTo(_deltas);
        _deltaCount = other._deltaCount;
        SetBytes(other.Bytes);
    }

    /// <summary>Whether two events tell the same: everything but <see cref="Sequence"/> is equal. Allocates nothing.</summary>
    public bool SameAs(TraceEvent other)
    {
        ArgumentNullException.ThrowIfNull(other);
        return Kind == other.Kind && Retired == other.Retired
            && Slots.SequenceEqual(other.Slots)
            && Deltas.SequenceEqual(other.Deltas)
            && Bytes.SequenceEqual(other.Bytes);
    }

    /// <summary>All fields in which two events differ, by the schema; <see cref="Sequence"/> is not compared.</summary>
    /// <param name="expected">The event that should have happened.</param>
    /// <param name="actual">The event that happened.</param>
    /// <returns>Nothing when the events are the same; only the kind when the kinds differ.</returns>
    public static IReadOnlyList<TraceDifference> Differences(TraceEvent expected, TraceEvent actual) =>
        TraceComparison.Differences(expected, actual);

    /// <inheritdoc/>
    public override string ToString() => new TraceText().Line(this);

    private void GrowDeltas()
    {
        if (_deltaCount >= TraceSchema.MaxDeltas)
        {
            throw new InvalidOperationException($"an event has at most {TraceSchema.MaxDeltas} deltas");
        }

        Array.Resize(ref _deltas, _deltas.Length * 2);
    }

    [InlineArray(TraceSchema.SlotCount)]
    private struct TraceSlots
    {
        private ulong _first;
    }
}
