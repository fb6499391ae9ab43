using System.Globalization;
using VmFuzz.Benchmarks;
using VmFuzz.Coverage;
using VmFuzz.Machines;

// dotnet run -c Release --project tests/VmFuzz.Benchmarks [-- ROUNDS]
int rounds = args.Length > 0 ? int.Parse(args[0], CultureInfo.InvariantCulture) : 9;
const ulong Exits = CpuidLoop.Exits;
const string Plain = "exit + handler + checked entry";

Harness.Run(
[
    new Case(Plain, "CPUID exit", static () => CpuidLoop.Run(level: null), 150),
    new Case("the same, recorded", "CPUID exit", static () => CpuidLoop.Run(level: 1), Base: Plain),
    new Case("the same, recorded, level 0", "CPUID exit", static () => CpuidLoop.Run(level: 0), Base: Plain),
    new Case("the same, replayed", "CPUID exit", Replays.Create(Exits), Base: Plain),
    new Case("the same, with probes", "CPUID exit", CpuidLoop.Probed(ProbeKind.Block), Base: Plain),
    new Case("the same, with probes for pairs", "CPUID exit", CpuidLoop.Probed(ProbeKind.Pair), Base: Plain),
    new Case("merge of a map of 16 Ki", "merge", CpuidLoop.Scan()),
    new Case("userspace exit, floating port", "OUT exit", RunOut),
    new Case("reset, one dirty page", "reset", Resets.Create(), 1000),
    new Case("tier 0, arithmetic loop", "instruction", () => RunLoop(Accelerator.Bare)),
    new Case("tier 0 under kvm", "instruction", () => RunLoop(Accelerator.Kvm)),
    new Case("reference microcode", "instruction", () => RunLoop(Accelerator.Bare, reference: true)),
],
rounds);

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
