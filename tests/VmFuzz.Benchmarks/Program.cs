using System.Globalization;
using VmFuzz.Benchmarks;
using VmFuzz.Benchmarks.Peers;
using VmFuzz.Coverage;
using VmFuzz.Cpu;
using VmFuzz.Fuzzing;
using VmFuzz.Machines;

// dotnet run -c Release --project tests/VmFuzz.Benchmarks [-- ROUNDS [PART OF A NAME]...]
// dotnet run -c Release --project tests/VmFuzz.Benchmarks -- drivers [SECONDS [TARGET]...]
// dotnet run -c Release --project tests/VmFuzz.Benchmarks -- peers [REPEATS [MILLION INSTRUCTIONS]]
// dotnet run -c Release --project tests/VmFuzz.Benchmarks -- boots [ROUNDS]
if (args is ["peers", ..])
{
    PeerRace.Run(Number(1, 3), Number(2, 50));
    return;
}

if (args is ["boots", ..])
{
    Boots.Run(Number(1, 5));
    return;
}

if (args is ["drivers", ..])
{
    int seconds = args.Length > 1 ? int.Parse(args[1], CultureInfo.InvariantCulture) : 20;
    foreach (string target in args.Length > 2 ? args[2..] : ["exit-handlers"])
    {
        DriverRace.Run(target, seconds, ["built-in", "afl", "libfuzzer"]);
    }

    return;
}

int rounds = args.Length > 0 ? int.Parse(args[0], CultureInfo.InvariantCulture) : 9;
const ulong Exits = CpuidLoop.Exits;
const string Plain = "exit + handler + checked entry";
const string Loop = "tier 0, arithmetic loop";

Case[] cases =
[
    new Case(Plain, "CPUID exit", static () => CpuidLoop.Run(level: null), 150),
    new Case("the same, recorded", "CPUID exit", static () => CpuidLoop.Run(level: 1), Base: Plain),
    new Case("the same, recorded, level 0", "CPUID exit", static () => CpuidLoop.Run(level: 0), Base: Plain),
    new Case("the same, replayed", "CPUID exit", Prepared(static () => Replays.Create(Exits)), Base: Plain),
    new Case("the same, with probes", "CPUID exit", Prepared(static () => CpuidLoop.Probed(ProbeKind.Block)), Base: Plain),
    new Case("the same, with probes for pairs", "CPUID exit", Prepared(static () => CpuidLoop.Probed(ProbeKind.Pair)), Base: Plain),
    new Case("merge of a map of 16 Ki", "merge", Prepared(static () => CpuidLoop.Scan())),
    new Case("campaign overhead, exit handlers", "execution", Prepared(static () => Campaigns.Create(FuzzTarget.ExitHandlers, FuzzMode.Full)), 3000),
    new Case("campaign overhead, VMCS entries", "execution", Prepared(static () => Campaigns.Create(FuzzTarget.VmcsEntry, FuzzMode.Full)), 3000),
    new Case("campaign overhead, guest code", "execution", Prepared(static () => Campaigns.Create(FuzzTarget.GuestCode, FuzzMode.Full)), 3000),
    new Case("campaign overhead, bytes only", "execution", Prepared(static () => Campaigns.Create(FuzzTarget.ExitHandlers, FuzzMode.Coverage))),
    new Case("userspace exit, floating port", "OUT exit", RunOut),
    new Case("reset, one dirty page", "reset", Prepared(static () => Resets.Create(Accelerator.Bare, 1)), 1000),
    new Case("kvm reset, clean", "reset", Prepared(static () => Resets.Create(Accelerator.Kvm, 0)), 500),
    new Case("kvm reset, one dirty page", "reset", Prepared(static () => Resets.Create(Accelerator.Kvm, 1)), 1000),
    new Case("kvm reset + 8 CPUID exits + HLT", "case", Prepared(static () => Resets.Cases()), 10_000),
    new Case("guest code, one program", "program of 100", Prepared(static () => GuestPrograms.Create(changing: false)), 20_000),
    new Case("guest code, new bytes each", "program of 100", Prepared(static () => GuestPrograms.Create(changing: true)), 20_000),
    new Case("block of six, decoded", "block", Prepared(static () => Blocks.Create()), 4000),
    new Case(Loop, "instruction", () => RunLoop(Accelerator.Bare)),
    new Case("the same, its edges counted", "instruction", () => RunLoop(Accelerator.Bare, edges: new GuestEdgeMap()), Base: Loop),
    new Case("tier 0 under kvm", "instruction", () => RunLoop(Accelerator.Kvm)),
    new Case("reference microcode", "instruction", () => RunLoop(Accelerator.Bare, reference: true)),
];
string[] wanted = args.Length > 1 ? args[1..] : [""];
Harness.Run([.. cases.Where(c => wanted.Any(w => c.Name.Contains(w, StringComparison.Ordinal)))], rounds);

int Number(int index, int otherwise) => args.Length > index ? int.Parse(args[index], CultureInfo.InvariantCulture) : otherwise;

// Prepared at its first run: rows that are not wanted cost nothing.
static Func<long> Prepared(Func<Func<long>> make)
{
    Func<long>? run = null;
    return () => (run ??= make())();
}

static long RunOut()
{
    using Machine machine = Machine.Create(Guests.Options(Guests.OutLoop((uint)Exits), Accelerator.Kvm), NoInputs.Instance);
    machine.Run();
    return (long)Exits;
}

static long RunLoop(Accelerator accelerator, bool reference = false, GuestEdgeMap? edges = null)
{
    using Machine machine = Machine.Create(Guests.Options(Guests.ArithmeticLoop(reference ? 300_000u : 3_000_000), accelerator), NoInputs.Instance);
    machine.Processor.ReferenceOnly = reference;
    machine.Processor.Edges = edges;
    machine.Run();
    return (long)machine.Processor.Retired;
}
