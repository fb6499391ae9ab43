using System.Collections.Immutable;
using Iced.Intel;
using VmFuzz.Arch;
using VmFuzz.Fuzzing;
using VmFuzz.Kvm.Tests;
using VmFuzz.Machines;
using static Iced.Intel.AssemblerRegisters;

namespace VmFuzz.Bugs.Tests;

/// <summary>The least guest program that a universal oracle needs: it fires with the fault and not without.</summary>
public class GuestTriggerTests
{
    private static readonly ImmutableArray<(string Id, string Oracle, FuzzInput Input)> Triggers =
    [
        ("CVE-2009-3722", "equivalence.bare", Guest(static c => { ToUser(c); c.mov(rax, dr7); })),
        ("CVE-2014-3610", "privilege.canonical", Guest(static c =>
        {
            c.mov(ecx, 0xC000_0082);
            c.mov(edx, 0x8000_0000);
            c.wrmsr();
            Pad(c);
            c.rdmsr();
        })),
        ("CVE-2014-3645", "guest-kill.unknown-exit", Guest(static c => c.invept(rax, __xmmword_ptr[rsp]))),
        ("CVE-2014-3646", "guest-kill.unknown-exit", Guest(static c => c.invvpid(rax, __xmmword_ptr[rsp]))),
        ("e3c7cb6ad719", "guest-kill.unknown-exit", Guest(static c => c.vmxoff())),
        ("CVE-2016-3713", "crash.exception", Guest(static c => { c.mov(ecx, 0x2F8); c.rdmsr(); })),
        ("fd2a445a94d2", "retire.software-event", Guest(static c => c.int1())),
        ("b9bed78e2fa9", "guest-kill.entry-failure", Guest(static c => { c.sti(); c.nop(); }, (ProcessorFlags, 0x102))),
        ("777ab82d7ce0", "privilege.mode", Guest(static c => { c.mov(rax, cr0); c.btr(rax, 31); c.mov(cr0, rax); })),
        ("bb663c7ada38", "equivalence.bare", Guest(static c => { c.mov(__byte_ptr[rbx], al); c.int1(); }, ((ushort)Gpr.Rbx, 0xD000_0000))),
        ("6affcbedcac7", "retire.single-step", Guest(static c => c.cpuid(), (ProcessorFlags, 0x102))),
        ("CVE-2014-7842", "guest-kill.internal-error", Guest(static c => { ToUser(c); c.fnstcw(__word_ptr[rbx]); }, ((ushort)Gpr.Rbx, 0x10_0000))),
        ("37c564f2854b", "equivalence.bare", Guest(static c => c.cmpxchg(__dword_ptr[rbx], ecx), ((ushort)Gpr.Rbx, 0xD000_0000), ((ushort)Gpr.Rax, 1))),
    ];

    private const ushort ProcessorFlags = 17;

    public static TheoryData<string> Ids() => [.. Triggers.Select(static t => t.Id)];

    [Theory]
    [MemberData(nameof(Ids))]
    public void Program_WithTheFault_FiresAnOracle_WithoutItNone(string id)
    {
        (_, string oracle, FuzzInput input) = Triggers.Single(t => t.Id == id);
        input.Normalise();
        Assert.Null(Judge(FuzzTargetRow.BuiltIn.Single(static row => row.Kind == FuzzTarget.GuestCode), input)?.ToString());
        Violation? violation = Judge(PlantedBugs.Find(id)!.Row with { Kind = FuzzTarget.GuestCode }, input);
        Assert.True(violation?.Oracle == oracle, $"{violation}");
    }

    private static Violation? Judge(FuzzTargetRow row, FuzzInput input)
    {
        using IFuzzExecutor executor = row.CreateExecutor();
        return executor.Run(input).Violation ?? executor.RunDeep(input);
    }

    private static FuzzInput Guest(Action<Assembler> code, params (ushort Register, ulong Value)[] registers)
    {
        FuzzInput input = new() { Target = FuzzTarget.GuestCode };
        input.Code.AddRange(TestVm.Assemble(64, c => { code(c); Pad(c); }, FuzzLayout.Code));
        input.Registers.AddRange(registers.Select(static r => new RegisterOverride(r.Register, r.Value)));
        return input;
    }

    // Handlers of exceptions go on at the next multiple of 16.
    private static void Pad(Assembler c)
    {
        for (int i = 0; i < 32; i++)
        {
            c.nop();
        }
    }

    // CPL 3 by IRET.
    private static void ToUser(Assembler c)
    {
        Label user = c.CreateLabel();
        c.push(0x23);
        c.push(0xF000);
        c.push(2);
        c.push(0x1B);
        c.lea(rax, __qword_ptr[user]);
        c.push(rax);
        c.iretq();
        c.Label(ref user);
    }
}
