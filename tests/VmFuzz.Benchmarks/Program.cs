using System.Globalization;
using VmFuzz.Benchmarks;
using VmFuzz.Coverage;
using VmFuzz.Fuzzing;
using VmFuzz.Machines;

// dotnet run -c Release --project tests/VmFuzz.Benchmarks [-- ROUNDS [PART OF A NAME]]
string part = args.Length > 1 ? args[1] : "";
int rounds = args.Length > 0 ? int.Parse(args[0], CultureInfo.InvariantCulture) : 9;
const ulong Exits = CpuidLoop.Exits;

Harness.Run(
[
    new Case("exit + handler + checked entry", "CPUID exit", static () => CpuidLoop.Run(level: null), 150),
    new Case("the same, recorded", "CPUID exit", static () => CpuidLoop.Run(level: 1)),
    new Case("the same, recorded, level 0", "CPUID exit", static () => CpuidLoop.Run(level: 0)),
    new Case("the same, replayed", "CPUID exit", Replays.Create(Exits)),
    new Case("the same, with probes", "CPUID exit", CpuidLoop.Probed(ProbeKind.Block)),
    new Case("the same, with probes for pairs", "CPUID exit", CpuidLoop.Probed(ProbeKind.Pair)),
    new Case("merge of a map of 16 Ki", "merge", CpuidLoop.Scan()),
    new Case("campaign overhead, exit handlers", "execution", Campaigns.Create(FuzzTarget.ExitHandlers, FuzzMode.Full), 3000),
    new Case("campaign overhead, VMCS entries", "execution", Campaigns.Create(FuzzTarget.VmcsEntry, FuzzMode.Full), 3000),
    new Case("campaign overhead, guest code", "execution", Campaigns.Create(FuzzTarget.GuestCode, FuzzMode.Full), 3000),
    new Case("campaign overhead, bytes only", "execution", Campaigns.Create(FuzzTarget.ExitHandlers, FuzzMode.Coverage)),
    new Case("userspace exit, floating port", "OUT exit", RunOut),
    new Case("reset, one dirty page", "reset", Resets.Create(), 1000),
    new Case("tier 0, arithmetic loop", "instruction", () => RunLoop(Accelerator.Bare)),
    new Case("tier 0 under kvm", "instruction", () => RunLoop(Accelerator.Kvm)),
    new Case("reference microcode", "instruction", () => RunLoop(Accelerator.Bare, reference: true)),
],
rounds,
part);

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
