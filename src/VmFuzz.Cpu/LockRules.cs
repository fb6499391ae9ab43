using Iced.Intel;

namespace VmFuzz.Cpu;

/// <summary>Which instructions take a LOCK prefix.</summary>
internal static class LockRules
{
    public static bool Allowed(in Instruction instruction) => instruction.Op0Kind == OpKind.Memory;
}
