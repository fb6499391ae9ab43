using System.Globalization;
using VmFuzz.Arch;
using VmFuzz.Benchmarks;
using VmFuzz.Machines;
using VmFuzz.Replay;
using VmFuzz.Trace;

// dotnet run -c Release --project tests/VmFuzz.Benchmarks [-- ROUNDS]
int rounds = args.Length > 0 ? int.Parse(args[0], CultureInfo.InvariantCulture) : 9;
const ulong Exits = 1_000_000;

Harness.Run(
[
    new Case("exit + handler + checked entry", "CPUID exit", () => RunCpuid(record: false), 150),
    new Case("the same, recorded", "CPUID exit", () => RunCpuid(record: true)),
    new Case("the same, recorded, level 0", "CPUID exit", () => RunCpuid(record: true, level: 0)),
    new Case("the same, replayed", "CPUID exit", Replays.Create(Exits)),
    new Case("userspace exit, floating port", "OUT exit", RunOut),
    new Case("reset, one dirty page", "reset", Resets.Create(), 1000),
    new Case("tier 0, arithmetic loop", "instruction", () => RunLoop(Accelerator.Bare)),
    new Case("tier 0 under kvm", "instruction", () => RunLoop(Accelerator.Kvm)),
    new Case("reference microcode", "instruction", () => RunLoop(Accelerator.Bare, reference: true)),
],
rounds);

static long RunCpuid(bool record, int level = 1)
{
    MachineOptions options = Guests.Options(Guests.CpuidLoop((uint)Exits), Accelerator.Kvm);
    using Machine machine = Machine.Create(options, NoInputs.Instance);
    using Recorder? recorder = record
        ? new Recorder(machine, new TraceWriter(Stream.Null, TraceHeaders.Of(options, "benchmark"), new TraceWriterOptions { CompressionLevel = level }))
        : null;
    machine.Run();
    return (long)Exits;
}

static long RunOut()
{
    using Machine machine = Machine.Create(Guests.Options(Guests.OutLoop((uint)Exits), Accelerator.Kvm), NoInputs.Instance);
    machine.Run();
    return (long)Exits;
}

static long RunLoop(Accelerator accelerator, bool reference = false)
{
    using Machine machine = Machine.Create(Guests.Options(Guests.ArithmeticLoop(reference ? 300_000u : 3_000_000), accelerator), NoInputs.Instance);
    machine.Processor.ReferenceOnly = reference;
    machine.Run();
    return (long)machine.Processor.Retired;
}
