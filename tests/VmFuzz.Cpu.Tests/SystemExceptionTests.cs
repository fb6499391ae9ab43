using VmFuzz.Arch;

namespace VmFuzz.Cpu.Tests;

/// <summary>Every vector by code that raises it, which of two comes first, and the double-fault table.</summary>
public sealed unsafe class SystemExceptionTests
{
    private const ulong Handlers = 0x9000;
    private const ulong Data = 0xA000;
    private const ulong Pages = 0x20000;

    // Every vector has a handler of its own, which halts.
    private static SystemFixture Make(int cpl, params ReadOnlySpan<byte> code)
    {
        SystemFixture f = new SystemFixture().Protected32(cpl);
        for (int vector = 0; vector < 32; vector++)
        {
            ulong at = Handlers + ((ulong)vector * 16);
            f.SetVector(vector, SystemFixture.Code0, 0xEE, offset: at);
            f.Write(at, 2, 0xF4_90); // nop; hlt
        }

        Put(f, SystemFixture.CodeAt, code);
        return f;
    }

    private static void Put(SystemFixture f, ulong at, ReadOnlySpan<byte> code)
    {
        for (int i = 0; i < code.Length; i++)
        {
            f.Write(at + (ulong)i, 1, code[i]);
        }
    }

    // One to one for the first MiB, but one page.
    private static void Paging(SystemFixture f, ulong absent)
    {
        f.Write(Pages, 4, (Pages + 0x1000) | 7);
        for (uint i = 0; i < 256; i++)
        {
            f.Write(Pages + 0x1000 + (i * 4), 4, i == absent >> 12 ? 0 : (i << 12) | 7);
        }

        f.State->Cr3 = Pages;
        f.State->Cr0 |= Cr0.Pg;
        f.Cpu.FlushTlb();
        f.Cpu.StateChanged();
    }

    // Runs to a handler; a vector with an error code has it on top of the stack.
    private static void Raises(SystemFixture f, byte vector, ulong rip, uint? error = null)
    {
        Assert.Equal(CpuStop.Halted, f.Cpu.Run());
        Assert.Equal(Handlers + (vector * 16UL) + 2, f.Cpu.Rip);
        int at = error is null ? 0 : 1;
        Assert.Equal(rip, f.OnStack(at, 4));
        if (error is { } code)
        {
            Assert.Equal(code, f.OnStack(0, 4));
        }
    }

    [Theory]
    [InlineData(12, "0F04", Vector.Ud)] // 14 bytes of an undefined opcode
    [InlineData(13, "0F04", Vector.Ud)] // 15
    [InlineData(14, "0F04", Vector.Gp)] // 16
    [InlineData(13, "0FC7", Vector.Gp)] // its ModRM byte would be the 16th
    [InlineData(14, "90", Vector.Bp)] // the longest NOP, then INT3
    [InlineData(15, "90", Vector.Gp)]
    [InlineData(12, "81C01111", Vector.Gp)] // ADD with one byte too many
    [InlineData(11, "81C01111", Vector.Bp)]
    [InlineData(12, "F00F04", Vector.Ud)]
    public void Instruction_OfAboutFifteenBytes_RaisesByItsLength(int prefixes, string rest, byte vector)
    {
        byte[] code = [.. Enumerable.Repeat((byte)0x66, prefixes), .. Convert.FromHexString(rest), 0xCC];
        using SystemFixture f = Make(0, code);
        Raises(f, vector, SystemFixture.CodeAt + (vector == Vector.Bp ? (uint)code.Length : 0), vector == Vector.Gp ? 0 : null);
    }

    [Fact]
    public void DivideError_OfDivByZero_IsAFault()
    {
        using SystemFixture f = Make(3, 0xF7, 0xF1);
        f.Cpu[Gpr.Rcx] = 0;
        Raises(f, Vector.De, SystemFixture.CodeAt);
    }

    [Fact]
    public void DebugException_OfInt1_IsATrap()
    {
        using SystemFixture f = Make(3, 0xF1);
        Raises(f, Vector.Db, SystemFixture.CodeAt + 1);
    }

    [Fact]
    public void Nmi_Latched_ComesAtTheNextBoundary()
    {
        using SystemFixture f = Make(3, 0x90);
        f.Cpu.RaiseNmi();
        Raises(f, Vector.Nmi, SystemFixture.CodeAt);
    }

    [Fact]
    public void Breakpoint_OfInt3_IsATrap()
    {
        using SystemFixture f = Make(3, 0xCC);
        Raises(f, Vector.Bp, SystemFixture.CodeAt + 1);
    }

    [Fact]
    public void Overflow_OfInto_IsATrap()
    {
        using SystemFixture f = Make(3, 0xCE);
        f.Cpu.RFlagsValue = RFlags.Of;
        Raises(f, Vector.Of, SystemFixture.CodeAt + 1);
    }

    [Fact]
    public void BoundRange_OfBound_IsAFault()
    {
        using SystemFixture f = Make(3, 0x62, 0x05, 0, 0xA0, 0, 0);
        f.Cpu[Gpr.Rax] = 5;
        Raises(f, Vector.Br, SystemFixture.CodeAt);
    }

    [Fact]
    public void InvalidOpcode_OfUd2_IsAFault()
    {
        using SystemFixture f = Make(3, 0x0F, 0x0B);
        Raises(f, Vector.Ud, SystemFixture.CodeAt);
    }

    [Fact]
    public void DeviceNotAvailable_OfWaitWithTs_IsAFault()
    {
        using SystemFixture f = Make(3, 0x9B);
        f.State->Cr0 |= Cr0.Ts | Cr0.Mp;
        Raises(f, Vector.Nm, SystemFixture.CodeAt);
    }

    [Fact]
    public void DoubleFault_OfTwoContributoryFaults_HasErrorCodeZero()
    {
        // The gate of #GP is of no known type.
        using SystemFixture f = Make(3, 0xF4);
        f.SetVector(Vector.Gp, SystemFixture.Code0, 0x80);
        Raises(f, Vector.Df, SystemFixture.CodeAt, 0);
    }

    [Fact]
    public void InvalidTss_OfIretWithWrongLink_NamesIt()
    {
        using SystemFixture f = Make(0, 0xCF);
        f.Cpu.RFlagsValue = RFlags.Nt;
        f.Write(SystemFixture.TssBase, 2, SystemFixture.Data0);
        Raises(f, Vector.Ts, SystemFixture.CodeAt, SystemFixture.Data0);
    }

    [Fact]
    public void SegmentNotPresent_OfASegmentLoad_NamesIt()
    {
        using SystemFixture f = Make(0, 0x8E, 0xD8);
        f.Cpu[Gpr.Rax] = SystemFixture.Absent;
        Raises(f, Vector.Np, SystemFixture.CodeAt, SystemFixture.Absent);
    }

    [Fact]
    public void StackFault_OfAPushBeyondTheLimit_HasErrorCodeZero()
    {
        using SystemFixture f = Make(3, 0x50);
        f.State->Ss.Limit = 0x100;
        Raises(f, Vector.Ss, SystemFixture.CodeAt, 0);
    }

    [Fact]
    public void GeneralProtection_OfAPrivilegedInstruction_HasErrorCodeZero()
    {
        using SystemFixture f = Make(3, 0xF4);
        Raises(f, Vector.Gp, SystemFixture.CodeAt, 0);
    }

    [Fact]
    public void PageFault_OfALoad_SetsCr2()
    {
        using SystemFixture f = Make(3, 0xA1, 0x10, 0xA0, 0, 0);
        Paging(f, Data);
        Raises(f, Vector.Pf, SystemFixture.CodeAt, PageFaultError.User);
        Assert.Equal(Data + 0x10, f.State->Cr2);
    }

    [Fact]
    public void FloatingPointError_OfWaitWithAnErrorPending_IsAFault()
    {
        using SystemFixture f = Make(3, 0x9B);
        f.State->Cr0 |= Cr0.Ne;
        f.State->Fsw = 0x81;
        Raises(f, Vector.Mf, SystemFixture.CodeAt);
    }

    [Fact]
    public void AlignmentCheck_OfALoad_HasErrorCodeZero()
    {
        using SystemFixture f = Make(3, 0xA1, 0x01, 0xA0, 0, 0);
        f.State->Cr0 |= Cr0.Am;
        f.Cpu.RFlagsValue = RFlags.Ac;
        f.Cpu.StateChanged();
        Raises(f, Vector.Ac, SystemFixture.CodeAt, 0);
    }

    // What no code of this model raises by itself: a hypervisor can inject it.
    [Theory]
    [InlineData(Vector.Mc, false)]
    [InlineData(Vector.Xm, false)]
    [InlineData(Vector.Ve, false)]
    [InlineData(Vector.Cp, true)]
    public void Exception_Injected_HasTheErrorCodeOfItsVector(byte vector, bool hasError)
    {
        using SystemFixture f = Make(3, 0x90);
        Assert.Equal(hasError, Vector.HasErrorCode(vector));
        GuestEvent raised = new(vector, EventType.HardwareException, hasError, hasError ? 3U : 0);
        Assert.True(f.Cpu.DeliverEvent(raised, injected: true));
        Raises(f, vector, SystemFixture.CodeAt, hasError ? 3 : null);
    }

    [Fact]
    public void SingleStep_ComesBeforeTheNmi()
    {
        using SystemFixture f = Make(3, 0x90, 0x90);
        f.Cpu.RFlagsValue = RFlags.Tf;
        f.State->PendingDebug = PendingDebugExceptions.Bs;
        f.Cpu.RaiseNmi();
        Raises(f, Vector.Nmi, Handlers + (Vector.Db * 16));
    }

    [Fact]
    public void CodeLimit_ComesBeforeThePageFaultOfTheFetch()
    {
        using SystemFixture f = Make(0);
        Paging(f, Data);
        f.Cpu.Rip = Data;
        f.State->Cs.Limit = 0x9FFF;
        Raises(f, Vector.Gp, Data, 0);
    }

    [Fact]
    public void PageFault_OfTheRestOfAnInstruction_ComesBeforeItsDecoding()
    {
        using SystemFixture f = Make(0);
        Paging(f, Data);
        f.Write(Data - 1, 1, 0x0F);
        f.Cpu.Rip = Data - 1;
        Raises(f, Vector.Pf, Data - 1, 0);
        Assert.Equal(Data, f.State->Cr2);
    }

    [Fact]
    public void CodeLimit_OfTheRestOfAnInstruction_ComesBeforeItsDecoding()
    {
        using SystemFixture f = Make(0);
        f.Write(Data - 1, 1, 0x0F);
        f.Cpu.Rip = Data - 1;
        f.State->Cs.Limit = (uint)Data - 1;
        Raises(f, Vector.Gp, Data - 1, 0);
    }

    [Theory]
    [InlineData(14, false)]
    [InlineData(15, true)]
    public void Instruction_LongerThan15Bytes_IsGeneralProtection(int prefixes, bool faults)
    {
        byte[] code = new byte[prefixes + 2];
        Array.Fill(code, (byte)0x66, 0, prefixes);
        code[prefixes] = 0x90;
        code[prefixes + 1] = 0xF4;
        using SystemFixture f = Make(0, code);
        if (faults)
        {
            Raises(f, Vector.Gp, SystemFixture.CodeAt, 0);
        }
        else
        {
            Assert.Equal(CpuStop.Halted, f.Cpu.Run());
            Assert.Equal(SystemFixture.CodeAt + 16, f.Cpu.Rip);
        }
    }

    [Fact]
    public void InvalidOpcode_OfALockPrefix_ComesBeforeThePrivilegeCheck()
    {
        using SystemFixture f = Make(3, 0xF0, 0xF4);
        Raises(f, Vector.Ud, SystemFixture.CodeAt);
    }

    [Fact]
    public void DeviceNotAvailable_ComesBeforeFaultsOfTheOperand()
    {
        using SystemFixture f = Make(3, 0x0F, 0xAE, 0x05, 0x01, 0xA0, 0, 0); // fxsave, misaligned
        f.State->Cr0 |= Cr0.Ts;
        Raises(f, Vector.Nm, SystemFixture.CodeAt);
    }

    [Fact]
    public void SegmentLimit_ComesBeforeThePageFault()
    {
        using SystemFixture f = Make(3, 0xA1, 0x10, 0xA0, 0, 0);
        Paging(f, Data);
        f.State->Ds.Limit = 0x9FFF;
        Raises(f, Vector.Gp, SystemFixture.CodeAt, 0);
    }

    [Fact]
    public void PageFault_OfTheDivisor_ComesBeforeTheDivideError()
    {
        using SystemFixture f = Make(3, 0xF7, 0x35, 0, 0xA0, 0, 0);
        Paging(f, Data);
        Raises(f, Vector.Pf, SystemFixture.CodeAt, PageFaultError.User);
    }

    [Fact]
    public void PageFault_DuringDelivery_OfABenignEvent_IsDelivered()
    {
        using SystemFixture f = Make(3, 0x0F, 0x0B);
        f.SetVector(Vector.Ud, SystemFixture.Absent, 0xEE);
        Raises(f, Vector.Gp, SystemFixture.CodeAt, SystemFixture.Absent | 1);
    }

    // SDM "Interrupt 8 - Double Fault Exception", the table of conditions, in full.
    [Fact]
    public void DoubleFaultTable_EveryPair_IsAsInTheTable()
    {
        byte[] contributory = [Vector.De, Vector.Ts, Vector.Np, Vector.Ss, Vector.Gp, Vector.Cp];
        byte[] pageFaults = [Vector.Pf, Vector.Ve];
        for (byte first = 0; first < 32; first++)
        {
            for (byte second = 0; second < 32; second++)
            {
                bool after = contributory.Contains(second);
                bool afterPage = pageFaults.Contains(second);
                FaultCombination expected =
                    contributory.Contains(first) && after ? FaultCombination.DoubleFault
                    : pageFaults.Contains(first) && (after || afterPage) ? FaultCombination.DoubleFault
                    : first == Vector.Df && (after || afterPage) ? FaultCombination.TripleFault
                    : FaultCombination.Serial;
                Assert.Equal(expected, DoubleFaults.Combine(Of(first), Of(second)));
            }
        }

        static GuestEvent Of(byte vector) => new(vector, EventType.HardwareException, Vector.HasErrorCode(vector));
    }

    [Theory]
    [InlineData(EventType.ExternalInterrupt)]
    [InlineData(EventType.SoftwareInterrupt)]
    [InlineData(EventType.Nmi)]
    public void DoubleFaultTable_EventsThatAreNoExceptions_AreBenign(EventType type)
    {
        for (byte vector = 0; vector < 32; vector++)
        {
            GuestEvent second = new(Vector.Gp, EventType.HardwareException, true);
            Assert.Equal(FaultCombination.Serial, DoubleFaults.Combine(new GuestEvent(vector, type), second));
        }
    }

    [Fact]
    public void TripleFault_OfAFaultInTheDoubleFaultHandlersGate_ShutsDown()
    {
        using SystemFixture f = Make(3, 0xF4);
        f.SetVector(Vector.Gp, SystemFixture.Code0, 0x80);
        f.SetVector(Vector.Df, SystemFixture.Code0, 0x80);
        Assert.Equal(CpuStop.Shutdown, f.Cpu.Run());
        Assert.Equal(2UL, f.State->Activity);
    }
}
