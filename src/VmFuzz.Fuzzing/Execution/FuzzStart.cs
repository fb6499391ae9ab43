using System.Collections.Immutable;
using System.Runtime.InteropServices;
using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Machines;
using VmFuzz.Memory;

namespace VmFuzz.Fuzzing;

/// <summary>What an input changes about the start state of <see cref="FuzzLayout"/>: code, patches, registers.</summary>
internal static class FuzzStart
{
    // Registers that an input may start with besides the general ones: CR2, DR0 to DR3.
    private const ushort MostStart = 84;

    // CS: with an RPL of 3 the guest starts at CPL 3.
    private const ushort CodeSelector = 36;
    private const ulong AlwaysOne = 2;

    /// <summary>Start states that matter: CPL 3, single steps, interrupts.</summary>
    public static readonly ImmutableArray<RegisterOverride> Choices =
    [
        new(CodeSelector, FuzzLayout.UserCode), new(CodeSelector, FuzzLayout.UserCode), new(ProcessorState.RFlagsId, AlwaysOne | RFlags.Tf),
        new(ProcessorState.RFlagsId, AlwaysOne | RFlags.If), new(ProcessorState.RFlagsId, AlwaysOne | RFlags.If | RFlags.Tf),
        new(ProcessorState.RFlagsId, AlwaysOne | RFlags.Ac),
    ];

    private const ulong StartFlags =
        RFlags.Cf | RFlags.Pf | RFlags.Af | RFlags.Zf | RFlags.Sf | RFlags.Df | RFlags.Of | RFlags.If | RFlags.Tf | RFlags.Ac | RFlags.Id | RFlags.Rf;

    /// <summary>Gives a machine that stands at its start the start state of an input.</summary>
    public static void Apply(Machine machine, FuzzInput input)
    {
        GuestMemory memory = machine.Memory;
        if (input.Code.Count != 0)
        {
            memory.TryWrite(new Gpa(FuzzLayout.Code), CollectionsMarshal.AsSpan(input.Code));
        }

        // HLT ends a program that runs off its end.
        memory.TryWrite(new Gpa(FuzzLayout.Code + (ulong)input.Code.Count), [0xFA, 0xF4]);
        foreach (MemoryPatch patch in input.Patches)
        {
            memory.TryWrite(new Gpa(patch.Address), patch.Bytes.AsSpan());
        }

        if (input.Registers.Count != 0)
        {
            SetRegisters(machine, CollectionsMarshal.AsSpan(input.Registers));
        }
    }

    private static void SetRegisters(Machine machine, ReadOnlySpan<RegisterOverride> registers)
    {
        Processor processor = machine.Processor;
        bool protectedMode = machine.Options.FlatMode != FlatMode.Real16;
        foreach (ref readonly RegisterOverride register in registers)
        {
            if (register.Register == ProcessorState.RFlagsId)
            {
                processor.RFlagsValue = (register.Value & StartFlags) | AlwaysOne;
            }
            else if (register.Register == CodeSelector)
            {
                if ((register.Value & 3) == 3 && protectedMode)
                {
                    FuzzLayout.StartAtUser(processor, machine.Options.FlatMode);
                }
            }
            else if (register.Register is < ProcessorState.Rip or 72 or (>= 80 and < MostStart))
            {
                processor.Fields.TrySetWord(register.Register, register.Value);
            }
        }

        processor.StateChanged();
        machine.Kvm?.Vcpu.Vmx.LoadFromProcessor();
    }
}
