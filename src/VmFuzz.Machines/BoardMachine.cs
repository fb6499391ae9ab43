using VmFuzz.Arch;

namespace VmFuzz.Machines;

/// <summary>A machine with the board of a PC: its memory, its devices, its interrupt controllers.</summary>
public abstract class BoardMachine : Machine
{
    private protected BoardMachine(MachineOptions options, IInputSource inputs, MachineVariants? variants, PcParts parts)
        : base(options, inputs, variants)
    {
        PcBoard.MapMemory(this);
        Board = new PcBoard(this, parts);
        AddComponents([Processor.Door, Clock, Processor.Fields, .. Board.Devices, Clock.Events]);
    }

    /// <inheritdoc/>
    public override IInterruptController InterruptController => Board.Apic;

    private protected PcBoard Board { get; }

    /// <inheritdoc/>
    public override void ApplyDeviceInput(in Input input)
    {
        if (!Board.TryApply(input))
        {
            base.ApplyDeviceInput(input);
        }
    }
}
