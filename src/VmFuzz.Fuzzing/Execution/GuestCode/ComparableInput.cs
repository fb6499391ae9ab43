using VmFuzz.Arch;

namespace VmFuzz.Fuzzing;

/// <summary>An input, and what is left of it with those events only that mean the same in both of two runs that are compared.</summary>
internal sealed class ComparableInput(FuzzInput whole)
{
    /// <summary>The input itself.</summary>
    public FuzzInput Whole => whole;

    /// <summary>For runs with and without a hypervisor: what a processor has pins for.</summary>
    public FuzzInput Everywhere => field ??= Keep(whole, static e => IsDevice(e) || e.Kind == InputKind.Nmi);

    /// <summary>Without NMIs too: software that tracks their blocking by itself guesses its end.</summary>
    public FuzzInput WithoutNmis => field ??= Keep(whole, IsDevice);

    /// <summary>
    /// For runs under a hypervisor whose passes differ: what comes at a boundary. The places of the run path are passed more
    /// often in one of them, host pages come and go by passes, and a machine check is reported between two of them.
    /// </summary>
    public FuzzInput AtBoundaries => field ??= Keep(
        whole,
        static e => IsDevice(e) || e.Kind is InputKind.Nmi or InputKind.Kick or InputKind.Signal or InputKind.Reschedule
            or InputKind.HostVector or InputKind.Init);

    private static bool IsDevice(ScheduledEvent e) => e.Kind is InputKind.Interrupt or InputKind.ConsoleByte;

    private static FuzzInput Keep(FuzzInput input, Predicate<ScheduledEvent> means)
    {
        for (int i = 0; i < input.Events.Count; i++)
        {
            if (!Means(input, i, means))
            {
                FuzzInput kept = input.Clone();
                kept.Events.Clear();
                for (int j = 0; j < input.Events.Count; j++)
                {
                    if (Means(input, j, means))
                    {
                        kept.Events.Add(input.Events[j]);
                    }
                }

                return kept;
            }
        }

        return input;
    }

    // A vector comes once: whether a second one that comes while the first is acknowledged merges with it is a race of the
    // interrupt controller, in which either may win.
    private static bool Means(FuzzInput input, int index, Predicate<ScheduledEvent> means)
    {
        ScheduledEvent e = input.Events[index];
        return e.Point == InputPoint.Boundary && means(e)
            && (e.Kind != InputKind.Interrupt || input.Events.FindIndex(o => o.Kind == InputKind.Interrupt && (byte)o.Value == (byte)e.Value) == index);
    }
}
