using System.Runtime.InteropServices;
using System.Runtime.Intrinsics.X86;
using Iced.Intel;
using VmFuzz.Arch;
using static Iced.Intel.AssemblerRegisters;

namespace VmFuzz.Cpu.Tests.Silicon;

/// <summary>
/// Runs instructions on the host in user mode, faults included: all general registers, the flags, the x87 and the XMM registers
/// are theirs, and memory is a window at a fixed address. 32- and 16-bit code runs in segments of the LDT.
/// </summary>
/// <remarks>
/// The instructions end with a fault, if only that of a HLT behind them. It comes as a signal. The handler is machine code that notes what the kernel says of it and goes on behind the
/// instructions. Other signals wait meanwhile, since the stack pointer is anything.
/// </remarks>
internal sealed unsafe class NativeSandbox : IDisposable
{
    /// <summary>Linear address of the instructions.</summary>
    public const ulong CodeAddress = Base + CodeOffset;

    /// <summary>Base of the 16-bit code segment.</summary>
    public const ulong Code16Base = Base;

    /// <summary>The memory that instructions may use; what follows is not mapped.</summary>
    public const ulong WindowAddress = 0x5000_0000;

    public const int WindowSize = 0x2000;

    /// <summary>Selectors of Linux: 64-bit code, and data where code is not 64-bit.</summary>
    public const ushort Code64Selector = 0x33;
    public const ushort DataSelector = 0x2B;

    // Behind what other tests make.
    private const int Code32Entry = 1000;
    private const int Code16Entry = 1001;

    private const ulong Base = 0x4000_0000;
    private const int CodeOffset = 0x1000;
    private const int Size = 0x40000;
    private const ulong Data = Base + 0x4000;
    private const ulong Registers = Data;
    private const ulong Flags = Data + 0x80;
    private const ulong HostRsp = Data + 0x88;
    private const ulong Entry = Data + 0x90;
    private const ulong HostMxcsr = Data + 0xA8;
    private const ulong Fault = Data + 0xC0; // RIP, vector, error code, address
    private const ulong Segments = Data + 0xF0;

    // An FXSAVE image: x87 state, MXCSR, x87 registers by the stack, XMM registers.
    private const ulong Image = Data + 0x200;
    private const ulong Fcw = Image;
    private const ulong Fsw = Image + 2;
    private const ulong Full = Image + 4;
    private const ulong Mxcsr = Image + 24;
    private const ulong Stack = Image + 32;
    private const ulong Xmm = Image + 160;

    // Loaded after the image where the host has AVX.
    private const ulong Ymm = Data + 0x400;
    private const ulong SignalStack = Base + 0x10000;

    // In the order of SiliconState.Segments.
    private static readonly AssemblerRegisterSegment[] Selectors = [es, ss, ds];

    // SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV
    private static readonly int[] Signals = [4, 5, 7, 8, 11];

    private readonly List<(int Signal, KernelAction Old)> _replaced = [];
    private SignalStackOf _oldStack;
    private ulong _restorer;
    private ulong _handler;

    private NativeSandbox()
    {
    }

    /// <summary>Why <see cref="TryCreate"/> gives none.</summary>
    public const string Needs = "needs an x64 Linux host with modify_ldt, and the addresses of the sandbox free";

    public static Span<byte> Window => new((byte*)WindowAddress, WindowSize);

    public static NativeSandbox? TryCreate()
    {
        if (!OperatingSystem.IsLinux() || RuntimeInformation.ProcessArchitecture != Architecture.X64
            || !HostCalls.TryMapAt((nint)Base, Size, executable: true))
        {
            return null;
        }

        if (!HostCalls.TryMapAt((nint)WindowAddress, WindowSize, executable: false))
        {
            _ = HostCalls.Unmap((nint)Base, Size);
            return null;
        }

        if (HostCalls.CodeSegment(Code32Entry, 0, 32) != SelectorOf(32) || HostCalls.CodeSegment(Code16Entry, (nint)Base, 16) != SelectorOf(16))
        {
            Unmap();
            return null;
        }

        var sandbox = new NativeSandbox();
        sandbox.Assemble();
        sandbox.TakeSignals();
        return sandbox;
    }

    /// <summary>The code segment for code of a size.</summary>
    public static ushort SelectorOf(int bitness) => bitness switch
    {
        64 => Code64Selector,
        32 => (Code32Entry << 3) | 7,
        _ => (Code16Entry << 3) | 7,
    };

    /// <summary>Offset in its code segment where code of a size starts.</summary>
    public static ulong RipOf(int bitness) => bitness == 16 ? CodeOffset : CodeAddress;

    /// <summary>Runs a case to its first fault. RIP is where it faulted; INT3, INTO and INT1 leave it at the instruction.</summary>
    public SiliconState Run(SiliconCase one, out SiliconFault fault)
    {
        Window.Clear();
        foreach ((ulong at, byte[] bytes) in one.Memory)
        {
            bytes.CopyTo(Window[(int)(at - WindowAddress)..]);
        }

        LoadCode(one);
        for (int r = 0; r < 16; r++)
        {
            At<ulong>(Registers + ((ulong)r * 8)) = one.Start.Registers[r];
            At<UInt128>(Xmm + ((ulong)r * 16)) = At<UInt128>(Ymm + ((ulong)r * 32)) = one.Start.Xmm[r];
            At<UInt128>(Ymm + ((ulong)r * 32) + 16) = one.Start.High[r];
        }

        for (int r = 0; r < 8; r++)
        {
            At<UInt128>(Stack + ((ulong)r * 16)) = one.Start.Stack(r);
        }

        At<ulong>(Flags) = one.Start.Flags;
        At<uint>(Mxcsr) = one.Start.Mxcsr;
        At<ushort>(Fcw) = one.Start.Fcw;
        At<ushort>(Fsw) = one.Start.Fsw;
        At<byte>(Full) = one.Start.Full;
        ulong all = ~Signals.Aggregate(0UL, static (mask, signal) => mask | (1UL << (signal - 1)));
        ulong old = 0;
        const int sigprocmask = 14, setMask = 2;
        _ = HostCalls.Call(sigprocmask, setMask, (nint)(&all), (nint)(&old), 8);
        ((delegate* unmanaged<void>)Base)();
        _ = HostCalls.Call(sigprocmask, setMask, (nint)(&old), 0, 8);
        return Read(one, out fault);
    }

    public void Dispose()
    {
        foreach ((int signal, KernelAction old) in _replaced)
        {
            KernelAction action = old;
            _ = HostCalls.Call(SigAction, signal, (nint)(&action), 0, 8);
        }

        fixed (SignalStackOf* old = &_oldStack)
        {
            _ = HostCalls.Call(SigAltStack, (nint)old, 0, 0);
        }

        Unmap();
    }

    private static void Unmap()
    {
        _ = HostCalls.Unmap((nint)Base, Size);
        _ = HostCalls.Unmap((nint)WindowAddress, WindowSize);
    }

    private static void LoadCode(SiliconCase one)
    {
        Span<byte> page = new((byte*)CodeAddress, 0x1000);
        page.Clear();
        one.Code.CopyTo(page);
        At<ulong>(Entry) = RipOf(one.Bitness) | ((ulong)SelectorOf(one.Bitness) << 32);
    }

    private static SiliconState Read(SiliconCase one, out SiliconFault fault)
    {
        fault = new SiliconFault((int)At<ulong>(Fault + 8), At<ulong>(Fault + 16), At<ulong>(Fault + 24));
        var state = new SiliconState
        {
            Flags = At<ulong>(Flags),
            Mxcsr = At<uint>(Mxcsr),
            Fcw = At<ushort>(Fcw),
            Fsw = At<ushort>(Fsw),
            Full = At<byte>(Full),
            Rip = fault.Vector is Vector.Db or Vector.Bp or Vector.Of ? RipOf(one.Bitness) : At<ulong>(Fault),
        };
        for (int i = 0; i < Selectors.Length; i++)
        {
            state.Segments[i] = At<ushort>(Segments + ((ulong)i * 2));
        }

        for (int r = 0; r < 16; r++)
        {
            state.Registers[r] = At<ulong>(Registers + ((ulong)r * 8));
            state.Xmm[r] = At<UInt128>(Xmm + ((ulong)r * 16));
            state.High[r] = At<UInt128>(Ymm + ((ulong)r * 32) + 16);
        }

        for (int r = 0; r < 8; r++)
        {
            state.Stack(r) = At<UInt128>(Stack + ((ulong)r * 16)) & ((UInt128.One << 80) - 1);
        }

        return state;
    }

    private static ref T At<T>(ulong address)
        where T : unmanaged => ref *(T*)address;

    private void Assemble()
    {
        var c = new Assembler(64);
        AssemblerRegister64[] gprs = [rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15];
        AssemblerRegisterYMM[] ymms = Avx.IsSupported ? [ymm0, ymm1, ymm2, ymm3, ymm4, ymm5, ymm6, ymm7, ymm8, ymm9, ymm10, ymm11, ymm12, ymm13, ymm14, ymm15] : [];
        AssemblerRegister64[] saved = [rbx, rbp, r12, r13, r14, r15];
        Label exit = c.CreateLabel(), handler = c.CreateLabel(), restorer = c.CreateLabel();
        foreach (AssemblerRegister64 register in saved)
        {
            c.push(register);
        }

        c.mov(__qword_ptr[HostRsp], rsp);
        c.stmxcsr(__dword_ptr[HostMxcsr]);
        c.fxrstor64(__[Image]);
        for (int i = 0; i < ymms.Length; i++)
        {
            c.vmovups(ymms[i], __ymmword_ptr[Ymm + ((ulong)i * 32)]);
        }


        // 32- and 16-bit code has data segments, 64-bit code has null ones, which is what Linux gives.
        Label wide = c.CreateLabel();
        c.cmp(__word_ptr[Entry + 4], Code64Selector);
        c.je(wide);
        c.mov(eax, ss);
        c.mov(ds, eax);
        c.mov(es, eax);
        c.Label(ref wide);
        c.push(__qword_ptr[Flags]);
        c.popfq();
        foreach (AssemblerRegister64 register in gprs)
        {
            c.mov(register, __qword_ptr[Registers + ((ulong)Array.IndexOf(gprs, register) * 8)]);
        }

        c.db([0xFF, 0x2C, 0x25, .. BitConverter.GetBytes((uint)Entry)]); // jmp far [entry]
        c.Label(ref exit);
        foreach (AssemblerRegister64 register in gprs)
        {
            c.mov(__qword_ptr[Registers + ((ulong)Array.IndexOf(gprs, register) * 8)], register);
        }

        for (int i = 0; i < Selectors.Length; i++)
        {
            c.mov(__word_ptr[Segments + ((ulong)i * 2)], Selectors[i]);
        }

        c.mov(rsp, __qword_ptr[HostRsp]);
        c.pushfq();
        c.pop(__qword_ptr[Flags]);
        c.push(2);
        c.popfq();
        c.fxsave64(__[Image]);
        for (int i = 0; i < ymms.Length; i++)
        {
            c.vmovups(__ymmword_ptr[Ymm + ((ulong)i * 32)], ymms[i]);
        }

        c.fninit();
        c.ldmxcsr(__dword_ptr[HostMxcsr]);
        c.xor(eax, eax);
        c.mov(ds, eax);
        c.mov(es, eax);
        foreach (AssemblerRegister64 register in saved.Reverse())
        {
            c.pop(register);
        }

        c.ret();
        c.Label(ref handler);
        EmitHandler(c, exit);
        c.Label(ref restorer);
        const int sigreturn = 15;
        c.mov(eax, sigreturn);
        c.syscall();

        var writer = new Integer.RandomForms.ListWriter();
        AssemblerResult result = c.Assemble(writer, Base, BlockEncoderOptions.ReturnNewInstructionOffsets);
        Assert.InRange(writer.Bytes.Count, 1, CodeOffset);
        writer.Bytes.CopyTo(new Span<byte>((byte*)Base, CodeOffset));
        _handler = result.GetLabelRIP(handler);
        _restorer = result.GetLabelRIP(restorer);
    }

    // The third argument is the ucontext; its registers start at 40: RIP is the 17th, then flags, CS, error code, vector; CR2
    // is the 23rd.
    private static void EmitHandler(Assembler c, Label exit)
    {
        const int context = 40;
        int[] noted = [16, 20, 19, 22];
        for (int i = 0; i < noted.Length; i++)
        {
            c.mov(rax, __qword_ptr[rdx + context + (noted[i] * 8)]);
            c.mov(__qword_ptr[Fault + ((ulong)i * 8)], rax);
        }

        c.lea(rax, __[exit]);
        c.mov(__qword_ptr[rdx + context + (16 * 8)], rax);
        c.mov(__word_ptr[rdx + context + (18 * 8)], Code64Selector);
        c.ret();
    }

    private void TakeSignals()
    {
        // SA_SIGINFO | SA_ONSTACK | SA_RESTORER
        var action = new KernelAction { Handler = _handler, Flags = 4 | 0x0800_0000 | 0x0400_0000, Restorer = _restorer };
        foreach (int signal in Signals)
        {
            KernelAction old = default;
            _ = HostCalls.Call(SigAction, signal, (nint)(&action), (nint)(&old), 8);
            _replaced.Add((signal, old));
        }

        var stack = new SignalStackOf { Pointer = SignalStack, Size = Base + Size - SignalStack };
        fixed (SignalStackOf* old = &_oldStack)
        {
            _ = HostCalls.Call(SigAltStack, (nint)(&stack), (nint)old, 0);
        }
    }

    private const int SigAction = 13;
    private const int SigAltStack = 131;

    // The kernel's struct sigaction.
    private struct KernelAction
    {
        public ulong Handler;
        public ulong Flags;
        public ulong Restorer;
        public ulong Mask;
    }

    // The kernel's stack_t.
    private struct SignalStackOf
    {
        public ulong Pointer;
        public ulong Flags;
        public ulong Size;
    }
}
