using System.Collections.Immutable;
using System.Globalization;

namespace VmFuzz.Machines;

/// <summary>
/// Machine options as an ordered list of texts, as a trace's header holds them. One row an option; a row that gives null says
/// nothing, which is how options that came later keep the headers of machines that do without them.
/// </summary>
public static class MachineSettings
{
    private static readonly ImmutableArray<Row> Rows =
    [
        new("machine", static o => Name(o.Kind), static (o, t) => TryName(t, out MachineKind v) ? o with { Kind = v } : null),
        new("accel", static o => Name(o.Accelerator), static (o, t) => TryName(t, out Accelerator v) ? o with { Accelerator = v } : null),
        new("memory", static o => Text(o.Memory), static (o, t) => TryNumber(t, out ulong v) ? o with { Memory = v } : null),
        new("cpu", static o => o.Cpu, static (o, t) => o with { Cpu = t }),
        new("smp", static o => o.Processors == 1 ? null : Text((ulong)o.Processors), static (o, t) => TryNumber(t, out ulong v) && v is > 1 and <= MachineOptions.MaxProcessors ? o with { Processors = (int)v } : null),
        new("exit-cost", static o => Text(o.ExitCost), static (o, t) => TryNumber(t, out ulong v) ? o with { ExitCost = v } : null),
        new("rtc-base", static o => o.RtcBase.ToString(CultureInfo.InvariantCulture), static (o, t) => long.TryParse(t, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out long v) ? o with { RtcBase = v } : null),
        new("flat-mode", static o => Name(o.FlatMode), static (o, t) => TryName(t, out FlatMode v) ? o with { FlatMode = v } : null),
        new("load-address", static o => Text(o.LoadAddress), static (o, t) => TryNumber(t, out ulong v) ? o with { LoadAddress = v } : null),
        new("boot", static o => Name(o.Boot), static (o, t) => TryName(t, out BootProtocol v) ? o with { Boot = v } : null),
        new("append", static o => o.CommandLine, static (o, t) => o with { CommandLine = t }),
        new("until-serial", static o => o.UntilSerial, static (o, t) => o with { UntilSerial = t }),
        new("user-answers", static o => o.UserAnswers ? "on" : "off", static (o, t) => t is "on" or "off" ? o with { UserAnswers = t == "on" } : null),
        new("max-instructions", static o => Text(o.MaxInstructions), static (o, t) => TryNumber(t, out ulong v) ? o with { MaxInstructions = v } : null),
    ];

    /// <summary>Writes the options, images apart.</summary>
    public static ImmutableArray<KeyValuePair<string, string>> ToSettings(MachineOptions options) =>
        [.. Rows.Select(row => (row.Key, Value: row.Get(options))).Where(static s => s.Value is not null).Select(static s => KeyValuePair.Create(s.Key, s.Value!))];

    /// <summary>Reads options.</summary>
    /// <param name="settings">Keys and values; every key once, in any order.</param>
    /// <param name="options">The options, when the result is null.</param>
    /// <returns>What is wrong, in one line, or null.</returns>
    public static string? FromSettings(IEnumerable<KeyValuePair<string, string>> settings, out MachineOptions options)
    {
        options = new MachineOptions();
        foreach ((string key, string value) in settings)
        {
            Row? row = Find(key);
            if (row is null)
            {
                return $"unknown machine setting '{key}'";
            }

            MachineOptions? changed = row.Set(options, value);
            if (changed is null)
            {
                return $"machine setting '{key}' cannot be '{value}'";
            }

            options = changed;
        }

        return null;
    }

    private static Row? Find(string key)
    {
        foreach (Row row in Rows)
        {
            if (row.Key == key)
            {
                return row;
            }
        }

        return null;
    }

    private static string Name<T>(T value)
        where T : struct, Enum => value.ToString().ToLowerInvariant();

    private static bool TryName<T>(string text, out T value)
        where T : struct, Enum => Enum.TryParse(text, ignoreCase: true, out value) && Enum.IsDefined(value) && !char.IsAsciiDigit(text[0]);

    private static string Text(ulong value) => value.ToString(CultureInfo.InvariantCulture);

    private static bool TryNumber(string text, out ulong value) =>
        ulong.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out value);

    private sealed record Row(string Key, Func<MachineOptions, string?> Get, Func<MachineOptions, string, MachineOptions?> Set);
}
