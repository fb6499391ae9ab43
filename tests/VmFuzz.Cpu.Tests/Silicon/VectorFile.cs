using System.Collections.Immutable;
using Iced.Intel;
using VmFuzz.Cpu.Microcode.Vectors;
using VmFuzz.Cpu.Tests.Integer;

namespace VmFuzz.Cpu.Tests.Silicon;

/// <summary>A file of corpus/vectors: which forms it is about, and how its cases are made.</summary>
/// <param name="Name">Its name without the extension.</param>
/// <param name="Seed">What the random values start from.</param>
/// <param name="Cases">Cases of a form in code of each size.</param>
/// <param name="CasesWithFlagsRead">The same for forms that read flags.</param>
/// <param name="Model">The processor model.</param>
/// <param name="IsPacked">Whether it is about instructions on vectors, which have operands of their own kind.</param>
/// <param name="IsAbout">Whether a form is in the file.</param>
internal sealed record VectorFile(string Name, ulong Seed, int Cases, int CasesWithFlagsRead, CpuModel Model, bool IsPacked, Func<InstructionForm, bool> IsAbout)
{
    public static readonly ImmutableArray<VectorFile> All =
    [
        new("user", 0x5EED_0003, 10, 14, NativeForms.WithCrc32(), IsPacked: false, static form => !IsOnVectors(form)),
        new("packed", 0x5EED_0006, 8, 8, NativeForms.WithVectors(), IsPacked: true, static form => IsOnVectors(form) && form.Code.Encoding() == EncodingKind.Legacy),
        new("avx", 0x5EED_0008, 6, 6, NativeForms.WithVectors(), IsPacked: true, static form => IsOnVectors(form) && form.Code.Encoding() == EncodingKind.VEX),
    ];

    /// <summary>Where the file lies in the repository.</summary>
    public string Path => System.IO.Path.Combine(FrozenVector.Root(), "corpus", "vectors", Name + ".jsonl.gz");

    // Moves and bitwise logic of XMM registers stand in the file of all others.
    private static bool IsOnVectors(InstructionForm form) =>
        form.Row is { } row && VectorRows.All.Contains(row) && !IsXmmMoveOrLogic(form.Code.ToOpCode(), row);

    private static bool IsXmmMoveOrLogic(OpCodeInfo form, in InstructionRow row)
    {
        OpCodeOperandKind[] operands = [.. Enumerable.Range(0, form.OpCount).Select(form.GetOpKind)];
        return row.Feature is CpuFeatures.Sse or CpuFeatures.Sse2
            && operands.Any(static kind => kind is OpCodeOperandKind.xmm_or_mem or OpCodeOperandKind.xmm_reg or OpCodeOperandKind.xmm_rm)
            && !operands.Any(static kind => kind is OpCodeOperandKind.mm_or_mem or OpCodeOperandKind.mm_reg or OpCodeOperandKind.mm_rm)
            && (VectorMoves.Rows.Contains(row) || PackedLogic.Operations.Any(operation => operation.Mnemonic == form.Mnemonic));
    }
}
