using System.Collections.Immutable;
using Iced.Intel;
using VmFuzz.Arch;

namespace VmFuzz.Cpu;

/// <summary>The microcode of an instruction: the reference that every faster form must agree with.</summary>
/// <param name="cpu">The processor; RIP is at the instruction.</param>
/// <param name="instruction">The decoded instruction; its IP is the offset in the code segment.</param>
public delegate ExecResult ExecHandler(Processor cpu, in Instruction instruction);

/// <summary>Facts about an instruction that the block builder needs.</summary>
[Flags]
public enum InstructionTraits : byte
{
    /// <summary>Nothing special.</summary>
    None = 0,

    /// <summary>The block ends after it: control flow, or it may change what blocks depend on.</summary>
    EndsBlock = 1,
}

/// <summary>One row: the instructions of one mnemonic, their feature, reference text and microcode.</summary>
/// <param name="Mnemonic">Iced's mnemonic; the id of the row.</param>
/// <param name="Feature">Feature without which it is #UD; None when always there.</param>
/// <param name="Traits">What the block builder needs to know.</param>
/// <param name="Handler">The microcode.</param>
/// <param name="UndefinedFlags">Flags the SDM leaves undefined; what this model gives is stated at the handler.</param>
/// <param name="Form">For a row that is about one form of a mnemonic only (MOV to CR0, far JMP): that form.</param>
public readonly record struct InstructionRow(
    Mnemonic Mnemonic,
    ExecHandler Handler,
    InstructionTraits Traits = InstructionTraits.None,
    CpuFeatures Feature = CpuFeatures.None,
    ulong UndefinedFlags = 0,
    Code Form = Code.INVALID);

/// <summary>The instruction rows: an immutable value, looked up by mnemonic.</summary>
public sealed class InstructionTable
{
    private readonly ImmutableArray<InstructionRow> _rows;
    private readonly ImmutableArray<short> _byMnemonic;
    private readonly ImmutableArray<short> _byForm;
    private readonly ImmutableArray<bool> _replaced;

    private InstructionTable(ImmutableArray<InstructionRow> rows, ImmutableArray<bool> replaced)
    {
        _rows = rows;
        _replaced = replaced;
        _byMnemonic = ByMnemonic(rows);
        _byForm = ByForm(rows, _byMnemonic);
    }

    private InstructionTable(InstructionTable basis, int index, in InstructionRow row)
    {
        _rows = basis._rows.SetItem(index, row);
        _replaced = basis._replaced.SetItem(index, true);
        _byMnemonic = basis._byMnemonic;
        _byForm = basis._byForm;
    }

    /// <summary>The rows of this build.</summary>
    public static InstructionTable Default { get; } = new(MicrocodeRows.All, [.. new bool[MicrocodeRows.All.Length]]);

    /// <summary>All rows.</summary>
    public ImmutableArray<InstructionRow> Rows => _rows;

    /// <summary>Hash over the ids of all rows, in order.</summary>
    public ulong RowsHash
    {
        get
        {
            ulong hash = 0;
            foreach (InstructionRow row in _rows)
            {
                hash = StateHash.Step(hash, ((ulong)row.Mnemonic << 16) | (ulong)row.Form);
            }

            return hash;
        }
    }

    /// <summary>A table in which one row is replaced or added.</summary>
    public InstructionTable With(InstructionRow row)
    {
        int index = -1;
        for (int i = 0; i < _rows.Length && index < 0; i++)
        {
            index = _rows[i].Mnemonic == row.Mnemonic && _rows[i].Form == row.Form ? i : -1;
        }

        return index < 0 ? new(_rows.Add(row), _replaced.Add(true)) : new(this, index, row);
    }

    /// <summary>
    /// Whether a row is not one of this build: specialised handlers, which know only those, then have no part in its
    /// instructions.
    /// </summary>
    /// <param name="index">Index in <see cref="Rows"/>.</param>
    public bool IsReplaced(int index) => _replaced[index];

    /// <summary>Index in <see cref="Rows"/> of an instruction's row (that of its form, else that of its mnemonic), or -1.</summary>
    public int IndexOf(in Instruction instruction) => _byForm[(int)instruction.Code];

    /// <summary>Finds the row of an instruction: that of its form, else that of its mnemonic.</summary>
    public bool TryFind(in Instruction instruction, out InstructionRow row)
    {
        int index = IndexOf(instruction);
        row = index < 0 ? default : _rows[index];
        return index >= 0;
    }

    /// <summary>Finds the row of a mnemonic.</summary>
    public bool TryFind(Mnemonic mnemonic, out InstructionRow row)
    {
        short index = _byMnemonic[(int)mnemonic];
        row = index < 0 ? default : _rows[index];
        return index >= 0;
    }

    private static ImmutableArray<short> ByMnemonic(ImmutableArray<InstructionRow> rows)
    {
        short[] places = new short[(int)Enum.GetValues<Mnemonic>()[^1] + 1];
        Array.Fill(places, (short)-1);
        for (int i = 0; i < rows.Length; i++)
        {
            if (rows[i].Form == Code.INVALID)
            {
                places[(int)rows[i].Mnemonic] = (short)i;
            }
        }

        return [.. places];
    }

    private static ImmutableArray<short> ByForm(ImmutableArray<InstructionRow> rows, ImmutableArray<short> byMnemonic)
    {
        // A mnemonic may have forms of extensions that no model has (BEXTR of XOP).
        short[] places = new short[(int)Enum.GetValues<Code>()[^1] + 1];
        foreach (Code form in Enum.GetValues<Code>())
        {
            places[(int)form] = InstructionFamilies.OfDecoded(form).State == FamilyState.Absent ? (short)-1 : byMnemonic[(int)form.Mnemonic()];
        }

        for (int i = 0; i < rows.Length; i++)
        {
            if (rows[i].Form != Code.INVALID)
            {
                places[(int)rows[i].Form] = (short)i;
            }
        }

        return [.. places];
    }
}
