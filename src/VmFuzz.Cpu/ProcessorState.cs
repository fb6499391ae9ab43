using System.Buffers.Binary;
using System.Collections.Immutable;
using System.Runtime.Intrinsics;
using VmFuzz.Arch;

namespace VmFuzz.Cpu;

/// <summary>
/// The processor's architectural state as a list of fields. Caches, budgets and derived bits are not in it.
/// </summary>
public sealed unsafe class ProcessorState : IStateful
{
    /// <summary>Id of RIP.</summary>
    public const ushort Rip = 16;

    /// <summary>Id of the retired count.</summary>
    public const ushort Retired = 92;

    /// <summary>Id of RFLAGS.</summary>
    public const ushort RFlagsId = 17;

    // Words that are compared at once.
    private const int BlockWords = 16;

    private static readonly ImmutableArray<Row> Rows = Build();
    private static readonly ImmutableArray<StateField> FieldTable = [.. Rows.Select(static row => row.Field)];

    // Row of each eight bytes of the state, or -1; two four-byte fields share one.
    private static readonly ImmutableArray<short> Words = MapWords();
    private static readonly ImmutableArray<byte> Widths = [.. Rows.Select(static row => (byte)Math.Min(row.Field.Width, 255))];
    private static readonly ImmutableArray<int> Offsets = [.. Rows.Select(static row => row.Offset)];
    private static readonly short RFlagsIndex = IndexOf(OffsetRFlags);
    private static readonly short RetiredIndex = IndexOf(OffsetRetired);
    private static readonly short NmiIndex = IndexOf(OffsetNmi);

    // Place in the list by id, or -1.
    private static readonly ImmutableArray<short> IndexOfId = MapIds();

    /// <summary>All fields, for those who have no processor at hand.</summary>
    public static ReadOnlySpan<StateField> List => FieldTable.AsSpan();

    private readonly Processor _processor;

    internal ProcessorState(Processor processor) => _processor = processor;

    /// <inheritdoc/>
    public ComponentId Component => ComponentIds.Of(_processor.Index, ComponentId.Processor);

    /// <inheritdoc/>
    public ReadOnlySpan<StateField> Fields => FieldTable.AsSpan();

    /// <inheritdoc/>
    public void ReadField(int index, Span<byte> destination)
    {
        Row row = Rows[index];
        if (row.Offset < 0)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(destination, WorkOut(row.Offset));
            return;
        }

        new ReadOnlySpan<byte>((byte*)_processor.State + row.Offset, row.Field.Width).CopyTo(destination);
    }

    /// <summary>The value of a field of at most eight bytes.</summary>
    public ulong ReadWord(int index)
    {
        int offset = Offsets[index];
        byte* at = (byte*)_processor.State + offset;
        return Widths[index] switch
        {
            8 when offset >= 0 => *(ulong*)at,
            4 => *(uint*)at,
            _ => WorkOut(offset),
        };
    }

    // The fields that do not stand in the state as they are.
    private ulong WorkOut(int offset) => offset switch
    {
        OffsetRFlags => _processor.RFlagsValue,
        OffsetRetired => _processor.Retired,
        _ => _processor.NmiPending ? 1UL : 0,
    };

    /// <summary>Bytes that <see cref="Compare"/> needs for its copy.</summary>
    public static int CopyBytes { get; } = (Words.Length + BlockWords - 1) / BlockWords * BlockWords * 8;

    /// <summary>
    /// Compares with an earlier copy and brings the copy up to date, in one pass over memory.
    /// </summary>
    /// <param name="copy">The copy; <see cref="CopyBytes"/> long, zero at first.</param>
    /// <param name="changed">Receives indices into <see cref="Fields"/> of fields that may have changed; as long as that list.</param>
    /// <returns>How many.</returns>
    public int Compare(Span<byte> copy, Span<short> changed)
    {
        // Worked out, not stored: always listed.
        int count = 0;
        changed[count++] = RFlagsIndex;
        changed[count++] = RetiredIndex;
        changed[count++] = NmiIndex;
        ArgumentOutOfRangeException.ThrowIfLessThan(copy.Length, CopyBytes, nameof(copy));
        ulong* now = (ulong*)_processor.State;
        fixed (byte* bytes = copy)
        {
            // SAFETY: the copy has CopyBytes bytes, and so has the state, whose look-aside buffers stand behind the fields.
            ulong* before = (ulong*)bytes;
            int words = CopyBytes / 8;
            for (int at = 0; at < words; at += BlockWords)
            {
                Vector256<ulong> differs = (Vector256.Load(now + at) ^ Vector256.Load(before + at))
                    | (Vector256.Load(now + at + 4) ^ Vector256.Load(before + at + 4))
                    | (Vector256.Load(now + at + 8) ^ Vector256.Load(before + at + 8))
                    | (Vector256.Load(now + at + 12) ^ Vector256.Load(before + at + 12));
                if (differs != Vector256<ulong>.Zero)
                {
                    count = CompareBlock(now, before, at, changed, count);
                }
            }
        }

        return count;
    }

    private static int CompareBlock(ulong* now, ulong* before, int at, Span<short> changed, int count)
    {
        ReadOnlySpan<short> words = Words.AsSpan();
        for (int word = at; word < Math.Min(at + BlockWords, words.Length); word++)
        {
            if (now[word] == before[word])
            {
                continue;
            }

            before[word] = now[word];
            int row = words[word];
            // The second and later words of a wide field find it listed.
            if (row < 0 || changed[count - 1] == row)
            {
                continue;
            }

            changed[count++] = (short)row;
            if (Widths[row] == 4)
            {
                changed[count++] = (short)(row + 1);
            }
        }

        return count;
    }

    /// <summary>
    /// Sets a register of at most 8 bytes by its id. The caller calls <see cref="Processor.StateChanged"/> when it has set
    /// all, and drops translations where paging changed.
    /// </summary>
    /// <param name="id">Id of the field, such as <see cref="Rip"/>.</param>
    /// <param name="value">The value, cut to the field's width.</param>
    /// <returns>False when no such register is held as one word; then nothing changed.</returns>
    public bool TrySetWord(ushort id, ulong value)
    {
        int index = id < IndexOfId.Length ? IndexOfId[id] : -1;
        if (index < 0)
        {
            return false;
        }

        Row row = Rows[index];
        if (row.Offset == OffsetRFlags)
        {
            _processor.RFlagsValue = value;
            return true;
        }

        if (row.Offset < 0 || row.Field.Width > 8)
        {
            return false;
        }

        Span<byte> bytes = stackalloc byte[8];
        BinaryPrimitives.WriteUInt64LittleEndian(bytes, value);
        bytes[..row.Field.Width].CopyTo(new Span<byte>((byte*)_processor.State + row.Offset, row.Field.Width));
        return true;
    }

    /// <inheritdoc/>
    public void WriteField(int index, ReadOnlySpan<byte> source)
    {
        Row row = Rows[index];
        if (row.Offset >= 0)
        {
            source[..row.Field.Width].CopyTo(new Span<byte>((byte*)_processor.State + row.Offset, row.Field.Width));
            _processor.StateRestored();
            return;
        }

        ulong value = BinaryPrimitives.ReadUInt64LittleEndian(source);
        switch (row.Offset)
        {
            case OffsetRFlags:
                _processor.RFlagsValue = value;
                break;
            case OffsetRetired:
                _processor.SetRetired(value);
                break;
            default:
                _processor.ClearNmi();
                if (value != 0)
                {
                    _processor.RaiseNmi();
                }

                break;
        }

        _processor.StateRestored();
    }

    private const int OffsetRFlags = -1;
    private const int OffsetRetired = -2;
    private const int OffsetNmi = -3;

    private static short IndexOf(int offset)
    {
        for (int i = 0; i < Rows.Length; i++)
        {
            if (Rows[i].Offset == offset)
            {
                return (short)i;
            }
        }

        return -1;
    }

    private static ImmutableArray<short> MapIds()
    {
        short[] map = new short[256];
        Array.Fill(map, (short)-1);
        for (int i = 0; i < FieldTable.Length; i++)
        {
            map[FieldTable[i].Id] = (short)i;
        }

        return [.. map];
    }

    private static ImmutableArray<short> MapWords()
    {
        int bytes = Rows.Max(static row => row.Offset + row.Field.Width);
        short[] words = new short[(bytes + 7) / 8];
        Array.Fill(words, (short)-1);
        for (int i = Rows.Length - 1; i >= 0; i--)
        {
            for (int at = Rows[i].Offset; at >= 0 && at < Rows[i].Offset + Rows[i].Field.Width; at += 4)
            {
                words[at / 8] = (short)i;
            }
        }

        return [.. words];
    }

    private static ImmutableArray<Row> Build()
    {
        var rows = ImmutableArray.CreateBuilder<Row>();
        CpuState state = default;
        byte* start = (byte*)&state;
        string[] names = ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"];
        for (int i = 0; i < 16; i++)
        {
            Add(i, names[i], &state.Gpr[i], 8);
        }

        Add(Rip, "rip", &state.Gpr[CpuState.RipSlot], 8);
        rows.Add(new Row(new StateField(RFlagsId, "rflags", 8), OffsetRFlags));
        string[] segments = ["es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr"];
        for (int i = 0; i < 8; i++)
        {
            SegmentState* segment = &state.Es + i;
            Add(32 + (i * 4), segments[i] + ".selector", &segment->Selector, 8);
            Add(33 + (i * 4), segments[i] + ".base", &segment->Base, 8);
            Add(34 + (i * 4), segments[i] + ".limit", &segment->Limit, 4);
            Add(35 + (i * 4), segments[i] + ".attributes", &segment->Attributes, 4);
        }

        Add(64, "gdtr.base", &state.Gdtr.Base, 8);
        Add(65, "gdtr.limit", &state.Gdtr.Limit, 8);
        Add(66, "idtr.base", &state.Idtr.Base, 8);
        Add(67, "idtr.limit", &state.Idtr.Limit, 8);
        Add(70, "cr0", &state.Cr0, 8);
        Add(72, "cr2", &state.Cr2, 8);
        Add(73, "cr3", &state.Cr3, 8);
        Add(74, "cr4", &state.Cr4, 8);
        Add(75, "efer", &state.Efer, 8);
        Add(76, "xcr0", &state.Xcr0, 8);
        Add(80, "dr0", &state.Dr0, 8);
        Add(81, "dr1", &state.Dr1, 8);
        Add(82, "dr2", &state.Dr2, 8);
        Add(83, "dr3", &state.Dr3, 8);
        Add(86, "dr6", &state.Dr6, 8);
        Add(87, "dr7", &state.Dr7, 8);
        Add(88, "interruptibility", &state.Interruptibility, 8);
        Add(89, "activity", &state.Activity, 8);
        Add(90, "pending-debug", &state.PendingDebug, 8);
        rows.Add(new Row(new StateField(91, "nmi-pending", 8), OffsetNmi));
        rows.Add(new Row(new StateField(Retired, "retired", 8), OffsetRetired));
        for (int i = 0; i < 4; i++)
        {
            Add(96 + i, $"pdpte{i}", &state.Pdpte[i], 8);
        }

        Add(100, "sysenter_cs", &state.SysenterCs, 8);
        Add(101, "sysenter_esp", &state.SysenterEsp, 8);
        Add(102, "sysenter_eip", &state.SysenterEip, 8);
        Add(103, "star", &state.Star, 8);
        Add(104, "lstar", &state.Lstar, 8);
        Add(105, "cstar", &state.Cstar, 8);
        Add(106, "fmask", &state.Fmask, 8);
        Add(107, "kernel_gs_base", &state.KernelGsBase, 8);
        Add(108, "tsc_aux", &state.TscAux, 8);
        Add(109, "tsc_offset", &state.TscOffset, 8);
        Add(110, "tsc_adjust", &state.TscAdjust, 8);
        Add(111, "pat", &state.Pat, 8);
        Add(112, "apic_base", &state.ApicBase, 8);
        Add(113, "misc_enable", &state.MiscEnable, 8);
        Add(114, "debugctl", &state.DebugCtl, 8);
        Add(115, "feature_control", &state.FeatureControl, 8);
        Add(116, "xss", &state.Xss, 8);
        Add(117, "mtrr_def_type", &state.MtrrDefType, 8);
        Add(118, "mtrr_variable", state.MtrrVariable, 128);
        Add(119, "mtrr_fixed", state.MtrrFixed, 88);
        Add(120, "fcw", &state.Fcw, 8);
        Add(121, "fsw", &state.Fsw, 8);
        Add(122, "ftw", &state.Ftw, 8);
        Add(123, "fop", &state.Fop, 8);
        Add(124, "fip", &state.Fip, 8);
        Add(125, "fdp", &state.Fdp, 8);
        Add(126, "mxcsr", &state.Mxcsr, 8);
        Add(127, "x87", state.X87, 128);
        Add(128, "ymm", state.Ymm, 512);
        Add(129, "spec_ctrl", &state.SpecCtrl, 8);
        Add(130, "mcg_status", &state.McgStatus, 8);
        Add(131, "pkru", &state.Pkru, 8);
        Add(132, "pkrs", &state.Pkrs, 8);
        return rows.ToImmutable();

        void Add(int id, string name, void* at, int width) =>
            rows.Add(new Row(new StateField((ushort)id, name, width), (int)((byte*)at - start)));
    }

    private readonly record struct Row(StateField Field, int Offset);
}
