using VmFuzz.Arch;

namespace VmFuzz.Kvm;

/// <summary>A port access that userspace must complete.</summary>
public struct KvmRunIo
{
    /// <summary>True for OUT (data to userspace), false for IN.</summary>
    public bool Out;

    /// <summary>Bytes of one item: 1, 2 or 4.</summary>
    public int Size;

    /// <summary>The port.</summary>
    public ushort Port;

    /// <summary>Number of items in <see cref="KvmRun.Data"/>.</summary>
    public int Count;
}

/// <summary>A memory access that userspace must complete. Data is in <see cref="KvmRun.Data"/>.</summary>
public struct KvmRunMmio
{
    /// <summary>Guest-physical address.</summary>
    public Gpa Address;

    /// <summary>Bytes, 1 to 8.</summary>
    public int Length;

    /// <summary>True for a write.</summary>
    public bool IsWrite;
}

/// <summary>The structure that a VCPU shares with its userspace (<c>struct kvm_run</c>).</summary>
public sealed class KvmRun
{
    /// <summary>Bytes of <see cref="Data"/>: one page, as for string I/O.</summary>
    public const int DataBytes = 4096;

    private readonly byte[] _data = new byte[DataBytes];
    private readonly ulong[] _internalData = new ulong[16];

    /// <summary>In: leave as soon as an interrupt can be injected.</summary>
    public bool RequestInterruptWindow { get; set; }

    /// <summary>In: complete unfinished I/O and return EINTR.</summary>
    public bool ImmediateExit { get; set; }

    /// <summary>Out: why the run call returned.</summary>
    public KvmExitReason ExitReason { get; set; }

    /// <summary>Out: KVM_INTERRUPT would be injected at the next entry.</summary>
    public bool ReadyForInterruptInjection { get; set; }

    /// <summary>Out: RFLAGS.IF of the guest.</summary>
    public bool IfFlag { get; set; }

    /// <summary>In and out: CR8, 0 to 15.</summary>
    public ulong Cr8 { get; set; }

    /// <summary>Out: IA32_APIC_BASE.</summary>
    public ulong ApicBase { get; set; }

    /// <summary>For <see cref="KvmExitReason.Unknown"/> and <see cref="KvmExitReason.FailEntry"/>: the hardware's reason.</summary>
    public ulong HardwareReason { get; set; }

    /// <summary>For <see cref="KvmExitReason.Io"/>.</summary>
    public KvmRunIo Io { get; internal set; }

    /// <summary>For <see cref="KvmExitReason.Mmio"/>.</summary>
    public KvmRunMmio Mmio { get; internal set; }

    /// <summary>For <see cref="KvmExitReason.Hypercall"/>: the number.</summary>
    public ulong Hypercall { get; internal set; }

    /// <summary>For <see cref="KvmExitReason.InternalError"/>.</summary>
    public KvmInternalError InternalError { get; internal set; }

    /// <summary>Words of <see cref="InternalData"/> in use.</summary>
    public int InternalCount { get; internal set; }

    /// <summary>For <see cref="KvmExitReason.InternalError"/>: words that explain it.</summary>
    public ReadOnlySpan<ulong> InternalData => _internalData.AsSpan(0, InternalCount);

    /// <summary>What the internal error is about, for people.</summary>
    public string InternalText { get; internal set; } = "";

    /// <summary>For <see cref="KvmExitReason.Debug"/>: vector, linear address, DR6 and DR7.</summary>
    public (uint Exception, ulong Pc, ulong Dr6, ulong Dr7) Debug { get; internal set; }

    /// <summary>Bytes of a port or memory access, little-endian.</summary>
    public Span<byte> Data => _data;

    internal void SetInternalError(KvmInternalError error, string text, params ReadOnlySpan<ulong> data)
    {
        ExitReason = KvmExitReason.InternalError;
        InternalError = error;
        InternalText = text;
        InternalCount = data.Length;
        data.CopyTo(_internalData);
    }
}
