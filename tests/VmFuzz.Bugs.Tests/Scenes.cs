using System.Buffers.Binary;
using System.Collections.Immutable;
using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Fuzzing;
using VmFuzz.Kvm;
using VmFuzz.Kvm.Tests;
using VmFuzz.Machines;
using VmFuzz.Vmx;
using static Iced.Intel.AssemblerRegisters;

namespace VmFuzz.Bugs.Tests;

/// <summary>One scene a fault.</summary>
internal static class Scenes
{
    private static readonly VmExit Mmio = new((uint)ExitReason.EptMisconfiguration, GuestPhysical: 0xD000_0000);

    public static readonly ImmutableArray<Scene> All =
    [
        new("CVE-2009-3722", "exception 13", "no exception",
            Scene.Exits(32, static c => c.mov(dr0, eax), Scene.User, new VmExit((uint)ExitReason.MovDr, InstructionLength: 3))),
        new("CVE-2009-3290", "rax ffffffff", "rax 0,",
            Scene.Exits(32, static c => c.vmcall(), static vm => { Scene.User(vm); vm.Vcpu.Rax = 1; }, new VmExit((uint)ExitReason.Vmcall, InstructionLength: 3))),
        new("CVE-2014-3610", "rax 7", "rax 8000000000000000",
            Scene.Guest64(static c =>
            {
                c.mov(ecx, 0xC000_0082);
                c.xor(eax, eax);
                c.mov(edx, 0x8000_0000);
                c.wrmsr();
                for (int i = 0; i < 32; i++)
                {
                    c.nop();
                }

                c.rdmsr();
                c.shl(rdx, 32);
                c.or(rax, rdx);
                Iced.Intel.Label set = c.CreateLabel();
                c.jnz(set);
                c.mov(al, 7);
                c.Label(ref set);
                c.hlt();
            })),
        new("CVE-2014-3645", "Halted", "HypervisorError", Scene.Guest64(static c => c.invept(rax, __xmmword_ptr[rsp]))),
        new("CVE-2014-3646", "Halted", "HypervisorError", Scene.Guest64(static c => c.invvpid(rax, __xmmword_ptr[rsp]))),
        new("e3c7cb6ad719", "Halted", "HypervisorError", Scene.Guest64(static c => c.vmxoff())),
        new("CVE-2016-3713", "Halted", "IndexOutOfRangeException",
            Scene.Guest64(static c => { c.mov(ecx, 0x2F8); c.rdmsr(); })),
        new("CVE-2018-1087", "rip 1000", "rip 1003",
            Scene.Exits(32, static c => c.nop(), static _ => { }, Debug(InterruptionType.HardwareException, length: 3))),
        new("fd2a445a94d2", "rip 1001", "rip 1000",
            Scene.Exits(32, static c => c.int1(), static _ => { }, Debug(InterruptionType.PrivilegedSoftwareException, length: 1))),
        new("b9bed78e2fa9", "Hlt", "FailEntry", Scene.Guest(16, StepOverSti, static vm => vm.Load(0x2000, [0xF4]))),
        new("777ab82d7ce0", "Halted", "Halted",
            Scene.Guest64(static c => { c.mov(rax, cr0); c.btr(rax, 31); c.mov(cr0, rax); c.hlt(); })),
        new("bb663c7ada38", "flags 2,", "flags 10002",
            Scene.Exits(32, static c => c.cpuid(), static vm => vm.Vcpu.RFlags = 0x10002, new VmExit((uint)ExitReason.Cpuid, InstructionLength: 2))),
        new("6affcbedcac7", "exception 1", "no exception",
            Scene.Exits(32, static c => c.cpuid(), static vm => vm.Vcpu.RFlags = 0x102, new VmExit((uint)ExitReason.Cpuid, InstructionLength: 2))),
        new("310b5d306c1a", "shadow 0", "shadow 1",
            Scene.Exits(32, static c => c.nop(2), static vm => { vm.Load(TestVm.Code, [0x89, 0xC8]); vm.Vcpu.RFlags = 0x202; vm.Vcpu.Vmx.InterruptShadow = 1; }, Mmio)),
        new("CVE-2014-7842", "result 1", "InternalError", Scene.Exits(32, static c => c.fninit(), Scene.User, Mmio)),
        new("CVE-2014-3647", "exception 13", "rip 8000000000000000",
            Scene.Exit64([0x48, 0xCB], static machine =>
            {
                byte[] frame = new byte[16];
                BinaryPrimitives.WriteUInt64LittleEndian(frame, 1UL << 63);
                frame[8] = 8;
                machine.Memory.TryWrite(new Gpa(FuzzLayout.Stack), frame);
            }, Mmio)),
        new("CVE-2017-2583", "exception 13", "cpl 0",
            Scene.Exit64([0x8E, 0xD0], static machine =>
            {
                VmxVcpu vmx = machine.Kvm!.Vcpu.Vmx;
                vmx.SetSegment(SegmentRegister.Ss, new SegmentState { Selector = 0x23, Limit = uint.MaxValue, Attributes = 0xC0F3 });
                vmx.SetSegment(SegmentRegister.Cs, new SegmentState { Selector = 0x1B, Limit = uint.MaxValue, Attributes = 0xA0FB });
                machine.Kvm.Vcpu.Rax = 3;
            }, Mmio)),
        new("37c564f2854b", "flags 2,", "flags 97",
            Scene.Guest(32, static c => { c.mov(eax, 1); c.mov(ebx, 0xD000_0000); c.cmpxchg(__dword_ptr[ebx], ecx); c.pushfd(); c.and(__dword_ptr[esp], 0x8D5); c.popfd(); c.hlt(); }, static _ => { })),
        new("0be9c7a89f75", "nmi masked", "nmi open",
            Scene.Exits(32, static c => c.iret(), static _ => { },
                new VmExit((uint)ExitReason.EptViolation, EptViolationQualification.ReadBit | EptViolationQualification.NmiUnblockingBit, GuestPhysical: 0x5000))),
        new("S75", "exception 1", "no exception",
            Scene.Exits(32, static c => c.int1(), static _ => { },
                new VmExit((uint)ExitReason.EptViolation, EptViolationQualification.WriteBit, GuestPhysical: 0x5000,
                    IdtVectoringInfo: new InterruptionInfo(InterruptionType.PrivilegedSoftwareException, Vector.Db), InstructionLength: 1))),
        new("4f350c6dbcb9", "exits 1", "exits 2", static plant => FailAfterVector(plant, static vm => $"exits {vm.Exits.Count - 2}")),
        new("S52", "vectors 55", "vectors 55 55", static plant => FailAfterVector(plant, static vm => $"vectors {string.Join(' ', vm.Vcpu.Host.Vectors.Select(static v => $"{v:x}"))}")),
        new("48ae0fb49b2e", "vectors 18", "vectors .",
            Scene.Exits(32, static c => c.hlt(), static _ => { }, new VmExit(VmExit.EntryFailureBit | (uint)ExitReason.EntryFailureMachineCheck))),
    ];

    private static VmExit Debug(InterruptionType type, uint length) =>
        new((uint)ExitReason.ExceptionOrNmi, InterruptionInfo: new InterruptionInfo(type, Vector.Db), InstructionLength: length);

    private static void StepOverSti(Iced.Intel.Assembler c)
    {
        c.mov(__word_ptr[4], 0x2000);
        c.mov(__word_ptr[6], 0);
        c.pushf();
        c.pop(ax);
        c.or(ax, 0x100);
        c.push(ax);
        c.popf();
        c.sti();
        c.nop();
        c.hlt();
    }

    // A host vector ends the guest's turn; before the next entry the host area becomes one that no processor takes.
    private static string FailAfterVector(Func<VmOptions, VmOptions> plant, Func<TestVm, string> see)
    {
        using TestVm vm = new(static c => { c.nop(); c.hlt(); }, plant(VmOptions.Default with { ExitCost = 0 }));
        vm.RunTo();
        vm.Vcpu.Rip = TestVm.Code;
        vm.Exits.Clear();
        vm.Exits.Add(default);
        vm.Exits.Add(default);
        vm.Input(InputPoint.BeforeEntry, InputKind.HostVector, 0x55);
        vm.Input(InputPoint.Signal, InputKind.Signal);
        vm.Vcpu.Run();
        vm.Vcpu.Vmx.Write(VmcsField.HostCr0, 0);
        vm.Vcpu.Run();
        Assert.Equal(KvmExitReason.FailEntry, vm.Vcpu.KvmRun.ExitReason);
        return see(vm);
    }
}
