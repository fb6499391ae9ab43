namespace VmFuzz.Cpu;

// Model-specific registers.
public sealed unsafe partial class Processor
{
    /// <summary>Registers of a layer above; asked before the processor's own.</summary>
    public IMsrExtension? MsrExtension { get; set; }

    /// <summary>Whether a register is the local APIC's (x2APIC, IA32_TSC_DEADLINE), which <see cref="Interrupts"/> answers.</summary>
    public bool IsApicMsr(uint msr) => MsrTable.IsApic(this, msr);

    /// <summary>Reads a model-specific register as RDMSR does, without privilege checks and exits.</summary>
    /// <returns>False: the register does not exist (#GP).</returns>
    public bool TryReadMsr(uint msr, out ulong value) => MsrTable.TryRead(this, msr, out value);

    /// <summary>Writes a model-specific register as WRMSR does, without privilege checks and exits.</summary>
    /// <returns>False: #GP, nothing has changed.</returns>
    public bool TryWriteMsr(uint msr, ulong value) => MsrTable.TryWrite(this, msr, value);
}
