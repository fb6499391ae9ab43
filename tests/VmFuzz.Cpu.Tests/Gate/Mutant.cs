using System.Collections.Immutable;
using Iced.Intel;
using VmFuzz.Arch;

namespace VmFuzz.Cpu.Tests.Gate;

/// <summary>A table in which one form does something else.</summary>
/// <param name="Form">The form.</param>
/// <param name="Change">What it does else: "keeps ZF", "inverts what it reads of CF", "inverts undefined AF", "is Sub_rm8_r8".</param>
/// <param name="Handler">The microcode that does it.</param>
internal sealed record Mutant(Code Form, string Change, ExecHandler Handler)
{
    private static readonly ImmutableArray<(string Name, ulong Bit)> Flags =
    [
        ("CF", RFlags.Cf), ("PF", RFlags.Pf), ("AF", RFlags.Af), ("ZF", RFlags.Zf), ("SF", RFlags.Sf), ("IF", RFlags.If), ("DF", RFlags.Df),
        ("OF", RFlags.Of), ("AC", RFlags.Ac),
    ];

    // By what an exchange must leave alone: encoding, operands, sizes, code sizes in which the form exists.
    private static readonly ILookup<string, InstructionForm> Neighbours = Modelled().ToLookup(static form => Shape(form.Code), StringComparer.Ordinal);

    /// <summary>The forms that have a row.</summary>
    public static IEnumerable<InstructionForm> Modelled() => InstructionForm.All.Where(static form => form.Row is not null);

    /// <summary>The rows of this build with this change.</summary>
    public InstructionTable Table => InstructionTable.Default.With(RowOf(Form) with { Form = Form, Handler = Handler });

    /// <summary>All changes of a form.</summary>
    public static IEnumerable<Mutant> Of(InstructionForm form)
    {
        ExecHandler original = form.Row!.Value.Handler;
        foreach ((string name, ulong bit) in Flags)
        {
            if ((form.FlagsWritten & bit) != 0)
            {
                yield return new Mutant(form.Code, $"keeps {name}", After(original, (before, after) => (after & ~bit) | (before & bit)));
            }

            if ((form.FlagsRead & bit) != 0)
            {
                yield return new Mutant(form.Code, $"inverts what it reads of {name}", Before(original, bit, (form.FlagsWritten & bit) != 0));
            }

            if ((form.FlagsUndefined & bit) != 0)
            {
                yield return new Mutant(form.Code, $"inverts undefined {name}", After(original, (_, after) => after ^ bit));
            }
        }

        if (Neighbour(form) is { } other)
        {
            ExecHandler handler = other.Row!.Value.Handler;
            yield return new Mutant(form.Code, $"is {other.Code}", (Processor cpu, in Instruction ins) =>
            {
                Instruction exchanged = ins;
                exchanged.Code = other.Code;
                return handler(cpu, exchanged);
            });
        }
    }

    public override string ToString() => $"{Form} {Change}";

    // The next form of the same shape that is another operation, in a circle.
    private static InstructionForm? Neighbour(InstructionForm form)
    {
        InstructionForm[] alike = [.. Neighbours[Shape(form.Code)]];
        int at = Array.FindIndex(alike, other => other.Code == form.Code);
        return alike.Skip(at + 1).Concat(alike.Take(at))
            .FirstOrDefault(other => other.Code.Mnemonic() != form.Code.Mnemonic() && !SameOperations.Are(form.Code.Mnemonic(), other.Code.Mnemonic()));
    }

    private static string Shape(Code code)
    {
        OpCodeInfo info = code.ToOpCode();
        IEnumerable<OpCodeOperandKind> operands = Enumerable.Range(0, info.OpCount).Select(info.GetOpKind);
        return $"{info.Encoding} {string.Join(' ', operands)} {info.MemorySize.GetSize()} {info.OperandSize} {info.AddressSize} {info.Mode16} {info.Mode32} {info.Mode64}";
    }

    private static InstructionRow RowOf(Code form)
    {
        Instruction example = default;
        example.Code = form;
        Assert.True(InstructionTable.Default.TryFind(example, out InstructionRow row));
        return row;
    }

    private static ExecHandler After(ExecHandler original, Func<ulong, ulong, ulong> flags) => (Processor cpu, in Instruction ins) =>
    {
        ulong before = cpu.RFlagsValue;
        ExecResult result = original(cpu, ins);
        if (result != ExecResult.Abort)
        {
            cpu.RFlagsValue = flags(before, cpu.RFlagsValue);
        }

        return result;
    };

    private static ExecHandler Before(ExecHandler original, ulong bit, bool written) => (Processor cpu, in Instruction ins) =>
    {
        cpu.RFlagsValue ^= bit;
        ExecResult result = original(cpu, ins);
        if (!written || result == ExecResult.Abort)
        {
            cpu.RFlagsValue ^= bit;
        }

        return result;
    };
}
