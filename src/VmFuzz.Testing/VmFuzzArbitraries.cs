using System.Collections.Immutable;
using FsCheck;
using FsCheck.Fluent;
using VmFuzz.Arch;
using VmFuzz.Fuzzing;
using VmFuzz.Machines;
using VmFuzz.Trace;

namespace VmFuzz.Testing;

/// <summary>
/// Every type of the product that properties are about, with its generator and shrinker. The form is FsCheck's: name this
/// class wherever it takes a type with arbitraries, or take <see cref="Map"/>.
/// </summary>
/// <remarks>A type is added here, with its generator in <see cref="Generators"/>.</remarks>
public static class VmFuzzArbitraries
{
    // Positions of inputs, in retired instructions; memory in bytes.
    private const int Span = 300;
    private const int MemorySpan = 4 << 20;

    /// <summary>FsCheck's own arbitraries and these.</summary>
    public static IArbMap Map() => ArbMap.Default.Merge(typeof(VmFuzzArbitraries));

    /// <summary>Start values of registers.</summary>
    public static Arbitrary<RegisterFile> RegisterFiles() => Generators.RegisterFiles();

    /// <summary>States of a processor.</summary>
    public static Arbitrary<ProcessorChange> ProcessorChanges() => Generators.ProcessorChanges();

    /// <summary>States of a VCPU.</summary>
    public static Arbitrary<VcpuState> VcpuStates() => Generators.VcpuStates();

    /// <summary>Processor models.</summary>
    public static Arbitrary<CpuModelChange> CpuModels() => Generators.CpuModels();

    /// <summary>VMCSs near the golden ones.</summary>
    public static Arbitrary<VmcsDifference> VmcsDifferences() => Generators.VmcsDifferences(allCapabilities: true);

    /// <summary>VMCSs that pass the entry checks.</summary>
    public static Arbitrary<RoundedVmcs> RoundedVmcss() => Generators.RoundedVmcss();

    /// <summary>Capabilities of VMX.</summary>
    public static Arbitrary<CapabilityDifference> Capabilities() => Generators.Capabilities();

    /// <summary>Guest programs that involve anything.</summary>
    public static Arbitrary<GuestProgram> Programs() => Generators.Programs(AtomTraits.All, interrupts: true, tail: 20);

    /// <summary>Schedules of what comes in from outside.</summary>
    public static Arbitrary<InputSchedule> Schedules() => Generators.Schedules(Span);

    /// <summary>Inputs through the door: answers of userspace, random values, events.</summary>
    public static Arbitrary<Input> Inputs() => Generators.Inputs();

    /// <summary>Options of machines.</summary>
    public static Arbitrary<MachineOptions> MachineOptions() => Generators.FlatOptions();

    /// <summary>Histories of a guest's memory.</summary>
    public static Arbitrary<ImmutableArray<MemoryStep>> MemorySteps() => Generators.MemorySteps(MemorySpan);

    /// <summary>Inputs of every target of the fuzzer.</summary>
    public static Arbitrary<FuzzInput> FuzzInputs() => Generators.FuzzInputs();

    /// <summary>Made exits.</summary>
    public static Arbitrary<MadeExit> MadeExits() => Generators.MadeExits();

    /// <summary>Files that should hold inputs.</summary>
    public static Arbitrary<InputFile> InputFiles() => Generators.InputFiles();

    /// <summary>Trace events.</summary>
    public static Arbitrary<TraceEvent> TraceEvents() => Generators.TraceEvents();

    /// <summary>Traces of any events.</summary>
    public static Arbitrary<TraceOfEvents> Traces() => Generators.Traces();
}
