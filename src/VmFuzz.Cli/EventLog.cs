using System.Globalization;
using System.Text;
using Iced.Intel;
using VmFuzz.Cpu;
using VmFuzz.Machines;
using VmFuzz.Replay;
using VmFuzz.Trace;

namespace VmFuzz.Cli;

/// <summary>Shows events as lines while they happen.</summary>
internal sealed class EventLog(LogKinds kinds, TextWriter writer)
{
    private readonly TraceText _text = new(TraceNaming.Names);
    private ulong _sequence;

    /// <summary>Watches the run of a machine that nobody records.</summary>
    public EventBuilder Watch(Machine machine)
    {
        var observer = new Observer(machine, this);
        machine.Observe(observer);
        return observer;
    }

    /// <summary>Shows instructions. They go through the reference microcode then, which is slower and gives the same results.</summary>
    public void WatchInstructions(Machine machine)
    {
        if ((kinds & LogKinds.Instructions) == 0)
        {
            return;
        }

        var formatter = new NasmFormatter();
        var output = new StringOutput();
        foreach (Processor each in machine.Processors)
        {
            each.ReferenceOnly = true;
            each.InstructionLog = (processor, instruction) =>
            {
                formatter.Format(instruction, output);
                writer.WriteLine(string.Create(CultureInfo.InvariantCulture, $"         v{processor.Index} {processor.Retired,12} in_asm {instruction.IP:x8}: {output.ToStringAndReset()}"));
            };
        }
    }

    /// <summary>Shows an event if it was asked for.</summary>
    public void Show(TraceEvent made)
    {
        LogKinds kind = made.Kind switch
        {
            TraceEventKind.Entry or TraceEventKind.Exit or TraceEventKind.UserspaceExit => LogKinds.Exits,
            TraceEventKind.Injected or TraceEventKind.Delivered => LogKinds.Int,
            TraceEventKind.Input => LogKinds.Inputs,
            TraceEventKind.FirstAccess => LogKinds.FirstAccess,
            _ => LogKinds.None,
        };
        made.Sequence = _sequence++;
        if ((kinds & kind) != 0)
        {
            writer.WriteLine(_text.Line(made));
        }
    }

    private sealed class Observer(Machine machine, EventLog log) : EventBuilder(machine)
    {
        protected override void Emit(TraceEvent made) => log.Show(made);
    }
}
