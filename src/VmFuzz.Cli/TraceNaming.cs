using System.Globalization;
using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Fuzzing;
using VmFuzz.Trace;

namespace VmFuzz.Cli;

/// <summary>Names of exit reasons, events, components, registers and VMCS fields in traces.</summary>
internal static class TraceNaming
{
    /// <summary>The names.</summary>
    public static TraceNames Names { get; } = new() { Value = ValueName, Place = PlaceName };

    /// <summary>Replaces <c>[0x1000.16]</c> and <c>[0x4002]</c> in the name of a difference by names of fields.</summary>
    public static string Difference(string field)
    {
        int open = field.IndexOf("[0x", StringComparison.Ordinal);
        if (open < 0 || field[^1] != ']')
        {
            return field;
        }

        string place = field[(open + 3)..^1];
        int dot = place.IndexOf('.', StringComparison.Ordinal);
        ushort component = 0;
        bool read = dot < 0
            ? ushort.TryParse(place, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out ushort number)
            : ushort.TryParse(place.AsSpan(0, dot), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out component)
                & ushort.TryParse(place.AsSpan(dot + 1), NumberStyles.None, CultureInfo.InvariantCulture, out number);
        return read && PlaceName(component, number) is { } name ? name : field;
    }

    private static string? ValueName(TraceEventKind kind, TraceField field, ulong value) => field.Name switch
    {
        "reason" when kind == TraceEventKind.Exit => ArchitectureNames.Exit(value),
        "reason" when kind == TraceEventKind.UserspaceExit => Enum.IsDefined((KvmExitReason)value) ? ((KvmExitReason)value).ToString() : null,
        "interruption-info" or "idt-vectoring-info" => ArchitectureNames.Interruption((uint)value),
        _ => null,
    };

    private static string? PlaceName(ushort component, ushort field)
    {
        if (component == 0 || component >= (ushort)ComponentId.Processor && (component & 0xF) == ((ushort)ComponentId.Vmcs & 0xF))
        {
            return Enum.IsDefined((VmcsField)field) ? ((VmcsField)field).ToString() : null;
        }

        if (component < (ushort)ComponentId.Processor)
        {
            return Enum.IsDefined((ComponentId)component) ? string.Create(CultureInfo.InvariantCulture, $"{(ComponentId)component}.{field}") : null;
        }

        if ((component & 0xF) != 0)
        {
            var part = (ComponentId)((ushort)ComponentId.Processor | (component & 0xF));
            return Enum.IsDefined(part) ? string.Create(CultureInfo.InvariantCulture, $"{part}.{field}") : null;
        }

        foreach (StateField known in ProcessorState.List)
        {
            if (known.Id == field)
            {
                return known.Name;
            }
        }

        return null;
    }
}
