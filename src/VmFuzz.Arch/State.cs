namespace VmFuzz.Arch;

/// <summary>One field of a component's state.</summary>
/// <param name="Id">Number of the field in its component; part of the trace format and never reused.</param>
/// <param name="Name">Name for people, as in the reference document of the component.</param>
/// <param name="Width">Bytes, 1 to 4096.</param>
public readonly record struct StateField(ushort Id, string Name, int Width);

/// <summary>Numbers of components; part of the trace format and never reused.</summary>
public enum ComponentId : ushort
{
    /// <summary>Registers of VCPU 0; VCPU n adds n * 16 to this and the next numbers up to 15.</summary>
    Processor = 0x1000,
    /// <summary>The current VMCS.</summary>
    Vmcs = 0x1001,
    /// <summary>VMX state outside the VMCS (VMXON pointer, current pointer).</summary>
    Vmx = 0x1002,
    /// <summary>The run path's own state of a VCPU.</summary>
    KvmVcpu = 0x1003,
    /// <summary>The modelled host processor around root mode.</summary>
    HostCpu = 0x1004,
    /// <summary>The local APIC of a VCPU; that of VCPU 0 is <see cref="LocalApic"/>.</summary>
    VcpuLocalApic = 0x1005,
    /// <summary>Inputs that a VCPU consumed so far; those of VCPU 0 are <see cref="Door"/>.</summary>
    VcpuDoor = 0x1006,
    /// <summary>Where in a pass the run path stands; in snapshots only.</summary>
    KvmPass = 0x1007,
    /// <summary>Inputs consumed so far, as a running hash.</summary>
    Door = 1,
    /// <summary>Clock and event queue.</summary>
    Clock = 2,
    /// <summary>Queue of scheduled events.</summary>
    Events = 5,
    /// <summary>State of the VM that no VCPU owns.</summary>
    KvmVm = 3,
    /// <summary>Guest-physical memory.</summary>
    Memory = 4,
    /// <summary>Whose turn it is among several VCPUs.</summary>
    Turns = 6,
    /// <summary>First serial port.</summary>
    Serial0 = 16,
    /// <summary>8254 timer.</summary>
    Pit = 17,
    /// <summary>Real-time clock and CMOS memory.</summary>
    Rtc = 18,
    /// <summary>PCI configuration mechanism and host bridge.</summary>
    Pci = 19,
    /// <summary>8259 pair.</summary>
    Pic = 20,
    /// <summary>Keyboard controller.</summary>
    KeyboardController = 21,
    /// <summary>Debug ports (0xe9, 0x402, 0xf4).</summary>
    DebugPorts = 22,
    /// <summary>Port 0x92 and 0xcf9.</summary>
    ResetControl = 23,
    /// <summary>fw_cfg.</summary>
    FwCfg = 24,
    /// <summary>ACPI power-management timer.</summary>
    PmTimer = 25,
    /// <summary>Local APIC.</summary>
    LocalApic = 26,
    /// <summary>IO APIC.</summary>
    IoApic = 27,
    /// <summary>HPET.</summary>
    Hpet = 28,
    /// <summary>ACPI event and control registers.</summary>
    PowerControl = 29,
    /// <summary>Devices of hypervisor unit tests.</summary>
    UnitTest = 30,
    /// <summary>PCI function of hypervisor unit tests.</summary>
    PciTest = 31,
    /// <summary>The first number for users' own devices; all above are theirs too.</summary>
    User = 0x8000,
}

/// <summary>Numbers of the components that each VCPU has.</summary>
public static class ComponentIds
{
    private const int PerVcpu = 16;

    /// <summary>The number of a VCPU's component.</summary>
    /// <param name="vcpu">Index of the VCPU, 0 to 255.</param>
    /// <param name="part">The component of VCPU 0, <see cref="ComponentId.Processor"/> or one of the fifteen behind it.</param>
    public static ComponentId Of(int vcpu, ComponentId part) => (ComponentId)((int)part + (vcpu * PerVcpu));

    /// <summary>The same for a component that has a number of its own in the first VCPU.</summary>
    /// <param name="vcpu">Index of the VCPU, 0 to 255.</param>
    /// <param name="first">The component of VCPU 0.</param>
    /// <param name="part">What the others' numbers are counted from.</param>
    public static ComponentId Of(int vcpu, ComponentId first, ComponentId part) => vcpu == 0 ? first : Of(vcpu, part);
}

/// <summary>
/// A component whose state is described once, by a list of fields. Save, restore, digest, comparison and reset all
/// come from this list; a trace sees state only as (component, field, bytes).
/// </summary>
public interface IStateful
{
    /// <summary>The component's number.</summary>
    ComponentId Component { get; }

    /// <summary>The fields, in a fixed order; the index in this list addresses a field below.</summary>
    ReadOnlySpan<StateField> Fields { get; }

    /// <summary>Copies the value of a field.</summary>
    /// <param name="index">Index into <see cref="Fields"/>.</param>
    /// <param name="destination">Exactly the field's width; little-endian.</param>
    void ReadField(int index, Span<byte> destination);

    /// <summary>Sets a field. Derived state (caches, queued events, lines) follows.</summary>
    /// <param name="index">Index into <see cref="Fields"/>.</param>
    /// <param name="source">Exactly the field's width; little-endian.</param>
    void WriteField(int index, ReadOnlySpan<byte> source);
}

/// <summary>A component that counts its changes, so that watchers look only when something happened.</summary>
public interface IVersioned
{
    /// <summary>Moves whenever any field may have changed.</summary>
    ulong Version { get; }
}

/// <summary>A component that goes back to an earlier state by copying: what was touched, not field by field.</summary>
public interface ICopiedState
{
    /// <summary>Copies the state as it is now. Restoring the copy sets what writing every field of it would set.</summary>
    IStateCopy CopyState();
}

/// <summary>The state of one component at one moment.</summary>
public interface IStateCopy
{
    /// <summary>Puts the component back. Allocates nothing.</summary>
    void Restore();
}

/// <summary>The mixing function of all digests: a digest is the sum modulo 2^64 of the mixes of its fields.</summary>
public static class StateHash
{
    /// <summary>Mixes one field of at most eight bytes. The same bits on every machine.</summary>
    /// <param name="component">The component.</param>
    /// <param name="field">The field's number.</param>
    /// <param name="value">The value, zero-extended.</param>
    public static ulong Mix(ComponentId component, ushort field, ulong value)
    {
        ulong key = ((ulong)component << 16) | field;
        ulong x = value ^ (key * 0x9E37_79B9_7F4A_7C15UL);
        x = (x ^ (x >> 32)) * 0xD6E8_FEB8_6659_FD93UL;
        x = (x ^ (x >> 32)) * 0xD6E8_FEB8_6659_FD93UL;
        return (x ^ (x >> 32)) + key;
    }

    /// <summary>Mixes a field of any width: eight bytes at a time, little-endian, each with its place.</summary>
    public static ulong Mix(ComponentId component, ushort field, ReadOnlySpan<byte> value)
    {
        if (value.Length <= 8)
        {
            return Mix(component, field, Little(value));
        }

        ulong sum = 0;
        for (int offset = 0; offset < value.Length; offset += 8)
        {
            ulong word = Little(value.Slice(offset, Math.Min(8, value.Length - offset)));
            sum = Step(sum, word);
        }

        return Mix(component, field, sum);
    }

    /// <summary>One step of a running hash, as kept over consumed inputs and console bytes: order matters.</summary>
    public static ulong Step(ulong hash, ulong word)
    {
        ulong x = (hash ^ word) * 0x9FB2_1C65_1E98_DF25UL;
        x ^= x >> 35;
        x *= 0x9FB2_1C65_1E98_DF25UL;
        return x ^ (x >> 28) ^ (word << 1 | word >> 63);
    }

    private static ulong Little(ReadOnlySpan<byte> bytes)
    {
        if (bytes.Length == 8)
        {
            return System.Buffers.Binary.BinaryPrimitives.ReadUInt64LittleEndian(bytes);
        }

        ulong value = 0;
        for (int i = bytes.Length - 1; i >= 0; i--)
        {
            value = (value << 8) | bytes[i];
        }

        return value;
    }
}
