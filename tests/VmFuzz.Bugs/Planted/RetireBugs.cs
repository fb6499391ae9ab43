using System.Collections.Immutable;
using VmFuzz.Fuzzing;

namespace VmFuzz.Bugs.Planted;

/// <summary>What belongs to completing an instruction: flags, shadows, traps.</summary>
internal static class RetireBugs
{
    private const string Commits = "git.kernel.org/torvalds/c/";

    public static readonly ImmutableArray<PlantedBug> Rows =
    [
        new("bb663c7ada38", "RF stays set behind an instruction of the hypervisor",
            "An instruction that the hypervisor completed left RFLAGS.RF as it was, so that a breakpoint on the next one was passed over.",
            "Linux 3.17, \"KVM: x86: Clearing rflags.rf upon skipped emulated instruction\"", FuzzTarget.ExitHandlers, 1,
            static o => o with { Rules = o.Rules.Without("retire.resume-flag") }),
        new("6affcbedcac7", "no single-step trap behind a skipped instruction",
            "Instructions that exit and are completed by skipping them raised no single-step trap: a debugger in the guest stepped over two at once.",
            Commits + "6affcbedcac79", FuzzTarget.ExitHandlers, 1,
            static o => o with { Rules = o.Rules.Without("retire.trap") }),
        new("310b5d306c1a", "an emulated instruction keeps the shadow of STI",
            "The interrupt shadow ended with a skipped instruction but not with an emulated one: interrupts stayed blocked where they should have come in.",
            Commits + "310b5d306c1ae", FuzzTarget.ExitHandlers, 1,
            static o => o with { Rules = o.Rules.Without("emulator.shadow") }),
    ];
}
