namespace VmFuzz.Cpu;

/// <summary>
/// Model-specific registers of a layer above (VMX capabilities, the interrupt controller's base, paravirtual ones).
/// Asked before the processor's own table.
/// </summary>
public interface IMsrExtension
{
    /// <summary>Reads a register.</summary>
    /// <param name="msr">Its number.</param>
    /// <param name="value">Its value.</param>
    /// <param name="fault">Whether the access is #GP(0); only looked at when the result is true.</param>
    /// <returns>Whether this layer owns the register.</returns>
    bool TryRead(uint msr, out ulong value, out bool fault);

    /// <summary>Writes a register; results as of <see cref="TryRead"/>.</summary>
    bool TryWrite(uint msr, ulong value, out bool fault);
}
