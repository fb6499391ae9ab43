using VmFuzz.Arch;

namespace VmFuzz.Vmx;

// VM entries.
public sealed unsafe partial class VmxUnit
{
    private VmExit _exit;

    /// <summary>VMLAUNCH or VMRESUME, then the guest until something ends it.</summary>
    /// <param name="launch">VMLAUNCH; otherwise VMRESUME.</param>
    /// <param name="exit">The exit, when the result is Exited.</param>
    /// <param name="failure">VMfail, when the result is Failed.</param>
    public EntryOutcome Enter(bool launch, out VmExit exit, out VmxResult failure)
    {
        _ = launch;
        _ = _state;
        exit = _exit;
        failure = VmxResult.FailInvalid;
        FailedCheck = "";
        Abort = VmxAbort.None;
        InGuest = false;
        return EntryOutcome.Failed;
    }

    /// <summary>Goes on in the guest after Stopped, Halted or Unimplemented.</summary>
    public EntryOutcome Continue(out VmExit exit)
    {
        exit = _exit;
        return EntryOutcome.Unimplemented;
    }

    internal static bool EptPointerIsValid(VmxCapabilities capabilities, ulong pointer)
    {
        ulong type = pointer & 7;
        bool typeFine = (type == 0 && capabilities.HasEptVpid(8)) || (type == 6 && capabilities.HasEptVpid(14));
        ulong levels = (pointer >> 3) & 7;
        bool levelsFine = (levels == 3 && capabilities.HasEptVpid(6)) || (levels == 4 && capabilities.HasEptVpid(7));
        bool flagsFine = (pointer & (1UL << 6)) == 0 || capabilities.HasEptVpid(21);
        return typeFine && levelsFine && flagsFine && (pointer & 0xF80) == 0 && (pointer & capabilities.PhysicalReserved) == 0;
    }
}
