using System.Collections.Immutable;

namespace VmFuzz.Cpu;

/// <summary>Something that a guest can see and that this processor does otherwise than real ones do.</summary>
/// <param name="Id">Unique id.</param>
/// <param name="Section">Title of the SDM section that the behaviour belongs to.</param>
/// <param name="Here">What this processor does.</param>
/// <param name="Silicon">What real processors do.</param>
/// <param name="Reproducer">A line for <c>vmfuzz exec</c> that shows it.</param>
/// <param name="Result">What exec answers.</param>
public sealed record Deviation(string Id, string Section, string Here, string Silicon, string Reproducer, string Result);

/// <summary>The deviations of the guest's processor; what VT-x and the devices do otherwise stands in their own projects.</summary>
public static class Deviations
{
    /// <summary>All rows, faults first, then values and flags that the SDM leaves undefined, then what is not modelled.</summary>
    public static ImmutableArray<Deviation> All { get; } =
    [
        new("fault.undefined-opcode-of-15-bytes", "Interrupt 6 - Invalid Opcode Exception (#UD)",
            "an undefined opcode whose last byte is the fifteenth is #GP, as a longer one is", "#UD",
            """{"code":"666666666666666666666666660f04"}""",
            """{"id":null,"retired":0,"stop":"fault","fault":{"vector":13,"error":"0x0"},"regs":{},"mem":[]}"""),
        new("fault.aligned-move-not-canonical", "Interrupt 13 - General Protection Exception (#GP)",
            "an aligned move to a stack-segment address that is neither canonical nor aligned is #SS", "AMD EPYC (Zen 4): #GP",
            """{"code":"0f284500","regs":{"rbp":"0x8000000000000008"}}""",
            """{"id":null,"retired":0,"stop":"fault","fault":{"vector":12,"error":"0x0"},"regs":{},"mem":[]}"""),
        new("form.prefetch-of-registers", "PREFETCHW - Prefetch Data Into Caches in Anticipation of a Write",
            "0F 0D with a register operand does nothing, as on Intel's processors", "AMD EPYC (Zen 4): #UD",
            """{"code":"0f0dc1"}""",
            """{"id":null,"retired":1,"stop":"max","regs":{"rip":"0x10003"},"mem":[]}"""),
        new("form.movsxd-of-16-bits", "MOVSX/MOVSXD - Move With Sign-Extension",
            "MOVSXD to a 16-bit register reads two bytes, as on Intel's processors", "AMD EPYC (Zen 4): it reads four bytes",
            """{"code":"666303","regs":{"rbx":"0x20ffe"},"mem":[{"at":"0x20ffe","hex":"3412"}]}""",
            """{"id":null,"retired":1,"stop":"max","regs":{"rax":"0x1234","rip":"0x10003"},"mem":[]}"""),
        new("form.near-branch-of-16-bits", "JMP - Jump",
            "in 64-bit code the operand-size prefix does not matter to near branches, as on Intel's processors", "AMD's processors: displacement and target have 16 bits",
            """{"code":"66e900000000"}""",
            """{"id":null,"retired":1,"stop":"max","regs":{"rip":"0x10006"},"mem":[]}"""),
        new("flags.mul", "MUL - Unsigned Multiply",
            "SF, ZF and PF are those of the low half, AF is 0", "AMD EPYC (Zen 4): SF, ZF, AF and PF stay",
            """{"code":"48f7e1","regs":{"rax":"0x8000000000000000","rcx":"0x1","rflags":"0x8d7"}}""",
            """{"id":null,"retired":1,"stop":"max","regs":{"rip":"0x10003","rflags":"0x86"},"mem":[]}"""),
        new("flags.div", "DIV - Unsigned Divide",
            "the flags stay", "AMD EPYC (Zen 4): they change with the operands",
            """{"code":"48f7f1","regs":{"rax":"0xa","rcx":"0x3","rflags":"0x8d7"}}""",
            """{"id":null,"retired":1,"stop":"max","regs":{"rax":"0x3","rdx":"0x1","rip":"0x10003"},"mem":[]}"""),
        new("flags.bit-scan", "BSF - Bit Scan Forward",
            "OF, SF, AF, PF and CF are 0", "AMD EPYC (Zen 4): PF follows the result",
            """{"code":"0fbcc1","regs":{"rcx":"0x8","rflags":"0x8d7"}}""",
            """{"id":null,"retired":1,"stop":"max","regs":{"rax":"0x3","rip":"0x10003","rflags":"0x2"},"mem":[]}"""),
        new("flags.shift-adjust", "SAL/SAR/SHL/SHR - Shift",
            "AF is 0", "AMD EPYC (Zen 4): AF is 1",
            """{"code":"c1e004","regs":{"rax":"0x18000000"}}""",
            """{"id":null,"retired":1,"stop":"max","regs":{"rax":"0x80000000","rip":"0x10003","rflags":"0x87"},"mem":[]}"""),
        new("flags.bextr", "BEXTR - Bit Field Extract",
            "SF and PF are those of the result, AF is 0", "AMD EPYC (Zen 4): AF is 1",
            """{"code":"c4e268f7c1","regs":{"rcx":"0xff","rdx":"0x804"}}""",
            """{"id":null,"retired":1,"stop":"max","regs":{"rax":"0xf","rip":"0x10005","rflags":"0x6"},"mem":[]}"""),
        new("flags.lzcnt", "LZCNT - Count the Number of Leading Zero Bits",
            "OF, SF, AF and PF are 0", "AMD EPYC (Zen 4): OF stays",
            """{"code":"f30fbdc1","regs":{"rcx":"0x8","rflags":"0x8d7"}}""",
            """{"id":null,"retired":1,"stop":"max","regs":{"rax":"0x1c","rip":"0x10004","rflags":"0x2"},"mem":[]}"""),
        new("missing.floating-point", "x87 FPU Instructions",
            "the machine stops and says so: x87 arithmetic is not modelled", "the instruction executes",
            """{"code":"d9e8"}""",
            """{"id":null,"error":"not modelled: instruction fld1 (Fld1) at RIP 0x10000"}"""),
        new("missing.vector-arithmetic", "SSE Instructions",
            "the machine stops and says so: arithmetic on floating-point vectors is not modelled, but that on integers is", "the instruction executes",
            """{"code":"0f58c1"}""",
            """{"id":null,"error":"not modelled: instruction addps xmm0,xmm1 (Addps_xmm_xmmm128) at RIP 0x10000"}"""),
    ];
}
