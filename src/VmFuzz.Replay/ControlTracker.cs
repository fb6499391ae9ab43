using VmFuzz.Arch;
using VmFuzz.Trace;
using VmFuzz.Vmx;

namespace VmFuzz.Replay;

/// <summary>Finds the control fields of a VMCS that changed since the last entry.</summary>
internal sealed class ControlTracker
{
    private readonly Vmcs _vmcs;
    private readonly VmcsField[] _fields;
    private readonly ulong[] _last;
    private ulong _version;

    public ControlTracker(Vmcs vmcs)
    {
        _vmcs = vmcs;
        // The event to inject has fields of its own in the entry event.
        _fields = [.. VmcsFieldInfo.All
            .Where(static info => info.Group == VmcsFieldGroup.Control
                && info.Field is not (VmcsField.EntryInterruptionInfo or VmcsField.EntryExceptionErrorCode or VmcsField.EntryInstructionLength))
            .Select(static info => info.Field)];
        _last = new ulong[_fields.Length];
    }

    /// <summary>Adds what changed to an entry event.</summary>
    public void AddChanges(TraceEvent entry)
    {
        if (_vmcs.ControlsVersion == _version)
        {
            return;
        }

        _version = _vmcs.ControlsVersion;
        for (int i = 0; i < _fields.Length; i++)
        {
            ulong value = _vmcs[_fields[i]];
            if (value != _last[i])
            {
                _last[i] = value;
                entry.AddControl((ushort)_fields[i], value);
            }
        }
    }
}
