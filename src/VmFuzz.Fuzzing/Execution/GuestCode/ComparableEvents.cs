using VmFuzz.Arch;

namespace VmFuzz.Fuzzing;

/// <summary>Inputs with those events only that mean the same in both of two runs that are compared.</summary>
internal static class ComparableEvents
{
    /// <summary>For runs with and without a hypervisor: what a processor has pins for.</summary>
    public static FuzzInput Everywhere(FuzzInput input) =>
        Keep(input, static e => IsDevice(e) || e.Kind == InputKind.Nmi);

    /// <summary>Without NMIs too: software that tracks their blocking by itself guesses its end.</summary>
    public static FuzzInput WithoutNmis(FuzzInput input) => Keep(input, IsDevice);

    /// <summary>
    /// For runs under a hypervisor whose passes differ: what comes at a boundary. The places of the run path are passed more
    /// often in one of them, and host pages come and go by passes.
    /// </summary>
    public static FuzzInput AtBoundaries(FuzzInput input) => Keep(
        input,
        static e => IsDevice(e) || e.Kind is InputKind.Nmi or InputKind.Kick or InputKind.Signal or InputKind.Reschedule
            or InputKind.HostVector or InputKind.MachineCheck or InputKind.Init);

    private static bool IsDevice(ScheduledEvent e) => e.Kind is InputKind.Interrupt or InputKind.ConsoleByte;

    private static FuzzInput Keep(FuzzInput input, Predicate<ScheduledEvent> means)
    {
        foreach (ScheduledEvent e in input.Events)
        {
            if (e.Point != InputPoint.Boundary || !means(e))
            {
                FuzzInput kept = input.Clone();
                kept.Events.RemoveAll(e => e.Point != InputPoint.Boundary || !means(e));
                return kept;
            }
        }

        return input;
    }
}
