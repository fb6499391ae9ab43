using VmFuzz.Arch;
using VmFuzz.Machines;

namespace VmFuzz.Fuzzing;

/// <summary>One number for everything that a run left.</summary>
internal static class MachineDigest
{
    /// <summary>Components, the hypervisor's own state, memory, console.</summary>
    public static ulong Of(Machine machine)
    {
        ulong sum = 0;
        Span<byte> buffer = stackalloc byte[4096];
        foreach (IStateful component in machine.Components)
        {
            sum += Of(component, buffer);
        }

        foreach (IStateful component in machine.InnerComponents)
        {
            sum += Of(component, buffer);
        }

        machine.Processor.FlushWriteTlb();
        ulong digest = StateHash.Step(sum, machine.Memory.Digest());
        digest = StateHash.Step(digest, machine.ConsoleHash);
        return StateHash.Step(digest, ((ulong)machine.Stop.Kind << 32) | (uint)machine.Stop.GuestStatus);
    }

    private static ulong Of(IStateful component, Span<byte> buffer)
    {
        ReadOnlySpan<StateField> fields = component.Fields;
        ulong sum = 0;
        for (int i = 0; i < fields.Length; i++)
        {
            Span<byte> value = buffer[..fields[i].Width];
            component.ReadField(i, value);
            sum += StateHash.Mix(component.Component, fields[i].Id, value);
        }

        return sum;
    }
}
