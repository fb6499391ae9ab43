using Iced.Intel;
using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Memory;
using static Iced.Intel.AssemblerRegisters;

namespace VmFuzz.Kvm.Tests;

/// <summary>The userspace loop with an interrupt controller, and the same guest with and without the hypervisor.</summary>
public unsafe class VmmTests
{
    [Fact]
    [Trait("row", "S103")]
    [Trait("row", "S20")]
    public void Timer_InterruptsAComputingGuest_AtTheExactInstruction()
    {
        using TestVm vm = new(Ticking(5));
        vm.Load(0x80, [0, 0x20, 0, 0]);
        vm.Load(0x2000, Handler);
        UserMachine machine = new(vm);
        vm.NextBoundary = 100;
        vm.AtBoundary = machine.Tick;
        Assert.Equal(VmmStop.Halted, machine.Vmm.Run());
        Assert.Equal(5UL, vm.Vcpu[Gpr.Rsi] & 0xFFFF);
        Assert.Equal(5, machine.Controller.Acknowledged);
    }

    [Fact]
    public void Hlt_WithInterruptsOn_WakesAtTheNextEvent()
    {
        using TestVm vm = new(c => { c.sti(); c.hlt(); c.cli(); c.hlt(); });
        vm.Load(0x80, [0, 0x20, 0, 0]);
        vm.Load(0x2000, Handler);
        UserMachine machine = new(vm);
        Assert.Equal(VmmStop.Halted, machine.Vmm.Run());
        Assert.Equal(1UL, vm.Vcpu[Gpr.Rsi] & 0xFFFF);
        Assert.Equal(1, machine.Idles);
    }

    [Theory]
    [InlineData(16)]
    [InlineData(32)]
    public void SameGuest_BareAndUnderKvm_SeesTheSame(int bits)
    {
        ulong seed = 0xC0FFEE;
        for (int round = 0; round < 60; round++)
        {
            ulong guest = Next(ref seed);
            ulong tick = 20 + (Next(ref seed) % 40);
            string bare = RunBare(bits, guest, tick);
            string kvm = RunKvm(bits, guest, tick);
            Assert.Equal(bare, kvm);
        }
    }

    private static byte[] Handler => TestVm.Assemble(16, c => { c.inc(si); c.iret(); }, 0x2000);

    // Computes until the handler ran a number of times.
    private static Action<Assembler> Ticking(int times) => c =>
    {
        Label again = c.CreateLabel();
        c.xor(si, si);
        c.sti();
        c.Label(ref again);
        c.inc(cx);
        c.cpuid();
        c.mov(cx, 1);
        c.cmp(si, (short)times);
        c.jne(again);
        c.cli();
        c.hlt();
    };

    // A random straight program of instructions that do and do not exit.
    private static Action<Assembler> Program(ulong seed) => c =>
    {
        c.mov(esp, 0x8000);
        for (int i = 0; i < 40; i++)
        {
            switch (Next(ref seed) % 17)
            {
                case 0: c.mov(eax, (uint)Next(ref seed)); break;
                case 1: c.add(ebx, eax); break;
                case 2: c.mov(eax, (uint)(Next(ref seed) % 16)); c.mov(ecx, 0); c.cpuid(); break;
                case 3: c.mov(dx, (short)(0x40 + (int)(Next(ref seed) % 4))); c.@in(eax, dx); break;
                case 4: c.mov(dx, 0x80); c.@out(dx, ax); break;
                case 5: c.mov(edi, (uint)(0x3000 + (Next(ref seed) % 0x2000))); c.mov(__dword_ptr[edi], eax); break;
                case 6: c.mov(eax, cr0); c.xor(eax, 8); c.mov(cr0, eax); break;
                case 7: c.mov(eax, (uint)(Next(ref seed) & 0x6F8)); c.mov(cr4, eax); c.mov(ecx, cr4); break;
                case 8: c.mov(ecx, 0xC000_0081); c.wrmsr(); c.rdmsr(); break;
                case 9: c.mov(ecx, 0x1A0); c.rdmsr(); break;
                case 10: c.wbinvd(); break;
                case 11: c.sti(); break;
                case 12: c.cli(); break;
                case 13: c.pushfd(); c.pop(ebp); break;
                case 14: c.mov(eax, 0x1000); c.mov(dr1, eax); c.mov(esi, dr1); break;
                case 15: c.mov(edi, 0x4000); c.mov(dx, 0x41); c.mov(ecx, (uint)(Next(ref seed) % 4)); c.cld(); c.rep.insb(); break;
                default: c.mov(ecx, 0x277); c.rdmsr(); c.mov(eax, 0x0007_0106); c.wrmsr(); c.rdmsr(); break;
            }
        }

        c.cli();
        c.hlt();
    };

    private static string RunKvm(int bits, ulong guest, ulong tick)
    {
        using TestVm vm = new(Program(guest), VmOptions.Default with { ExitCost = 0 }, bits);
        Prepare(vm, bits);
        UserMachine machine = new(vm);
        vm.NextBoundary = tick;
        vm.AtBoundary = machine.Tick;
        VmmStop stop = machine.Vmm.Run();
        Assert.True(stop == VmmStop.Halted, $"{stop} {vm.Vcpu.KvmRun.ExitReason} {vm.Vcpu.KvmRun.InternalText} {vm.Vmx.FailedCheck}");
        VcpuRegs regs = vm.Vcpu.Vmx.GetRegs();
        return Describe(vm, machine, i => regs.Gprs[i], regs.Rip, regs.RFlags, vm.Vcpu.Vmx.Cr0, vm.Vcpu.Vmx.Cr4);
    }

    private static string RunBare(int bits, ulong guest, ulong tick)
    {
        using TestVm vm = new(Program(guest), null, bits);
        Prepare(vm, bits);
        UserMachine machine = new(vm);
        Processor cpu = vm.Processor;
        cpu.Interrupts = machine.Controller;
        vm.NextBoundary = tick;
        vm.AtBoundary = machine.Tick;
        CpuStop stop;
        do
        {
            stop = cpu.Run();
        }
        while (stop == CpuStop.Halted && (cpu.RFlagsValue & RFlags.If) != 0 && machine.Idle());

        Assert.True(stop == CpuStop.Halted, $"{stop} {cpu.UnimplementedText}");
        CpuState* s = cpu.State;
        return Describe(vm, machine, i => cpu.State->Gpr[i], s->Gpr[CpuState.RipSlot], cpu.RFlagsValue, s->Cr0, s->Cr4);
    }

    private static void Prepare(TestVm vm, int bits)
    {
        vm.Load(0x2000, TestVm.Assemble(bits, c =>
        {
            c.inc(__dword_ptr[0x6000]);
            if (bits == 32)
            {
                c.iretd();
            }
            else
            {
                c.iret();
            }
        }, 0x2000));
        if (bits == 16)
        {
            vm.Load(0x80, [0, 0x20, 0, 0]);
            return;
        }

        // A GDT with flat segments and an IDT with one gate.
        vm.Load(0x7000, [0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0, 0, 0, 0x9B, 0xCF, 0, 0xFF, 0xFF, 0, 0, 0, 0x93, 0xCF, 0]);
        vm.Load(0x7100 + (0x20 * 8), [0, 0x20, 8, 0, 0, 0x8E, 0, 0]);
        CpuState* s = vm.Processor.State;
        s->Gdtr = new TableState { Base = 0x7000, Limit = 23 };
        s->Idtr = new TableState { Base = 0x7100, Limit = 0x7FF };
        vm.Vcpu.Vmx.LoadFromProcessor();
    }

    private static string Describe(TestVm vm, UserMachine machine, Func<int, ulong> gpr, ulong rip, ulong flags, ulong cr0, ulong cr4)
    {
        ulong memory = 0;
        for (ulong at = 0x2000; at < 0x8000; at += 8)
        {
            memory = StateHash.Step(memory, vm.Peek(at));
        }

        IEnumerable<string> registers = Enumerable.Range(0, 16).Select(i => gpr(i).ToString("x"));
        return $"{string.Join(' ', registers)} rip {rip:x} flags {flags:x} cr0 {cr0:x} cr4 {cr4:x} retired {vm.Processor.Retired} "
            + $"memory {memory:x} acknowledged {machine.Controller.Acknowledged} {string.Join(", ", vm.Bus)}";
    }

    private static ulong Next(ref ulong seed)
    {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        return seed;
    }

    private sealed class LineController : IInterruptController
    {
        public bool InterruptPending { get; set; }

        public int Acknowledged { get; private set; }

        public byte TaskPriority { get; set; }

        public byte Acknowledge()
        {
            InterruptPending = false;
            Acknowledged++;
            return 0x20;
        }

        public bool TryReadApicMsr(uint msr, out ulong value)
        {
            value = 0;
            return false;
        }

        public bool TryWriteApicMsr(uint msr, ulong value) => false;
    }

    private sealed class UserMachine : IVmmHost
    {
        private readonly TestVm _vm;

        public UserMachine(TestVm vm)
        {
            _vm = vm;
            Vmm = new Vmm(vm.Vcpu, vm, Controller, this);
        }

        public Vmm Vmm { get; }

        public LineController Controller { get; } = new();

        public int Idles { get; private set; }

        public bool StopRequested => false;

        public bool Idle()
        {
            Idles++;
            if (Idles > 1)
            {
                return false;
            }

            Controller.InterruptPending = true;
            return true;
        }

        public bool TakeInputs(InputPoint point) => false;

        public void Tick(ulong retired)
        {
            Controller.InterruptPending = true;
            _vm.Processor.Look();
            Vmm.LinesChanged();
            _vm.NextBoundary = retired + 37;
        }
    }
}
