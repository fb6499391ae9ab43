using System.Collections.Immutable;
using System.Globalization;
using System.Numerics;
using System.Reflection;
using VmFuzz.Arch;

namespace VmFuzz.Fuzzing;

/// <summary>Names of the bits of a word.</summary>
internal sealed class BitNames
{
    private readonly ImmutableArray<string?> _names;

    private BitNames(ImmutableArray<string?> names) => _names = names;

    /// <summary>The names of exceptions, as the exception bitmap has them.</summary>
    public static BitNames Exceptions { get; } = new([.. Enumerable.Range(0, 32).Select(static v => ArchitectureNames.Exception((byte)v))]);

    /// <summary>The constants of a class that are one bit.</summary>
    public static BitNames Of(Type constants)
    {
        var names = new string?[64];
        foreach (FieldInfo field in constants.GetFields(BindingFlags.Public | BindingFlags.Static))
        {
            if (field.IsLiteral && Convert.ToUInt64(field.GetRawConstantValue(), CultureInfo.InvariantCulture) is var value && BitOperations.PopCount(value) == 1)
            {
                names[BitOperations.TrailingZeroCount(value)] = field.Name;
            }
        }

        return new([.. names]);
    }

    /// <summary>Names of the bits that are set, lowest first.</summary>
    public string List(ulong value)
    {
        var parts = new List<string>();
        for (; value != 0; value &= value - 1)
        {
            int bit = BitOperations.TrailingZeroCount(value);
            parts.Add((bit < _names.Length ? _names[bit] : null) ?? "bit " + InputLines.Decimal((ulong)bit));
        }

        return string.Join(", ", parts);
    }

    /// <summary>What changed, as <c>+Name</c> and <c>-Name</c>, lowest bit first.</summary>
    public string Changes(ulong from, ulong to)
    {
        var parts = new List<string>();
        for (ulong left = from ^ to; left != 0; left &= left - 1)
        {
            ulong bit = left & (0 - left);
            parts.Add(((to & bit) != 0 ? "+" : "-") + List(bit));
        }

        return string.Join(", ", parts);
    }
}

/// <summary>A VMCS field whose value says more than its number.</summary>
/// <param name="Fields">The fields.</param>
/// <param name="Bits">Names of its bits; null when it is read as a whole.</param>
/// <param name="Text">What the whole value means; null when its bits are read.</param>
internal sealed record FieldMeaning(ImmutableArray<VmcsField> Fields, BitNames? Bits, Func<ulong, string>? Text = null)
{
    private static readonly ImmutableArray<string> CodeAndDataTypes =
    [
        "read-only data", "read-only data, accessed", "data", "data, accessed", "read-only expand-down data",
        "read-only expand-down data, accessed", "expand-down data", "expand-down data, accessed", "execute-only code",
        "execute-only code, accessed", "code", "code, accessed", "execute-only conforming code",
        "execute-only conforming code, accessed", "conforming code", "conforming code, accessed",
    ];

    /// <summary>The rows.</summary>
    public static ImmutableArray<FieldMeaning> All { get; } =
    [
        new([VmcsField.PinBasedControls], BitNames.Of(typeof(PinBasedControls))),
        new([VmcsField.PrimaryControls], BitNames.Of(typeof(PrimaryControls))),
        new([VmcsField.SecondaryControls], BitNames.Of(typeof(SecondaryControls))),
        new([VmcsField.TertiaryControls], BitNames.Of(typeof(TertiaryControls))),
        new([VmcsField.ExitControls], BitNames.Of(typeof(ExitControls))),
        new([VmcsField.EntryControls], BitNames.Of(typeof(EntryControls))),
        new([VmcsField.ExceptionBitmap], BitNames.Exceptions),
        new([VmcsField.GuestCr0, VmcsField.HostCr0, VmcsField.Cr0GuestHostMask, VmcsField.Cr0ReadShadow], BitNames.Of(typeof(Cr0))),
        new([VmcsField.GuestCr4, VmcsField.HostCr4, VmcsField.Cr4GuestHostMask, VmcsField.Cr4ReadShadow], BitNames.Of(typeof(Cr4))),
        new([VmcsField.GuestEfer, VmcsField.HostEfer], BitNames.Of(typeof(Efer))),
        new([VmcsField.GuestRflags], BitNames.Of(typeof(RFlags))),
        new([VmcsField.GuestInterruptibility], BitNames.Of(typeof(InterruptibilityState))),
        new([VmcsField.GuestPendingDebug], BitNames.Of(typeof(PendingDebugExceptions))),
        new([VmcsField.GuestActivity], null, static v => v <= (ulong)ActivityState.WaitForSipi ? ((ActivityState)v).ToString() : "no such state"),
        new(
            [VmcsField.EntryInterruptionInfo, VmcsField.ExitInterruptionInfo, VmcsField.IdtVectoringInfo],
            null,
            static v => ArchitectureNames.Interruption((uint)v) ?? "not valid"),
        new([VmcsField.ExitReason], null, ArchitectureNames.Exit),
        new([VmcsField.VmInstructionError], null, static v => Enum.IsDefined((VmxInstructionError)(byte)v) ? ((VmxInstructionError)(byte)v).ToString() : "no such error"),
        new(
            [
                VmcsField.GuestEsAccessRights, VmcsField.GuestCsAccessRights, VmcsField.GuestSsAccessRights, VmcsField.GuestDsAccessRights,
                VmcsField.GuestFsAccessRights, VmcsField.GuestGsAccessRights, VmcsField.GuestLdtrAccessRights, VmcsField.GuestTrAccessRights,
            ],
            null,
            static v => AccessRights((uint)v)),
    ];

    /// <summary>The row of a field, or null.</summary>
    public static FieldMeaning? Find(VmcsField field) => All.FirstOrDefault(r => r.Fields.Contains(field));

    /// <summary>A value of a field, with its meaning if it has one.</summary>
    public static string Value(VmcsField field, ulong value)
    {
        FieldMeaning? row = Find(field);
        string meaning = row is null ? "" : row.Text is { } text ? text(value) : row.Bits!.List(value);
        return meaning.Length == 0 ? InputLines.Hex(value) : $"{InputLines.Hex(value)} ({meaning})";
    }

    /// <summary>How a field changed.</summary>
    public static string Change(VmcsField field, ulong from, ulong to)
    {
        FieldMeaning? row = Find(field);
        string change = $"{InputLines.Hex(from)} -> {InputLines.Hex(to)}";
        return row is null ? change : row.Text is { } text ? $"{change} ({text(from)} -> {text(to)})" : $"{change} ({row.Bits!.Changes(from, to)})";
    }

    // SDM "Guest Register State".
    private static string AccessRights(uint rights)
    {
        var parts = new List<string>();
        if ((rights & SegmentAttributes.Unusable) != 0)
        {
            parts.Add("unusable");
        }

        parts.Add((rights & SegmentAttributes.S) != 0 ? CodeAndDataTypes[(int)(rights & SegmentAttributes.TypeMask)] : "system type " + InputLines.Decimal(rights & SegmentAttributes.TypeMask));
        parts.Add("DPL " + InputLines.Decimal((rights & SegmentAttributes.DplMask) >> SegmentAttributes.DplShift));
        Add(parts, rights, SegmentAttributes.P, "present", "not present");
        Add(parts, rights, SegmentAttributes.L, "L", null);
        Add(parts, rights, SegmentAttributes.Db, "D/B", null);
        Add(parts, rights, SegmentAttributes.G, "4 KiB limit", null);
        Add(parts, rights, SegmentAttributes.Avl, "AVL", null);
        if ((rights & SegmentAttributes.Reserved) != 0)
        {
            parts.Add("reserved " + InputLines.Hex(rights & SegmentAttributes.Reserved));
        }

        return string.Join(", ", parts);
    }

    private static void Add(List<string> parts, uint value, uint bit, string set, string? clear)
    {
        if ((value & bit) != 0)
        {
            parts.Add(set);
        }
        else if (clear is not null)
        {
            parts.Add(clear);
        }
    }
}
