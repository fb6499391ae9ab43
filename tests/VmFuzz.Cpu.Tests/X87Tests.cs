using VmFuzz.Arch;

namespace VmFuzz.Cpu.Tests;

/// <summary>The x87 where silicon in user mode does not reach: exceptions that are reported, memory faults, layouts of real mode, pointers.</summary>
public sealed unsafe class X87Tests
{
    private const ulong Data = 0x20000;
    private const ulong DivideError = 0x8084;

    private static readonly byte[] Fld1 = [0xD9, 0xE8];
    private static readonly byte[] Fldz = [0xD9, 0xEE];
    private static readonly byte[] FdivP = [0xDE, 0xF9];
    private static readonly byte[] StoreSingle = [0xD9, 0x1B]; // fstp dword [rbx]

    [Fact]
    public void UnmaskedException_IsReportedByTheNextWaitingInstruction()
    {
        using SystemFixture machine = Machine();
        machine.State->Cr0 |= Cr0.Ne;
        machine.State->Fcw = 0x37B;
        machine.Completes(Fld1);
        machine.Completes(Fldz);
        machine.Completes(FdivP);
        Assert.Equal(DivideError, machine.State->Fsw & 0x80FF);
        Assert.Equal(2, Depth(machine));
        machine.Completes(0xDF, 0xE0); // fnstsw ax does not wait
        machine.Faults(Vector.Mf, 0, Fld1);
        machine.Faults(Vector.Mf, 0, 0x9B); // fwait
        machine.Completes(0xDB, 0xE2); // fnclex
        machine.Completes(Fld1);
        Assert.Equal(3, Depth(machine));
    }

    [Fact]
    public void UnmaskedException_NotesPointersAndOpcode()
    {
        using SystemFixture machine = Machine();
        machine.State->Fcw = 0x37B;
        machine.Completes(Fld1);
        Assert.Equal(0UL, machine.State->Fop);
        machine.Write(Data, 4, 0);
        ulong rip = machine.Cpu.Rip;
        machine.Write(rip, 3, 0x33D866); // fdiv dword [rbx], behind a prefix
        machine.Completes(0x66, 0xD8, 0x33);
        Assert.Equal((0x033UL, rip, Data), (machine.State->Fop, machine.State->Fip, machine.State->Fdp));
    }

    [Fact]
    public void NoDevice_ComesBeforeEverything()
    {
        using SystemFixture machine = Machine();
        machine.State->Cr0 |= Cr0.Ts;
        machine.Cpu[Gpr.Rbx] = 1UL << 60;
        machine.Faults(Vector.Nm, 0, StoreSingle);
        machine.Faults(Vector.Nm, 0, 0xD9, 0x33); // fnstenv [rbx]
    }

    [Fact]
    public void Store_ThatFaults_ChangesNothing()
    {
        using SystemFixture machine = Machine();
        machine.Completes(0xD9, 0xEB); // fldpi
        machine.Cpu[Gpr.Rbx] = 1UL << 60;
        ulong status = machine.State->Fsw, tags = machine.State->Ftw;
        machine.Faults(Vector.Gp, 0, StoreSingle);
        machine.Faults(Vector.Gp, 0, 0xDB, 0x3B); // fstp tword [rbx]
        machine.Faults(Vector.Gp, 0, 0xDD, 0x33); // fnsave [rbx]
        Assert.Equal((status, tags, 0x37FUL), (machine.State->Fsw, machine.State->Ftw, machine.State->Fcw));
    }

    [Fact]
    public void Store_ThatAnUnmaskedExceptionForbids_TouchesNoMemory()
    {
        using SystemFixture machine = Machine();
        machine.State->Fcw = 0x377;
        machine.Completes(0xDB, 0x2B); // fld tword [rbx]
        machine.Cpu[Gpr.Rbx] = 1UL << 60;
        machine.Completes(StoreSingle);
        Assert.Equal(0x8088UL, machine.State->Fsw & 0x80FF);
        Assert.Equal(1, Depth(machine));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Environment_OfRealMode_SplitsLinearAddresses(bool large)
    {
        using SystemFixture machine = new SystemFixture().Real();
        machine.Completes(0xDB, 0xE3); // fninit
        machine.Cpu[Gpr.Rbx] = 0x400;
        (machine.State->Fip, machine.State->Fdp, machine.State->Fop) = (0x1_2345, 0xF_6789, 0x5AB);
        machine.Completes(large ? [0x66, 0xD9, 0x37] : [0xD9, 0x37]); // fnstenv [bx]
        int width = large ? 4 : 2;
        ulong based = machine.State->Ds.Base + 0x400;
        ulong[] words = [.. Enumerable.Range(0, 7).Select(i => machine.Read(based + (ulong)(i * width), 2))];
        Assert.Equal([0x37F, 0, 0xFFFF, 0x2345, 0x15AB, 0x6789, 0xF000], words);
        (machine.State->Fip, machine.State->Fdp, machine.State->Fop, machine.State->Fcw) = (0, 0, 0, 0x340);
        machine.Completes(large ? [0x66, 0xD9, 0x27] : [0xD9, 0x27]); // fldenv [bx]
        Assert.Equal((0x1_2345UL, 0xF_6789UL, 0x5ABUL, 0x37FUL), (machine.State->Fip, machine.State->Fdp, machine.State->Fop, machine.State->Fcw));
    }

    [Theory]
    [InlineData(new byte[] { 0xDD, 0x33 }, new byte[] { 0xDD, 0x23 })] // fnsave, frstor [rbx]
    [InlineData(new byte[] { 0x66, 0xDD, 0x33 }, new byte[] { 0x66, 0xDD, 0x23 })]
    public void State_SavedAndRestored_IsTheSame(byte[] save, byte[] restore)
    {
        using SystemFixture machine = Machine();
        machine.Completes(0xD9, 0xEB); // fldpi
        machine.Completes(Fldz);
        machine.State->Fcw = 0x27F;
        ulong tags = machine.State->Ftw, status = machine.State->Fsw, significand = machine.State->X87[14];
        machine.Completes(save);
        Assert.Equal((0x37FUL, 0UL, 0xFFFFUL), (machine.State->Fcw, machine.State->Fsw, machine.State->Ftw));
        machine.State->X87[14] = 1;
        machine.Completes(restore);
        Assert.Equal((0x27FUL, status, tags, significand), (machine.State->Fcw, machine.State->Fsw, machine.State->Ftw, machine.State->X87[14]));
        Assert.Equal(0xC90F_DAA2_2168_C235UL, significand);
    }

    // Full registers.
    private static int Depth(SystemFixture machine) => Enumerable.Range(0, 8).Count(i => ((machine.State->Ftw >> (i * 2)) & 3) != 3);

    private static SystemFixture Machine()
    {
        SystemFixture machine = new SystemFixture().Long();
        machine.Completes(0xDB, 0xE3); // fninit
        machine.Cpu[Gpr.Rbx] = Data;
        machine.Write(Data, 8, 0xC000_0000_0000_0000);
        machine.Write(Data + 8, 2, 0x7000);
        return machine;
    }
}
