using VmFuzz.Arch;
using VmFuzz.Machines;

namespace VmFuzz.Fuzzing;

/// <summary>Digest of a whole machine: every component, the hypervisor's own state, memory, console.</summary>
internal static class MachineDigest
{
    private const int MostWidth = 2048;

    public static ulong Of(Machine machine)
    {
        ulong digest = machine.Memory.Digest();
        digest = StateHash.Step(digest, machine.ConsoleHash);
        foreach (IStateful component in machine.Components)
        {
            digest = Add(digest, component);
        }

        foreach (IStateful component in machine.InnerComponents)
        {
            digest = Add(digest, component);
        }

        return digest;
    }

    /// <summary>Adds a component to a digest.</summary>
    public static ulong Add(ulong digest, IStateful component)
    {
        Span<byte> buffer = stackalloc byte[MostWidth];
        ReadOnlySpan<StateField> fields = component.Fields;
        for (int i = 0; i < fields.Length; i++)
        {
            int width = fields[i].Width;
            Span<byte> bytes = width <= MostWidth ? buffer[..width] : new byte[width];
            component.ReadField(i, bytes);
            digest += StateHash.Mix(component.Component, fields[i].Id, bytes);
        }

        return digest;
    }
}
