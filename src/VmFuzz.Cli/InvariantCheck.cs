using System.Globalization;
using System.Text.Json;
using VmFuzz.Fuzzing;
using VmFuzz.Machines;

namespace VmFuzz.Cli;

/// <summary>What <c>--check</c> looks at in a run: the invariants of exits and entries. It changes nothing.</summary>
internal sealed class InvariantCheck
{
    private readonly InvariantMonitor? _monitor;
    private ulong? _event;

    /// <summary>Prepares to look at a machine that has not run yet.</summary>
    /// <param name="machine">The machine; on one without the hypervisor there is nothing to look at.</param>
    /// <param name="events">Events of the trace so far; null when there is no trace.</param>
    public InvariantCheck(Machine machine, Func<ulong>? events)
    {
        if (machine.UnderHypervisor)
        {
            _monitor = new InvariantMonitor(machine, InvariantTable.Default) { Broke = _ => _event = events?.Invoke() - 1 };
        }
    }

    /// <summary>Who is told about the run, behind those who make its events; null when there is nothing to look at.</summary>
    public IMachineObserver? Observer => _monitor;

    /// <summary>Whether an invariant was broken.</summary>
    public bool Broken => _monitor?.Broken is not null;

    /// <summary>One line for people.</summary>
    public string Text()
    {
        if (_monitor is null)
        {
            return "  no invariants checked: they are about exits, and -accel bare has none";
        }

        if (_monitor.Broken is { } broken)
        {
            string number = _event is { } at ? string.Create(CultureInfo.InvariantCulture, $"event {at}, ") : "";
            return string.Create(CultureInfo.InvariantCulture, $"  BROKEN INVARIANT {Quantities.Plain(broken.Violation.Key)} at {number}exit {broken.Exit}, instruction {broken.Retired}, RIP 0x{broken.Rip:x}: {Quantities.Plain(broken.Violation.Text)}");
        }

        var held = _monitor.Held();
        ulong times = held.Aggregate(0UL, static (sum, row) => sum + row.Value);
        string never = held.Count(static row => row.Value == 0) is > 0 and int count ? $", {count} had no occasion" : "";
        return $"  {held.Count(static row => row.Value != 0)} invariants held, looked at {Quantities.Grouped(times)} times{never}";
    }

    /// <summary>The same and each row's count.</summary>
    public void Write(Utf8JsonWriter json)
    {
        json.WriteStartObject("invariants");
        json.WriteStartObject("held");
        foreach ((Invariant row, ulong times) in _monitor?.Held() ?? [])
        {
            json.WriteNumber(row.Id, times);
        }

        json.WriteEndObject();
        if (_monitor?.Broken is { } broken)
        {
            json.WriteStartObject("broken");
            json.WriteString("invariant", broken.Violation.Oracle);
            json.WriteString("where", broken.Violation.Where);
            json.WriteString("text", broken.Violation.Text);
            if (_event is { } at)
            {
                json.WriteNumber("event", at);
            }

            json.WriteNumber("exit", broken.Exit);
            json.WriteNumber("retired", broken.Retired);
            json.WriteString("rip", $"0x{broken.Rip:x}");
            json.WriteEndObject();
        }

        json.WriteEndObject();
    }
}
