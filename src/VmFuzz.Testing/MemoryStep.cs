using VmFuzz.Arch;
using VmFuzz.Memory;

namespace VmFuzz.Testing;

/// <summary>What is done to a guest's memory.</summary>
public enum MemoryAction : byte
{
    /// <summary>Bytes are written as a guest writes: read-only slots refuse them.</summary>
    Write,
    /// <summary>Bytes are written as a loader writes: into read-only slots too.</summary>
    Load,
    /// <summary>Memory goes back to what was committed last.</summary>
    Reset,
    /// <summary>What memory holds is what resets go back to.</summary>
    Commit,
}

/// <summary>One step of a history of a guest's memory.</summary>
/// <param name="Action">What is done.</param>
/// <param name="Address">Where bytes go.</param>
/// <param name="Length">How many.</param>
/// <param name="Seed">Where they come from.</param>
public readonly record struct MemoryStep(MemoryAction Action, Gpa Address, int Length, ulong Seed)
{
    /// <summary>Does it. What the slots refuse is not done.</summary>
    public void Apply(GuestMemory memory)
    {
        ArgumentNullException.ThrowIfNull(memory);
        switch (Action)
        {
            case MemoryAction.Reset:
                memory.Reset();
                break;
            case MemoryAction.Commit:
                memory.Commit();
                break;
            case MemoryAction.Load:
                memory.TryLoad(Address, new FieldValue(0, Seed).Bytes(Length));
                break;
            default:
                memory.TryWrite(Address, new FieldValue(0, Seed).Bytes(Length));
                break;
        }
    }
}
