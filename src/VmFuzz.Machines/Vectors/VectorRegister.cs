using System.Collections.Frozen;
using System.Collections.Immutable;
using VmFuzz.Arch;
using VmFuzz.Cpu;

namespace VmFuzz.Machines.Vectors;

/// <summary>How a register is kept.</summary>
public enum VectorRegisterKind : byte
{
    /// <summary>A field of the processor, or a part of one, of at most 64 bits.</summary>
    Word,

    /// <summary>An x87 register, counted from the top of the stack.</summary>
    Stack,

    /// <summary>The low half of a vector register.</summary>
    Xmm,

    /// <summary>A vector register.</summary>
    Ymm,
}

/// <summary>A register as vectors name it. The rows come from the processor's list of fields.</summary>
/// <param name="Name">Name; parts of segment and table registers stand behind a point, as in <c>cs.base</c>.</param>
/// <param name="Kind">How it is kept.</param>
/// <param name="Bits">Width in bits.</param>
/// <param name="Number">Id of the field, or the register's number.</param>
/// <param name="Offset">Where it stands in an image of all fields; x87 registers: where R0 stands.</param>
/// <param name="Settable">Whether a vector can give it.</param>
public sealed record VectorRegister(string Name, VectorRegisterKind Kind, int Bits, int Number, int Offset, bool Settable)
{
    // Not registers: they stand in the result in other ways.
    private static readonly ImmutableArray<string> Hidden = ["retired", "activity", "nmi-pending"];

    // Shown when they change; an instruction vector has no use for others than the defaults.
    private static readonly ImmutableArray<string> Shown =
    [
        "interruptibility", "pending-debug", "pdpte0", "pdpte1", "pdpte2", "pdpte3", "tsc_offset", "tsc_adjust", "pat",
        "apic_base", "misc_enable", "debugctl", "feature_control", "xss", "mtrr_def_type", "spec_ctrl", "mcg_status",
    ];

    // Narrower than the field that holds them.
    private static readonly ImmutableArray<(string Suffix, int Bits)> Widths =
    [
        (".sel", 16), ("gdtr.limit", 16), ("idtr.limit", 16), ("dr6", 32), ("dr7", 32), ("fcw", 16), ("fsw", 16), ("ftw", 16),
        ("fop", 11), ("mxcsr", 16),
    ];

    /// <summary>Bytes of an image of all fields.</summary>
    public static int ImageBytes { get; } = ProcessorState.List.ToArray().Sum(static field => field.Width);

    /// <summary>All registers, in the order in which results name them.</summary>
    public static ImmutableArray<VectorRegister> All { get; } = Build();

    private static readonly FrozenDictionary<string, int> ByName =
        All.Select(static (row, index) => (row.Name, index)).ToFrozenDictionary(static r => r.Name, static r => r.index, StringComparer.Ordinal);

    /// <summary>Finds a register by its name.</summary>
    /// <returns>Its index in <see cref="All"/>, or -1.</returns>
    public static int Find(ReadOnlySpan<char> name) =>
        ByName.GetAlternateLookup<ReadOnlySpan<char>>().TryGetValue(name, out int index) ? index : -1;

    private static ImmutableArray<VectorRegister> Build()
    {
        var rows = ImmutableArray.CreateBuilder<VectorRegister>();
        int offset = 0;
        foreach (StateField field in ProcessorState.List)
        {
            switch (field.Name)
            {
                case "x87":
                    AddAll("st", VectorRegisterKind.Stack, 8, 80, offset, 0);
                    break;
                case "ymm":
                    AddAll("xmm", VectorRegisterKind.Xmm, 16, 128, offset, 32);
                    AddAll("ymm", VectorRegisterKind.Ymm, 16, 256, offset, 32);
                    break;
                default:
                    AddWords(field, offset);
                    break;
            }

            offset += field.Width;
        }

        return rows.ToImmutable();

        void AddAll(string name, VectorRegisterKind kind, int count, int bits, int at, int distance)
        {
            for (int i = 0; i < count; i++)
            {
                rows.Add(new VectorRegister($"{name}{i}", kind, bits, i, at + (i * distance), true));
            }
        }

        void AddWords(in StateField field, int at)
        {
            string name = field.Name.Replace(".selector", ".sel", StringComparison.Ordinal).Replace(".attributes", ".attr", StringComparison.Ordinal);
            if (Hidden.Contains(name, StringComparer.Ordinal))
            {
                return;
            }

            if (field.Width > 8)
            {
                for (int i = 0; i < field.Width / 8; i++)
                {
                    rows.Add(new VectorRegister($"{name}{i}", VectorRegisterKind.Word, 64, field.Id, at + (i * 8), false));
                }

                return;
            }

            int bits = field.Width * 8;
            foreach ((string suffix, int narrow) in Widths)
            {
                bits = name.EndsWith(suffix, StringComparison.Ordinal) ? narrow : bits;
            }

            rows.Add(new VectorRegister(name, VectorRegisterKind.Word, bits, field.Id, at, !Shown.Contains(name, StringComparer.Ordinal)));
        }
    }
}
