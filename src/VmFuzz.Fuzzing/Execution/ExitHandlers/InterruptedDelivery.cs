using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Vmx;

namespace VmFuzz.Fuzzing;

/// <summary>
/// The delivery of an event that a made exit interrupts (SDM "Information for VM Exits That Occur During Event Delivery").
/// Events of the guest's own making only: what the hypervisor injects is delivered by the entry. Whether the exception
/// bitmap would have let the event through is not asked; no handler may count on that.
/// </summary>
internal static class InterruptedDelivery
{
    private const int LongestInstruction = 15;

    /// <summary>The exit with IDT-vectoring information, when the made one has some that hardware can give.</summary>
    /// <param name="unit">The unit; in non-root operation.</param>
    /// <param name="exit">The exit, without any.</param>
    /// <param name="made">The made exit.</param>
    public static VmExit Of(VmxUnit unit, in VmExit exit, in VmExit made)
    {
        InterruptionInfo info = made.IdtVectoringInfo;
        if (!info.Valid || !IsOfGuest(info))
        {
            return exit;
        }

        bool software = info.Type is not InterruptionType.HardwareException;
        bool code = !software && Vector.HasErrorCode(info.Vector) && unit.Processor.Protected;
        uint shortest = info.Type == InterruptionType.SoftwareInterrupt ? 2U : 1;
        return exit with
        {
            IdtVectoringInfo = new InterruptionInfo(info.Type, info.Vector, code),
            IdtVectoringError = code ? made.IdtVectoringError & 0xFFFF : 0,
            InstructionLength = software ? Math.Clamp(made.InstructionLength, shortest, LongestInstruction) : exit.InstructionLength,
        };
    }

    private static bool IsOfGuest(InterruptionInfo info) => info.Type switch
    {
        InterruptionType.HardwareException => info.Vector < 32 && info.Vector is not (Vector.Nmi or Vector.Bp or Vector.Of or Vector.Mc),
        InterruptionType.SoftwareException => info.Vector is Vector.Bp or Vector.Of,
        InterruptionType.PrivilegedSoftwareException => info.Vector == Vector.Db,
        InterruptionType.SoftwareInterrupt => true,
        _ => false,
    };
}
