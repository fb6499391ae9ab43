using VmFuzz.Arch;
using VmFuzz.Memory;

namespace VmFuzz.Kvm;

/// <summary>The system handle (<c>/dev/kvm</c>).</summary>
public sealed class KvmSystem
{
    /// <summary>Version of the interface, as KVM_GET_API_VERSION gives it.</summary>
    public const int ApiVersion = 12;

    /// <summary>Which address space makes the calls. A VM and its VCPUs answer only to the one that created them (S02).</summary>
    public int CurrentOwner { get; set; } = 1;

    /// <summary>Creates a VM.</summary>
    /// <param name="memory">The machine's memory.</param>
    /// <param name="clock">Virtual time.</param>
    /// <param name="time">Receives the cost of exits.</param>
    /// <param name="options">How the VM behaves; the defaults when null.</param>
    public Vm CreateVm(GuestMemory memory, IClock clock, IVirtualTime time, VmOptions? options = null) =>
        new(this, memory, clock, time, options ?? VmOptions.Default);
}

/// <summary>How a VM behaves. A value.</summary>
public sealed record VmOptions
{
    /// <summary>The defaults.</summary>
    public static VmOptions Default { get; } = new();

    /// <summary>The run path.</summary>
    public RunPath Path { get; init; } = RunPath.Default;

    /// <summary>The exit handlers.</summary>
    public ExitTable Exits { get; init; } = ExitTable.Default;

    /// <summary>The rules that exit handlers and the emulator hold in the processor's place.</summary>
    public GuestRules Rules { get; init; } = GuestRules.Default;

    /// <summary>The instructions that the emulator knows.</summary>
    public EmulatorTable Emulator { get; init; } = EmulatorTable.Default;

    /// <summary>Wraps the MSRs that RDMSR and WRMSR exits reach; null leaves them as they are.</summary>
    public Func<IMsrAccess, IMsrAccess>? Msrs { get; init; }

    /// <summary>Virtual nanoseconds that an exit costs.</summary>
    public ulong ExitCost { get; init; } = 1000;

    /// <summary>First machine address of the memory that the hypervisor keeps for itself; a multiple of 4096, not guest memory.</summary>
    public ulong HostAreaAddress { get; init; } = 0xF_0000_0000;

    /// <summary>Bytes of that memory.</summary>
    public ulong HostAreaBytes { get; init; } = 16UL << 20;

    /// <summary>Whether NMIs are virtualised by the processor; without, blocking is tracked in software (S58, S79).</summary>
    public bool VirtualNmis { get; init; } = true;

    /// <summary>Whether guest RIPs at exits are counted (S54).</summary>
    public bool ProfileRips { get; init; }

    /// <summary>TSC frequency in kHz; 0 means unknown (S25).</summary>
    public uint TscKilohertz { get; init; } = 1_000_000;

    /// <summary>Whether the TSC is caught up at every exit (S55).</summary>
    public bool TscCatchup { get; init; }
}
