using System.Globalization;
using VmFuzz.Arch;
using VmFuzz.Benchmarks;
using VmFuzz.Machines;
using VmFuzz.Replay;
using VmFuzz.Trace;

// dotnet run -c Release --project tests/VmFuzz.Benchmarks [-- ROUNDS]
int rounds = args.Length > 0 ? int.Parse(args[0], CultureInfo.InvariantCulture) : 9;
const ulong Exits = 200_000;

Harness.Run(
[
    new Case("exit + handler + checked entry", "CPUID exit", () => RunCpuid(record: false), 150),
    new Case("the same, recorded", "CPUID exit", () => RunCpuid(record: true)),
    new Case("reset, one dirty page", "reset", Resets.Create(), 1000),
    new Case("tier 0, arithmetic loop", "instruction", () => RunLoop(Accelerator.Bare)),
    new Case("tier 0 under kvm", "instruction", () => RunLoop(Accelerator.Kvm)),
    new Case("reference microcode", "instruction", () => RunLoop(Accelerator.Bare, reference: true)),
],
rounds);

static long RunCpuid(bool record)
{
    // again: xor eax, eax / cpuid / dec rsi / jnz again / hlt
    byte[] code = [0x48, 0xC7, 0xC6, 0x40, 0x0D, 0x03, 0x00, 0x31, 0xC0, 0x0F, 0xA2, 0x48, 0xFF, 0xCE, 0x75, 0xF7, 0xF4];
    BitConverter.TryWriteBytes(code.AsSpan(3), (uint)Exits);
    MachineOptions options = Guests.Options(code, Accelerator.Kvm);
    using Machine machine = Machine.Create(options, NoInputs.Instance);
    using Recorder? recorder = record
        ? new Recorder(machine, new TraceWriter(Stream.Null, TraceHeaders.Of(options, "benchmark")))
        : null;
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
