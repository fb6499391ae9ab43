using System.Collections.Immutable;
using VmFuzz.Arch;
using VmFuzz.Kvm;
using VmFuzz.Vmx;

namespace VmFuzz.Fuzzing;

/// <summary>A handler changes only what its row declares; completing the instruction changes RIP, RF and the shadows.</summary>
internal static class FrameInvariants
{
    private const ulong Shadows = InterruptibilityState.BlockingBySti | InterruptibilityState.BlockingByMovSs;

    // Which kind of write a field of the guest-state area is, by word.
    private static readonly ImmutableArray<ExitWrites> Kinds = MakeKinds();

    public static readonly ImmutableArray<Invariant> Rows =
    [
        Row("frame.gprs", "general registers", ExitWrites.Gprs, static v =>
        {
            for (int i = 0; i < 16; i++)
            {
                if (v.Vcpu[(Gpr)i] != v.Gpr((Gpr)i))
                {
                    return $"{(Gpr)i} became 0x{v.Vcpu[(Gpr)i]:x}, it was 0x{v.Gpr((Gpr)i):x}";
                }
            }

            return null;
        }),
        Row("frame.flow", "RIP and RFLAGS", ExitWrites.Flow, static v =>
            !v.Retires && v.Vcpu.Rip != v.Rip ? $"RIP became 0x{v.Vcpu.Rip:x}, it was 0x{v.Rip:x}"
            : ((v.Vcpu.RFlags ^ v.RFlags) & ~RFlags.Rf) != 0 ? $"RFLAGS became 0x{v.Vcpu.RFlags:x}, they were 0x{v.RFlags:x}"
            : null),
        Row("frame.memory", "guest memory", ExitWrites.Memory, static v =>
            v.Vcpu.Processor.Memory.DirtyPages.Count == v.DirtyPages ? null : "guest memory was written"),
        Row("frame.events", "event queues", ExitWrites.Events, static v =>
        {
            PendingEvents now = v.Vcpu.Events;
            bool trap = v.Retires && (v.RFlags & RFlags.Tf) != 0;
            return (now.Exception != v.Exception && !trap) || now.Interrupt != v.Interrupt || now.NmiInjected != v.NmiInjected || now.NmiPending < v.NmiPending
                ? "an event queue changed" : null;
        }),
        Row("frame.others", "CR8 and XCR0", ExitWrites.System, static v =>
            v.OthersNow.Cr8 != v.Others.Cr8 || v.OthersNow.Xcr0 != v.Others.Xcr0 ? "CR8 or XCR0 changed" : null),

        // A page fault brings its address, a debug exception its causes.
        Row("frame.causes", "CR2 and DR6", ExitWrites.System | ExitWrites.Events, static v =>
            v.OthersNow.Cr2 != v.Others.Cr2 || (v.OthersNow.Dr6 != v.Others.Dr6 && !(v.Retires && (v.RFlags & RFlags.Tf) != 0))
                ? "CR2 or DR6 changed" : null),
        new("frame.guest-state", OracleKind.Frame, InvariantMoment.Handled, "a handler changes only the parts of the guest-state area that its row declares", "ExitRow.Writes", GuestState),
    ];

    private static Invariant Row(string id, string what, ExitWrites kind, InvariantCheck check) =>
        new(id, OracleKind.Frame, InvariantMoment.Handled, $"a handler whose row does not say so leaves {what} alone", "ExitRow.Writes",
            v => (v.Row.Writes & kind) != 0 ? null : check(v));

    private static string? GuestState(RunView v)
    {
        for (int word = v.FirstChange(); word >= 0; word = v.FirstChange(word + 1))
        {
            if ((v.Row.Writes & Kinds[word]) != 0 || Vmcs.GuestFieldAt(word) is not { } field)
            {
                continue;
            }

            ulong now = v.Vmcs[field];
            ulong changed = now ^ v.Before(word);
            bool retiring = v.Retires && field switch
            {
                VmcsField.GuestInterruptibility => (changed & ~Shadows) == 0,
                VmcsField.GuestRflags => (changed & ~RFlags.Rf) == 0,
                VmcsField.GuestRip or VmcsField.GuestPendingDebug => true,
                _ => false,
            };
            if (!retiring && !v.IsOfStep(field, changed))
            {
                return $"{field} became 0x{now:x}, it was 0x{v.Before(word):x}";
            }
        }

        return null;
    }

    private static ImmutableArray<ExitWrites> MakeKinds()
    {
        var kinds = new ExitWrites[Vmcs.GuestAreaWords];
        for (int word = 0; word < kinds.Length; word++)
        {
            kinds[word] = Vmcs.GuestFieldAt(word) switch
            {
                VmcsField.GuestRsp => ExitWrites.Gprs,
                VmcsField.GuestRip or VmcsField.GuestRflags or VmcsField.GuestActivity => ExitWrites.Flow,
                (>= VmcsField.GuestEsSelector and <= VmcsField.GuestGsSelector)
                    or (>= VmcsField.GuestEsLimit and <= VmcsField.GuestGsLimit)
                    or (>= VmcsField.GuestEsAccessRights and <= VmcsField.GuestGsAccessRights)
                    or (>= VmcsField.GuestEsBase and <= VmcsField.GuestGsBase) => ExitWrites.Flow,
                VmcsField.GuestInterruptibility or VmcsField.GuestPendingDebug => ExitWrites.Events | ExitWrites.Flow,
                _ => ExitWrites.System,
            };
        }

        return [.. kinds];
    }
}
