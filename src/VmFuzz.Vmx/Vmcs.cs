using System.Buffers.Binary;
using System.Collections.Immutable;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using VmFuzz.Arch;

namespace VmFuzz.Vmx;

/// <summary>
/// The processor's copy of a VMCS: flat unmanaged storage with one 64-bit slot a field, and a dirty bit for each.
/// </summary>
/// <remarks>
/// The indexer is the implementation's own access: no existence or access-type checks; values are cut to the field's
/// width. VMREAD and VMWRITE are <see cref="VmxUnit.VmRead"/> and <see cref="VmxUnit.VmWrite"/>.
/// </remarks>
public sealed unsafe partial class Vmcs : IStateful, ICopiedState, IDisposable
{
    internal const int DirtyWords = VmcsFieldInfo.SlotCount / 64;

    // Behind the values: the words of dirty, touched and moved bits, and for each of the three a word with a bit for
    // each of its words that is not 0.
    private const int DirtySummary = VmcsFieldInfo.SlotCount + (3 * DirtyWords);
    private const int TouchedSummary = DirtySummary + 1;
    private const int MovedSummary = DirtySummary + 2;
    private const ushort LaunchedId = 0xF000;

    private static readonly ImmutableArray<StateField> StateFields = [.. MakeFields()];

    private ulong* _values;
    private readonly int _vcpu;

    /// <summary>Creates a VMCS with all fields 0, clear.</summary>
    /// <param name="vcpu">Number of the VCPU, for the component's number.</param>
    public Vmcs(int vcpu = 0)
    {
        _vcpu = vcpu;
        _values = (ulong*)NativeMemory.AllocZeroed((MovedSummary + 1) * sizeof(ulong));
        MarkAllDirty();
    }

    /// <summary>Launch state: false is clear, true is launched.</summary>
    public bool Launched { get; set; }

    /// <summary>Moves whenever a control field changes.</summary>
    public ulong ControlsVersion { get; private set; } = 1;

    /// <summary>Moves whenever a host-state field changes.</summary>
    internal ulong HostVersion { get; private set; } = 1;

    /// <summary>
    /// Moves whenever a guest-state field changes, but for those that nearly every exit changes (<see cref="IsRestless"/>).
    /// </summary>
    internal ulong GuestVersion { get; private set; } = 1;

    /// <summary>Version of the host's registers at the last entry whose checks all held.</summary>
    internal ulong CheckedHostVersion { get; set; }

    /// <summary>GUEST_RFLAGS at that entry.</summary>
    internal ulong CheckedFlags { get; set; }

    /// <summary>A field, raw.</summary>
    public ulong this[VmcsField field]
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => _values[VmcsFieldInfo.Slot(field)];

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        set
        {
            // SAFETY: a slot is below SlotCount for every 32-bit number.
            int slot = VmcsFieldInfo.Slot(field);
            value &= VmcsFieldInfo.MaskOf(field);
            if (_values[slot] != value)
            {
                _values[slot] = value;
                AddDirty(slot >> 6, 1UL << (slot & 63));
                ControlsVersion += ((uint)field & 0xC00) == 0 ? 1UL : 0;
                HostVersion += ((uint)field & 0xC00) == 0xC00 ? 1UL : 0;
                GuestVersion += ((uint)field & 0xC00) == 0x800 && !IsRestless(field) ? 1UL : 0;
            }
        }
    }

    /// <summary>Guest state that execution alone changes: RSP, RIP, RFLAGS, blocking, activity, pending debug exceptions.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static bool IsRestless(VmcsField field) =>
        field is VmcsField.GuestRsp or VmcsField.GuestRip or VmcsField.GuestRflags or VmcsField.GuestPendingDebug
            or VmcsField.GuestInterruptibility or VmcsField.GuestActivity;

    /// <summary>Guest state was stored into the slots.</summary>
    internal void MoveGuestVersion() => GuestVersion++;

    /// <summary>Whether all bits of a mask are set in a field.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public bool Has(VmcsField field, ulong bits) => (this[field] & bits) == bits;

    /// <summary>The slots, for code that moves many fields.</summary>
    internal ulong* Slots => _values;

    /// <summary>Adds dirty bits of one word: the fields of one width and one area.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal void AddDirty(int word, ulong bits)
    {
        if (bits != 0)
        {
            _values[VmcsFieldInfo.SlotCount + word] |= bits;
            _values[DirtySummary] |= 1UL << word;
        }
    }

    /// <summary>A bit for each word of dirty bits that is not 0.</summary>
    internal ulong DirtyWordsInUse => _values[DirtySummary];

    /// <summary>Stores one field of a word whose dirty bits the caller collects. The value must fit the field.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static void Store(ulong* slots, int slot, ulong value, ref ulong dirty)
    {
        if (slots[slot] != value)
        {
            slots[slot] = value;
            dirty |= 1UL << (slot & 63);
        }
    }

    /// <summary>One word of dirty bits: fields changed since <see cref="ClearDirty"/>.</summary>
    internal ulong Dirty(int word) => _values[VmcsFieldInfo.SlotCount + word];

    /// <summary>
    /// The fields are checked. What was dirty stays known as touched until somebody takes it, and as moved until a copy
    /// is restored.
    /// </summary>
    internal void ClearDirty()
    {
        ulong* dirty = _values + VmcsFieldInfo.SlotCount;
        for (ulong words = _values[DirtySummary]; words != 0; words &= words - 1)
        {
            int i = System.Numerics.BitOperations.TrailingZeroCount(words);
            dirty[DirtyWords + i] |= dirty[i];
            dirty[(2 * DirtyWords) + i] |= dirty[i];
            dirty[i] = 0;
        }

        _values[TouchedSummary] |= _values[DirtySummary];
        _values[MovedSummary] |= _values[DirtySummary];
        _values[DirtySummary] = 0;
    }

    /// <summary>
    /// Finds the fields that may have changed since the last call; those written but equal are listed too.
    /// </summary>
    /// <param name="fields">Receives indices into <see cref="Fields"/>, ascending by slot; as long as that list.</param>
    /// <returns>How many.</returns>
    public int TakeTouched(Span<short> fields)
    {
        ulong* dirty = _values + VmcsFieldInfo.SlotCount;
        int count = 0;
        fields[count++] = 0;
        ulong words = _values[DirtySummary] | _values[TouchedSummary];
        _values[TouchedSummary] = 0;
        for (; words != 0; words &= words - 1)
        {
            int i = System.Numerics.BitOperations.TrailingZeroCount(words);
            ulong bits = dirty[i] | dirty[DirtyWords + i];
            dirty[DirtyWords + i] = 0;
            while (bits != 0)
            {
                int index = VmcsFieldInfo.IndexOfSlot((i * 64) + System.Numerics.BitOperations.TrailingZeroCount(bits));
                bits &= bits - 1;
                if (index >= 0)
                {
                    fields[count++] = (short)(index + 1);
                }
            }
        }

        return count;
    }

    /// <summary>The value of a field by its index in <see cref="Fields"/>.</summary>
    public ulong ReadWord(int index) => index == 0 ? Launched ? 1UL : 0 : _values[VmcsFieldInfo.SlotOfIndex(index - 1)];

    /// <summary>Words that <see cref="CopyGuestArea"/> gives.</summary>
    public const int GuestAreaWords = 4 * 64;

    // The first slot of the guest-state area of each width.
    private static readonly ImmutableArray<int> GuestSlots =
    [
        VmcsFieldInfo.Slot(VmcsField.GuestEsSelector) & ~63,
        VmcsFieldInfo.Slot(VmcsField.GuestPat) & ~63,
        VmcsFieldInfo.Slot(VmcsField.GuestEsLimit) & ~63,
        VmcsFieldInfo.Slot(VmcsField.GuestCr0) & ~63,
    ];

    /// <summary>Copies the guest-state area, a word for each place; <see cref="GuestFieldAt"/> says which field a word is.</summary>
    /// <param name="to">Receives <see cref="GuestAreaWords"/> words.</param>
    public void CopyGuestArea(Span<ulong> to)
    {
        for (int i = 0; i < 4; i++)
        {
            new ReadOnlySpan<ulong>(_values + GuestSlots[i], 64).CopyTo(to.Slice(i * 64, 64));
        }
    }

    /// <summary>Finds the first word of the guest-state area, from a place on, that differs from a copy.</summary>
    /// <param name="copy">From <see cref="CopyGuestArea"/>.</param>
    /// <param name="from">Place to start at.</param>
    /// <returns>The place, or -1.</returns>
    public int FirstGuestDifference(ReadOnlySpan<ulong> copy, int from = 0)
    {
        for (int i = from >> 6; i < 4; i++)
        {
            int start = Math.Max(from - (i * 64), 0);
            ReadOnlySpan<ulong> now = new(_values + GuestSlots[i] + start, 64 - start);
            int same = now.CommonPrefixLength(copy.Slice((i * 64) + start, 64 - start));
            if (same != now.Length)
            {
                return (i * 64) + start + same;
            }
        }

        return -1;
    }

    /// <summary>The field of a word of the guest-state area.</summary>
    /// <param name="word">0 to <see cref="GuestAreaWords"/> - 1.</param>
    /// <returns>Null where there is none.</returns>
    public static VmcsField? GuestFieldAt(int word)
    {
        int index = VmcsFieldInfo.IndexOfSlot(GuestSlots[word >> 6] + (word & 63));
        return index < 0 ? null : VmcsFieldInfo.All[index].Field;
    }

    /// <summary>Makes the next entry evaluate every check.</summary>
    public void MarkAllDirty()
    {
        new Span<ulong>(_values + VmcsFieldInfo.SlotCount, DirtyWords).Fill(ulong.MaxValue);
        _values[DirtySummary] = (1UL << DirtyWords) - 1;
        ControlsVersion++;
        HostVersion++;
        GuestVersion++;
    }

    /// <summary>Copies every field and the launch state.</summary>
    public void CopyFrom(Vmcs other)
    {
        new Span<ulong>(other._values, VmcsFieldInfo.SlotCount).CopyTo(new Span<ulong>(_values, VmcsFieldInfo.SlotCount));
        Launched = other.Launched;
        MarkAllDirty();
    }

    /// <summary>Sets every field to 0 and the launch state to clear.</summary>
    public void Clear()
    {
        new Span<ulong>(_values, VmcsFieldInfo.SlotCount).Clear();
        Launched = false;
        MarkAllDirty();
    }

    /// <inheritdoc/>
    public ComponentId Component => ComponentId.Vmcs + (ushort)(_vcpu * 16);

    /// <inheritdoc/>
    public ReadOnlySpan<StateField> Fields => StateFields.AsSpan();

    /// <inheritdoc/>
    public void ReadField(int index, Span<byte> destination)
    {
        ulong value = index == 0 ? Launched ? 1UL : 0 : this[VmcsFieldInfo.All[index - 1].Field];
        Span<byte> bytes = stackalloc byte[8];
        BinaryPrimitives.WriteUInt64LittleEndian(bytes, value);
        bytes[..StateFields[index].Width].CopyTo(destination);
    }

    /// <inheritdoc/>
    public void WriteField(int index, ReadOnlySpan<byte> source)
    {
        Span<byte> bytes = stackalloc byte[8];
        source[..StateFields[index].Width].CopyTo(bytes);
        ulong value = BinaryPrimitives.ReadUInt64LittleEndian(bytes);
        if (index == 0)
        {
            Launched = value != 0;
        }
        else
        {
            this[VmcsFieldInfo.All[index - 1].Field] = value;
        }

        MarkAllDirty();
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_values != null)
        {
            NativeMemory.Free(_values);
            _values = null;
        }
    }

    private static StateField[] MakeFields()
    {
        StateField[] fields = new StateField[VmcsFieldInfo.All.Length + 1];
        fields[0] = new StateField(LaunchedId, "Launched", 1);
        foreach (VmcsFieldInfo info in VmcsFieldInfo.All)
        {
            fields[info.Index + 1] = new StateField((ushort)info.Field, info.Name, info.Bytes);
        }

        return fields;
    }
}
