using System.Collections.Immutable;
using Iced.Intel;
using VmFuzz.Arch;
using VmFuzz.Fuzzing;
using VmFuzz.Kvm;

namespace VmFuzz.Bugs.Planted;

/// <summary>The instruction emulator.</summary>
internal static class EmulatorBugs
{
    private const string Cves = "cve.org/CVERecord?id=";
    private const string Commits = "git.kernel.org/torvalds/c/";

    public static readonly ImmutableArray<PlantedBug> Rows =
    [
        new("CVE-2014-7842", "a program's emulation failure ends the VM",
            "What the emulator could not do was reported to userspace even when a program in the guest had caused it through MMIO or ports that it may use; userspace stops the VM then. Since the repair the program gets #UD.",
            Commits + "a2b9e6c1a35af", FuzzTarget.ExitHandlers, 1,
            static o => o with { Rules = o.Rules.Without("emulator.failure.user") }),
        new("CVE-2014-3647", "a far transfer to a non-canonical address",
            "Emulated jumps, calls and returns assigned targets that no processor takes; the entry after them failed.",
            Commits + "d1442d85cc30e", FuzzTarget.ExitHandlers, 1,
            static o => o with { Rules = o.Rules.Without("emulator.far-target.canonical") }),
        new("CVE-2017-2583", "MOV SS with a null selector at CPL 3",
            "The emulator loaded a null selector into SS in 64-bit mode at any level and left the privilege level of the segment 0: a failed entry on Intel, CPL 0 for a program on AMD.",
            Commits + "33ab91103b341", FuzzTarget.ExitHandlers, 1,
            static o => o with { Emulator = o.Emulator.With("mov", LoadNullStack) }),
        new("37c564f2854b", "CMPXCHG compares the wrong way round",
            "The flags of an emulated CMPXCHG were those of memory minus accumulator instead of accumulator minus memory.",
            Commits + "37c564f2854bf", FuzzTarget.GuestCode, 1,
            static o => o with { Emulator = o.Emulator.With("cmpxchg", CompareReversed) }),
    ];

    private static Emulator.Step LoadNullStack(Emulator emulator, in Instruction ins)
    {
        VmxVcpu vmx = emulator.Vcpu.Vmx;
        if (ins.Op0Kind == OpKind.Register && ins.Op0Register == Register.SS && vmx.Code64)
        {
            Emulator.Step step = emulator.Read(ins, 1, 2, out ulong selector);
            if (step != Emulator.Step.Done)
            {
                return step;
            }

            selector &= 0xFFFF;
            if ((selector & 0xFFFC) == 0 && (int)selector == vmx.Cpl)
            {
                emulator.LoadUnusable(SegmentRegister.Ss, selector, dpl: 0);
                return Emulator.Step.Done;
            }

            if (ins.Op1Kind != OpKind.Register)
            {
                emulator.ReadAgain();
            }
        }

        return emulator.Move(ins, signExtend: false);
    }

    private static Emulator.Step CompareReversed(Emulator emulator, in Instruction ins)
    {
        int size = Emulator.SizeOf(ins, 0);
        Emulator.Step step = emulator.Read(ins, 0, size, out ulong old, willWrite: true);
        if (step != Emulator.Step.Done)
        {
            return step;
        }

        ulong accumulator = emulator.Gprs[0] & Emulator.Mask(size);
        emulator.ReadAgain();
        step = emulator.CompareExchange(ins);
        if (step == Emulator.Step.Done)
        {
            emulator.Subtract(old, accumulator, 0, size);
        }

        return step;
    }
}
