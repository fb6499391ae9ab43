using System.Buffers.Binary;
using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Machines;

namespace VmFuzz.Fuzzing;

/// <summary>Registers of a guest as the guest sees them, with or without a hypervisor.</summary>
internal static class GuestFields
{
    public static readonly int PendingDebug = IndexOf("pending-debug");
    public static readonly int Cr0 = IndexOf("cr0");
    public static readonly int Cr3 = IndexOf("cr3");
    public static readonly int Cr4 = IndexOf("cr4");
    public static readonly int Efer = IndexOf("efer");
    public static readonly int Fsw = IndexOf("fsw");

    /// <summary>Reads a register.</summary>
    /// <param name="machine">The machine; stopped.</param>
    /// <param name="index">Index into <see cref="ProcessorState.List"/>.</param>
    /// <param name="value">As wide as the register.</param>
    public static void Read(Machine machine, int index, Span<byte> value)
    {
        if (machine.Kvm is { } kvm)
        {
            kvm.Vcpu.ReadGuest(index, value);
        }
        else
        {
            machine.Processor.Fields.ReadField(index, value);
        }
    }

    /// <summary>A register of eight bytes.</summary>
    public static ulong Word(Machine machine, int index)
    {
        Span<byte> value = stackalloc byte[8];
        Read(machine, index, value);
        return BinaryPrimitives.ReadUInt64LittleEndian(value);
    }

    /// <summary>Index of a register by its name.</summary>
    public static int IndexOf(string name)
    {
        for (int i = 0; i < ProcessorState.List.Length; i++)
        {
            if (ProcessorState.List[i].Name == name)
            {
                return i;
            }
        }

        throw new ArgumentException($"There is no register {name}.", nameof(name));
    }
}
