using System.Buffers.Binary;
using System.Collections.Immutable;
using VmFuzz.Arch;

namespace VmFuzz.Vmx;

// VMX state outside the VMCS. The VMCS and the host's registers are components of their own.
public sealed unsafe partial class VmxUnit : IStateful, ICopiedState
{
    private static readonly ImmutableArray<StateField> UnitFields =
    [
        new(1, "VmxonPointer", 8),
        new(2, "CurrentPointer", 8),
        new(3, "InGuest", 1),
        new(4, "PendingMtf", 1),
        new(5, "Abort", 4),
    ];

    /// <inheritdoc/>
    public ComponentId Component => ComponentId.Vmx + (ushort)(_cpu.Index * 16);

    /// <inheritdoc/>
    public ReadOnlySpan<StateField> Fields => UnitFields.AsSpan();

    /// <inheritdoc/>
    public void ReadField(int index, Span<byte> destination)
    {
        ulong value = index switch
        {
            0 => VmxonPointer,
            1 => CurrentPointer,
            2 => InGuest ? 1UL : 0,
            3 => _pendingMtf ? 1UL : 0,
            _ => (uint)Abort,
        };
        Span<byte> bytes = stackalloc byte[8];
        BinaryPrimitives.WriteUInt64LittleEndian(bytes, value);
        bytes[..UnitFields[index].Width].CopyTo(destination);
    }

    /// <inheritdoc/>
    public void WriteField(int index, ReadOnlySpan<byte> source)
    {
        Span<byte> bytes = stackalloc byte[8];
        bytes.Clear();
        source[..UnitFields[index].Width].CopyTo(bytes);
        ulong value = BinaryPrimitives.ReadUInt64LittleEndian(bytes);
        switch (index)
        {
            case 0: VmxonPointer = value; break;
            case 1: CurrentPointer = value; break;
            case 2: InGuest = value != 0; break;
            case 3: _pendingMtf = value != 0; break;
            default: Abort = (VmxAbort)(uint)value; break;
        }
    }

    /// <inheritdoc/>
    public IStateCopy CopyState() => new Copied(this);

    private sealed class Copied(VmxUnit unit) : IStateCopy
    {
        private readonly ulong _vmxon = unit.VmxonPointer;
        private readonly ulong _current = unit.CurrentPointer;
        private readonly bool _inGuest = unit.InGuest;
        private readonly bool _pendingMtf = unit._pendingMtf;
        private readonly VmxAbort _abort = unit.Abort;

        public void Restore()
        {
            if (unit.CurrentPointer != _current)
            {
                // Checks look at the pointer too.
                unit._vmcs.MarkAllDirty();
            }

            unit.VmxonPointer = _vmxon;
            unit.CurrentPointer = _current;
            unit.InGuest = _inGuest;
            unit._pendingMtf = _pendingMtf;
            unit.Abort = _abort;
        }
    }

    /// <summary>
    /// Derives what follows from the restored state: call after this component and the VMCS were written.
    /// </summary>
    public void Restored()
    {
        _tlbCr0 = ulong.MaxValue;
        StopStepping();
        if (InGuest)
        {
            BecomeGuest();
            StartStepping(injected: false);
        }
        else
        {
            _cpu.NonRoot = null;
            _cpu.SecondStage = null;
        }

        _cpu.FlushTlb();
    }

    private void BecomeGuest()
    {
        _pin = (uint)_vmcs[VmcsField.PinBasedControls];
        _primary = (uint)_vmcs[VmcsField.PrimaryControls];
        _secondary = SecondaryOf(_vmcs);
        InGuest = true;
        _cpu.NonRoot = this;
        _cpu.SecondStage = (_secondary & SecondaryControls.EnableEpt) != 0 ? this : null;
        PrepareTranslations();
    }
}
