using System.Collections.Immutable;
using VmFuzz.Arch;
using VmFuzz.Vmx;

namespace VmFuzz.Fuzzing;

/// <summary>
/// How the VM-exit instruction-information field is read (SDM "VM-Exit Instruction-Information Field" tables). Equal parts
/// stand at equal places, so a row says only which parts its reasons have.
/// </summary>
/// <param name="Reasons">The reasons.</param>
/// <param name="Memory">Whether there is a memory operand: scale, address size, segment, base, index.</param>
/// <param name="Identity">Names for bits 29:28, the instruction; empty when there is none.</param>
/// <param name="Second">Whether bits 31:28 are a second register.</param>
internal sealed record InstructionInformationRow(ImmutableArray<ExitReason> Reasons, bool Memory, ImmutableArray<string> Identity, bool Second)
{
    private static readonly ImmutableArray<string> Sizes = ["16 bits", "32 bits", "64 bits", "reserved"];

    /// <summary>The rows.</summary>
    public static ImmutableArray<InstructionInformationRow> All { get; } =
    [
        new([ExitReason.GdtrOrIdtrAccess], Memory: true, ["sgdt", "sidt", "lgdt", "lidt"], Second: false),
        new([ExitReason.LdtrOrTrAccess], Memory: true, ["sldt", "str", "lldt", "ltr"], Second: false),
        new([ExitReason.Vmclear, ExitReason.Vmptrld, ExitReason.Vmptrst, ExitReason.Vmxon, ExitReason.Xsaves, ExitReason.Xrstors], Memory: true, [], Second: false),
        new([ExitReason.Vmread, ExitReason.Vmwrite, ExitReason.Invept, ExitReason.Invvpid, ExitReason.Invpcid], Memory: true, [], Second: true),
        new([ExitReason.Rdrand, ExitReason.Rdseed], Memory: false, [], Second: false),
    ];

    /// <summary>The parts of an exit's instruction information.</summary>
    public static ImmutableArray<InputFact> Of(in VmExit exit)
    {
        uint info = exit.InstructionInfo;
        ExitReason reason = exit.Basic;
        if (reason == ExitReason.IoInstruction)
        {
            // INS and OUTS have the address size and the segment only.
            return [new("address size", Sizes[(int)((info >> 7) & 3)]), new("segment", Segment(info))];
        }

        if (All.FirstOrDefault(r => r.Reasons.Contains(reason)) is not { } row)
        {
            return [];
        }

        if (!row.Memory)
        {
            return [new("register", Name((info >> 3) & 0xF)), new("operand size", Sizes[(int)((info >> 11) & 3)])];
        }

        var parts = ImmutableArray.CreateBuilder<InputFact>();
        if (!row.Identity.IsEmpty)
        {
            parts.Add(new("instruction", row.Identity[(int)((info >> 28) & 3)]));
        }

        parts.Add(new("operand", (info & (1 << 10)) != 0 ? Name((info >> 3) & 0xF) : Address(info)));
        if (row.Second)
        {
            parts.Add(new("register", Name(info >> 28)));
        }

        return parts.ToImmutable();
    }

    private static string Address(uint info)
    {
        string text = (info & (1 << 27)) == 0 ? Name((info >> 23) & 0xF) : "";
        if ((info & (1 << 22)) == 0)
        {
            text += (text.Length == 0 ? "" : " + ") + Name((info >> 18) & 0xF) + " * " + InputLines.Decimal(1UL << (int)(info & 3));
        }

        return $"memory {Segment(info)}:[{(text.Length == 0 ? "displacement" : text)}], {Sizes[(int)((info >> 7) & 3)]}";
    }

    private static string Segment(uint info) =>
        ((info >> 15) & 7) <= (uint)SegmentRegister.Gs ? ((SegmentRegister)((info >> 15) & 7)).ToString().ToLowerInvariant() : "reserved";

    private static string Name(uint register) => ArchitectureNames.Register((ushort)register);
}
