using System.Globalization;
using Iced.Intel;
using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Fuzzing;
using VmFuzz.Kvm;
using VmFuzz.Kvm.Tests;
using VmFuzz.Machines;
using VmFuzz.Vmx;

namespace VmFuzz.Bugs.Tests;

/// <summary>The least that shows a fault: run with and without it, it gives two different lines.</summary>
/// <param name="Id">The fault.</param>
/// <param name="Correct">A part of what the product gives.</param>
/// <param name="Faulty">A part of what the fault gives.</param>
/// <param name="Run">Runs it under options and says what was seen.</param>
internal sealed record Scene(string Id, string Correct, string Faulty, Func<Func<VmOptions, VmOptions>, string> Run)
{
    /// <summary>Made exits, one after the other, to a VCPU whose code is at its RIP.</summary>
    public static Func<Func<VmOptions, VmOptions>, string> Exits(int bits, Action<Assembler> code, Action<TestVm> prepare, params VmExit[] exits) => plant =>
    {
        using TestVm vm = new(code, plant(VmOptions.Default with { ExitCost = 0 }), bits);
        prepare(vm);
        int result = 1;
        foreach (VmExit exit in exits)
        {
            result = vm.Vcpu.HandleExit(exit);
        }

        return Describe(vm.Vcpu, result);
    };

    /// <summary>A made exit to a VCPU of a 64-bit machine, whose code is at its RIP.</summary>
    public static Func<Func<VmOptions, VmOptions>, string> Exit64(byte[] code, Action<Machine> prepare, VmExit exit) => plant =>
    {
        using Machine machine = Wide(code, plant);
        prepare(machine);
        Vcpu vcpu = machine.Kvm!.Vcpu;
        return Describe(vcpu, vcpu.HandleExit(exit));
    };

    /// <summary>A guest on the small machine, until it halts or cannot go on.</summary>
    public static Func<Func<VmOptions, VmOptions>, string> Guest(int bits, Action<Assembler> code, Action<TestVm> prepare) => plant =>
    {
        using TestVm vm = new(code, plant(VmOptions.Default with { ExitCost = 0 }), bits);
        prepare(vm);
        for (int i = 0; i < 100; i++)
        {
            int result = vm.Vcpu.Run();
            KvmRun run = vm.Vcpu.KvmRun;
            if (result != 0 || run.ExitReason is not (KvmExitReason.Mmio or KvmExitReason.Io))
            {
                return Describe(vm.Vcpu, result);
            }

            if (run.ExitReason == KvmExitReason.Mmio && !run.Mmio.IsWrite)
            {
                StateFields.Put(run.Data[..run.Mmio.Length], 0);
            }
        }

        return "never ends";
    };

    /// <summary>A 64-bit guest of the fuzzer's machine, to its end.</summary>
    public static Func<Func<VmOptions, VmOptions>, string> Guest64(Action<Assembler> code) => plant =>
    {
        using Machine machine = Wide(TestVm.Assemble(64, code, FuzzLayout.Code), plant);
        MachineStop stop = machine.Run();
        return $"{stop} {Describe(machine.Kvm!.Vcpu, 0)}";
    };

    /// <summary>Makes CPL 3 of a 32-bit VCPU.</summary>
    public static void User(TestVm vm)
    {
        vm.Vcpu.Vmx.SetSegment(SegmentRegister.Ss, new SegmentState { Selector = 0x23, Limit = uint.MaxValue, Attributes = 0xC0F3 });
        vm.Vcpu.Vmx.SetSegment(SegmentRegister.Cs, new SegmentState { Selector = 0x1B, Limit = uint.MaxValue, Attributes = 0xC0FB });
    }

    /// <inheritdoc/>
    public override string ToString() => Id;

    private static Machine Wide(byte[] code, Func<VmOptions, VmOptions> plant)
    {
        Machine machine = Machine.Create(
            FuzzLayout.Options(FlatMode.Long64, Accelerator.Kvm, 10_000),
            new FuzzSource(),
            new MachineVariants { Kvm = plant, Prepare = FuzzLayout.Prepare });

        // Handlers of exceptions go on at the next multiple of 16: NOPs lead from there to the end.
        Assert.True(machine.Memory.TryWrite(new Gpa(FuzzLayout.Code), [.. code, .. Enumerable.Repeat((byte)0x90, 32), 0xFA, 0xF4]));
        return machine;
    }

    private static string Describe(Vcpu vcpu, int result)
    {
        QueuedException e = vcpu.Events.Exception;
        string queued = e.Pending ? string.Create(CultureInfo.InvariantCulture, $"exception {e.Vector}") : "no exception";
        return string.Create(CultureInfo.InvariantCulture,
            $"result {result}, {vcpu.KvmRun.ExitReason}, rip {vcpu.Rip:x}, rax {vcpu.Rax:x}, flags {vcpu.RFlags:x}, shadow {vcpu.Vmx.InterruptShadow}, cpl {vcpu.Vmx.Cpl}, {queued}, nmi {(vcpu.Vmx.NmiMasked ? "masked" : "open")}, vectors {string.Join(' ', vcpu.Host.Vectors)}.");
    }
}
