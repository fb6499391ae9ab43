using System.Collections.Immutable;
using Iced.Intel;

namespace VmFuzz.Kvm;

/// <summary>Executes one instruction of the emulator on its copies.</summary>
internal delegate Emulator.Step EmulatorStep(Emulator emulator, in Instruction instruction);

/// <summary>One row: a family of instructions that the emulator knows.</summary>
/// <param name="Id">Id, unique.</param>
/// <param name="Mnemonics">Its mnemonics; forms that it does not know it answers with Unknown.</param>
/// <param name="Execute">What executes it.</param>
internal sealed record EmulatorRow(string Id, ImmutableArray<Mnemonic> Mnemonics, EmulatorStep Execute);

/// <summary>The instructions that the emulator knows: an immutable value, looked up by mnemonic.</summary>
public sealed class EmulatorTable
{
    private readonly ImmutableArray<EmulatorStep?> _byMnemonic;

    private EmulatorTable(ImmutableArray<EmulatorRow> rows)
    {
        Rows = rows;
        var byMnemonic = new EmulatorStep?[Enum.GetValues<Mnemonic>().Length];
        foreach (EmulatorRow row in rows)
        {
            foreach (Mnemonic mnemonic in row.Mnemonics)
            {
                byMnemonic[(int)mnemonic] = row.Execute;
            }
        }

        _byMnemonic = [.. byMnemonic];
    }

    /// <summary>The instructions of this build.</summary>
    public static EmulatorTable Default { get; } = new(EmulatorRows.All);

    /// <summary>Ids of the rows.</summary>
    public IEnumerable<string> Ids => Rows.Select(static row => row.Id);

    /// <summary>Mnemonics of the instructions that it knows, in the order of the rows.</summary>
    public IEnumerable<Mnemonic> Mnemonics => Rows.SelectMany(static row => row.Mnemonics);

    internal ImmutableArray<EmulatorRow> Rows { get; }

    /// <summary>A table in which a row executes differently.</summary>
    /// <exception cref="ArgumentException">There is no such row.</exception>
    internal EmulatorTable With(string id, EmulatorStep execute)
    {
        EmulatorRow row = Row(id);
        return new(Rows.Replace(row, row with { Execute = execute }));
    }

    /// <summary>A row by its id.</summary>
    internal EmulatorRow Row(string id) =>
        Rows.FirstOrDefault(row => string.Equals(row.Id, id, StringComparison.Ordinal))
        ?? throw new ArgumentException($"{id} is not a row of the emulator.", nameof(id));

    internal EmulatorStep? Find(Mnemonic mnemonic) => _byMnemonic[(int)mnemonic];
}

/// <summary>The rows of the emulator.</summary>
internal static class EmulatorRows
{
    public static readonly ImmutableArray<EmulatorRow> All =
    [
        new("mov", [Mnemonic.Mov, Mnemonic.Movnti, Mnemonic.Movzx],
            static (e, in i) => e.Move(i, signExtend: false)),
        new("mov-sign-extend", [Mnemonic.Movsx, Mnemonic.Movsxd],
            static (e, in i) => e.Move(i, signExtend: true)),
        new("two-operands",
            [Mnemonic.Add, Mnemonic.Adc, Mnemonic.Sub, Mnemonic.Sbb, Mnemonic.And, Mnemonic.Or, Mnemonic.Xor, Mnemonic.Cmp, Mnemonic.Test],
            static (e, in i) => e.TwoOperands(i)),
        new("one-operand", [Mnemonic.Inc, Mnemonic.Dec, Mnemonic.Not, Mnemonic.Neg],
            static (e, in i) => e.OneOperand(i)),
        new("exchange", [Mnemonic.Xchg, Mnemonic.Xadd],
            static (e, in i) => e.Exchange(i)),
        new("cmpxchg", [Mnemonic.Cmpxchg],
            static (e, in i) => e.CompareExchange(i)),
        new("bit-test", [Mnemonic.Bt, Mnemonic.Bts, Mnemonic.Btr, Mnemonic.Btc],
            static (e, in i) => e.BitTest(i)),
        new("push", [Mnemonic.Push],
            static (e, in i) => e.Push(i)),
        new("push-all", [Mnemonic.Pusha, Mnemonic.Pushad],
            static (e, in i) => e.PushAll(i)),
        new("pop", [Mnemonic.Pop],
            static (e, in i) => e.Pop(i)),
        new("string",
            [
                Mnemonic.Movsb, Mnemonic.Movsw, Mnemonic.Movsq, Mnemonic.Stosb, Mnemonic.Stosw, Mnemonic.Stosd, Mnemonic.Stosq,
                Mnemonic.Lodsb, Mnemonic.Lodsw, Mnemonic.Lodsd, Mnemonic.Lodsq, Mnemonic.Scasb, Mnemonic.Scasw, Mnemonic.Scasd,
                Mnemonic.Scasq, Mnemonic.Cmpsb, Mnemonic.Cmpsw, Mnemonic.Cmpsq, Mnemonic.Insb, Mnemonic.Insw, Mnemonic.Insd,
                Mnemonic.Outsb, Mnemonic.Outsw, Mnemonic.Outsd,
            ],
            static (e, in i) => e.StringStep(i)),
        // The names of a scalar move and a scalar comparison of SSE2 too.
        new("string-or-vector", [Mnemonic.Movsd, Mnemonic.Cmpsd],
            static (e, in i) => i.Op0Kind != OpKind.Register && i.Op1Kind != OpKind.Register ? e.StringStep(i) : Emulator.Step.Unknown),
        new("vector-move",
            [
                Mnemonic.Movaps, Mnemonic.Movups, Mnemonic.Movdqa, Mnemonic.Movdqu, Mnemonic.Movapd, Mnemonic.Movupd,
                Mnemonic.Movntdq, Mnemonic.Movntps,
            ],
            static (e, in i) => e.VectorMove(i)),
        new("far-return", [Mnemonic.Retf],
            static (e, in i) => e.FarReturn(i)),
        new("far-jump", [Mnemonic.Jmp],
            static (e, in i) => e.FarJump(i)),
        new("load-task-register", [Mnemonic.Ltr],
            static (e, in i) => e.LoadTaskRegister(i)),
    ];
}
