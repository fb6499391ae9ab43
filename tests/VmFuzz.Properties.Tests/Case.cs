using System.Text;
using FsCheck;
using FsCheck.Fluent;
using VmFuzz.Arch;
using VmFuzz.Machines;
using VmFuzz.Replay;
using VmFuzz.Testing;
using VmFuzz.Trace;

namespace VmFuzz.Properties.Tests;

/// <summary>The seed of this run: pinned, or from VMFUZZ_SEED; VMFUZZ_LONG=1 takes ten times as many cases.</summary>
internal static class Seeds
{
    private const int LongTimes = 10;

    public static PropertySeed Current { get; } = PropertySeed.Parse(Environment.GetEnvironmentVariable("VMFUZZ_SEED"));

    private static int Times { get; } = Environment.GetEnvironmentVariable("VMFUZZ_LONG") == "1" ? LongTimes : 1;

    public static void Check<T>(Arbitrary<T> cases, int count, Action<T> property) => PropertyCheck.Run(cases, Current, count * Times, property);
}

/// <summary>A program on an accelerator with a schedule.</summary>
internal sealed record Case(GuestProgram Program, Accelerator Accelerator, InputSchedule Schedule)
{
    public static Arbitrary<Case> All(AtomTraits allowed, bool interrupts, int tail, Arbitrary<InputSchedule> schedules, params FlatMode[] modes)
    {
        Arbitrary<GuestProgram> programs = Generators.Programs(allowed, interrupts, tail, modes);
        Gen<Case> gen =
            from program in programs.Generator
            from accelerator in Gen.Elements(Accelerator.Bare, Accelerator.Kvm)
            from schedule in schedules.Generator
            select new Case(program, accelerator, schedule);
        return Arb.From(gen, c => schedules.Shrinker(c.Schedule).Select(s => c with { Schedule = s })
            .Concat(programs.Shrinker(c.Program).Select(p => c with { Program = p })));
    }

    public static Arbitrary<Case> All(AtomTraits allowed, bool interrupts, int tail, Arbitrary<InputSchedule> schedules, Accelerator accelerator)
    {
        Arbitrary<Case> any = All(allowed, interrupts, tail, schedules);
        return Arb.From(any.Generator.Select(c => c with { Accelerator = accelerator }), any.Shrinker);
    }

    public override string ToString() => $"{Accelerator}, schedule {Schedule}\n  {Program}";
}

/// <summary>What a run leaves behind, to be compared.</summary>
internal sealed record Result(string Stop, ulong Digest, ulong Memory, ulong ConsoleLength, ulong ConsoleHash, ulong Retired, string State)
{
    public static Result Of(Machine machine)
    {
        machine.Processor.FlushWriteTlb();
        var tracker = new StateTracker([.. machine.Components, .. machine.InnerComponents]);
        return new Result(machine.Stop.ToString(), tracker.Digest, machine.Memory.Digest(), machine.ConsoleLength, machine.ConsoleHash,
            machine.Processor.Retired, Dump(machine));
    }

    /// <summary>All fields of all components, one a line.</summary>
    public static string Dump(Machine machine)
    {
        var text = new StringBuilder();
        byte[] buffer = new byte[4096];
        foreach (IStateful component in machine.Components.Concat(machine.InnerComponents))
        {
            for (int i = 0; i < component.Fields.Length; i++)
            {
                StateField field = component.Fields[i];
                Span<byte> value = buffer.AsSpan(0, field.Width);
                component.ReadField(i, value);
                text.Append(component.Component).Append('.').Append(field.Name).Append(" = ");
                for (int b = value.Length - 1; b >= 0; b--)
                {
                    text.Append(value[b].ToString("x2"));
                }

                text.Append('\n');
            }
        }

        return text.ToString();
    }

    /// <summary>Fails with the fields that differ.</summary>
    public static void Same(Result expected, Result actual, string what)
    {
        if (expected == actual)
        {
            return;
        }

        string[] left = expected.State.Split('\n');
        string[] right = actual.State.Split('\n');
        var differing = left.Zip(right).Where(static p => p.First != p.Second).Select(static p => $"    {p.First}\n    {p.Second}").Take(12);
        Assert.Fail($"{what}: {expected with { State = "" }}\n  and {actual with { State = "" }}\n{string.Join('\n', differing)}");
    }
}

internal static class Run
{
    public static Machine Machine(Case c, ulong? exitCost = null, ulong? limit = null)
    {
        MachineOptions options = c.Program.Options(c.Accelerator);
        options = options with { ExitCost = exitCost ?? options.ExitCost, MaxInstructions = limit ?? options.MaxInstructions };
        return VmFuzz.Machines.Machine.Create(options, new ScheduledSource(c.Schedule));
    }

    /// <summary>Runs to the end.</summary>
    public static Result ToEnd(Case c, Action<Machine>? prepare = null)
    {
        using Machine machine = Machine(c);
        prepare?.Invoke(machine);
        machine.Run();
        return Result.Of(machine);
    }

    /// <summary>Runs to the end and records.</summary>
    public static byte[] Record(Case c, Action<Machine>? prepare = null, Action<Machine>? done = null)
    {
        using var stream = new MemoryStream();
        MachineOptions options = c.Program.Options(c.Accelerator);
        using (Machine machine = VmFuzz.Machines.Machine.Create(options, new ScheduledSource(c.Schedule)))
        {
            prepare?.Invoke(machine);
            TraceWriter writer = new(stream, TraceHeaders.Of(options, "property"), leaveOpen: true);
            using var recorder = new Recorder(machine, writer);
            machine.Run();
            Assert.False(recorder.DigestBroken);
            done?.Invoke(machine);
        }

        return stream.ToArray();
    }

    public static byte[] Read(Machine machine, ulong address, int length)
    {
        machine.Processor.FlushWriteTlb();
        byte[] bytes = new byte[length];
        Assert.True(machine.Memory.TryRead(new Gpa(address), bytes));
        return bytes;
    }
}
