using System.Runtime.InteropServices;
using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Machines;
using VmFuzz.Memory;

namespace VmFuzz.Fuzzing;

/// <summary>One machine of an executor, with its door: loads an input after a reset, runs it.</summary>
internal sealed class FuzzMachine : IDisposable
{
    // Registers that an input may start with besides the general ones: CR2, DR0 to DR3.
    private const ushort MostStart = 84;
    private const ulong AlwaysOne = 2;
    private const ulong StartFlags =
        RFlags.Cf | RFlags.Pf | RFlags.Af | RFlags.Zf | RFlags.Sf | RFlags.Df | RFlags.Of | RFlags.If | RFlags.Tf | RFlags.Ac | RFlags.Id | RFlags.Rf;

    /// <summary>Makes a machine.</summary>
    /// <param name="options">From <see cref="FuzzLayout.Options"/>.</param>
    /// <param name="variants">Rows under test.</param>
    public FuzzMachine(MachineOptions options, MachineVariants variants)
    {
        Source = new FuzzSource();
        Action<Machine>? prepare = variants.Prepare;
        Machine = Machine.Create(options, Source, variants with
        {
            Prepare = machine =>
            {
                FuzzLayout.Prepare(machine);
                prepare?.Invoke(machine);
            },
        });
    }

    public FuzzSource Source { get; }

    public Machine Machine { get; }

    /// <summary>Resets the machine and gives it the start state of an input.</summary>
    public void Load(FuzzInput input)
    {
        Source.Load(input);
        Machine.Reset();
        GuestMemory memory = Machine.Memory;
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
            SetRegisters(CollectionsMarshal.AsSpan(input.Registers));
        }
    }

    public void Dispose() => Machine.Dispose();

    private void SetRegisters(ReadOnlySpan<RegisterOverride> registers)
    {
        Processor processor = Machine.Processor;
        foreach (ref readonly RegisterOverride register in registers)
        {
            if (register.Register == ProcessorState.RFlagsId)
            {
                processor.RFlagsValue = (register.Value & StartFlags) | AlwaysOne;
            }
            else if (register.Register is < ProcessorState.Rip or 72 or (>= 80 and < MostStart))
            {
                processor.Fields.TrySetWord(register.Register, register.Value);
            }
        }

        processor.StateChanged();
        Machine.Kvm?.Vcpu.Vmx.LoadFromProcessor();
    }
}
