using VmFuzz.Arch;
using VmFuzz.Cpu;

namespace VmFuzz.Machines;

/// <summary>A machine with the board of a PC: its memory, its devices, its interrupt controllers.</summary>
public abstract class BoardMachine : Machine
{
    private protected BoardMachine(MachineOptions options, IInputSource inputs, MachineVariants? variants, PcParts parts)
        : base(options, inputs, variants)
    {
        PcBoard.MapMemory(this);
        Board = new PcBoard(this, parts);
        AddComponents(
        [
            Processor.Door, Clock, Processor.Fields,
            .. Turns is { } turns ? [turns, .. OtherProcessors()] : (IEnumerable<IStateful>)[],
            .. Board.Devices, Clock.Events,
        ]);
    }

    /// <inheritdoc/>
    public override IInterruptController InterruptController => Board.Apics[0];

    internal override IInterruptController InterruptControllerOf(int vcpu) => Board.Apics[vcpu];

    internal override void InitVcpu(int vcpu) => Board.Apics[vcpu].Init();

    private protected PcBoard Board { get; }

    /// <inheritdoc/>
    public override void ApplyDeviceInput(in Input input)
    {
        if (!Board.TryApply(input))
        {
            base.ApplyDeviceInput(input);
        }
    }

    private IEnumerable<IStateful> OtherProcessors()
    {
        foreach (Processor processor in Processors.Skip(1))
        {
            yield return processor.Door;
            yield return processor.Fields;
        }
    }
}
