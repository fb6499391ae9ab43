using VmFuzz.Arch;

namespace VmFuzz.Cpu.Tests;

/// <summary>Breakpoints and stepping, the same on every way to execute code.</summary>
public sealed unsafe class SystemDebugTests
{
    private const ulong Data = 0xA000;
    private const ulong Fixed6 = 0xFFFF_0FF0;
    private const ulong Step = 1 << 14;

    /// <summary>A way to execute: reference only, loop dispatch, and whether the code ran before.</summary>
    public enum Tier
    {
        Reference,
        Loop,
        Cold,
        Warm,
    }

    public static TheoryData<Tier> Tiers => [Tier.Reference, Tier.Loop, Tier.Cold, Tier.Warm];

    // Breakpoint 0 on, with a type and the encoding of a length.
    private static ulong Enable(int type, int length = 0) => 0x400UL | 1 | ((ulong)type << 16) | ((ulong)length << 18);

    private static void Put(SystemFixture f, ulong at, params ReadOnlySpan<byte> code)
    {
        for (int i = 0; i < code.Length; i++)
        {
            f.Write(at + (ulong)i, 1, code[i]);
        }
    }

    // Runs to the HLT of the #DB handler or to that of the code.
    private static SystemFixture Make(Tier tier, params ReadOnlySpan<byte> code)
    {
        SystemFixture f = new SystemFixture().Protected32();
        f.Cpu.ReferenceOnly = tier == Tier.Reference;
        f.Cpu.LoopThreading = tier == Tier.Loop;
        f.SetVector(Vector.Db, SystemFixture.Code0);
        Put(f, SystemFixture.HandlerAt, 0xF4);
        Put(f, SystemFixture.CodeAt, code);
        if (tier == Tier.Warm)
        {
            ulong rcx = f.Cpu[Gpr.Rcx];
            for (int i = 0; i < 3; i++)
            {
                f.Cpu[Gpr.Rcx] = 2;
                f.Cpu.Run();
                f.State->Activity = 0;
                f.Cpu.Rip = SystemFixture.CodeAt;
                f.Cpu[Gpr.Rsp] = SystemFixture.Stack;
            }

            f.Cpu[Gpr.Rcx] = rcx;
            f.Write(Data, 8, 0);
            f.BusLog.Clear();
        }

        return f;
    }

    private static void Arm(SystemFixture f, ulong address, ulong dr7)
    {
        f.State->Dr0 = address;
        f.State->Dr7 = dr7;
        f.Cpu.StateChanged();
    }

    private static void Traps(SystemFixture f, ulong rip, ulong causes)
    {
        Assert.Equal(CpuStop.Halted, f.Cpu.Run());
        Assert.Equal((SystemFixture.HandlerAt + 1, Fixed6 | causes), (f.Cpu.Rip, f.State->Dr6));
        Assert.Equal(rip, f.OnStack(0, 4));
    }

    private static void RunsThrough(SystemFixture f)
    {
        Assert.Equal(CpuStop.Halted, f.Cpu.Run());
        Assert.NotEqual(SystemFixture.HandlerAt + 1, f.Cpu.Rip);
        Assert.Equal((Fixed6, 0UL), (f.State->Dr6, f.State->PendingDebug));
    }

    // inc eax; inc edx; inc ebx; hlt
    private static readonly byte[] Increments = [0x40, 0x42, 0x43, 0xF4];

    // mov [0xA000], eax; mov edx, [0xA000]; hlt
    private static readonly byte[] StoreAndLoad = [0xA3, 0, 0xA0, 0, 0, 0x8B, 0x15, 0, 0xA0, 0, 0, 0xF4];

    [Theory]
    [MemberData(nameof(Tiers))]
    public void InstructionBreakpoint_FaultsBeforeIt(Tier tier)
    {
        using SystemFixture f = Make(tier, Increments);
        ulong edx = f.Cpu[Gpr.Rdx];
        Arm(f, SystemFixture.CodeAt + 1, Enable(0));
        Traps(f, SystemFixture.CodeAt + 1, 1);
        Assert.Equal((edx, 0UL), (f.Cpu[Gpr.Rdx], f.OnStack(2, 4) & RFlags.Rf));
    }

    [Theory]
    [MemberData(nameof(Tiers))]
    public void InstructionBreakpoint_InsideAnInstruction_DoesNotHit(Tier tier)
    {
        using SystemFixture f = Make(tier, StoreAndLoad);
        Arm(f, SystemFixture.CodeAt + 1, Enable(0));
        RunsThrough(f);
    }

    [Theory]
    [MemberData(nameof(Tiers))]
    public void InstructionBreakpoint_UnderRf_IsPassedOnce(Tier tier)
    {
        // inc eax; jmp to it
        using SystemFixture f = Make(tier == Tier.Warm ? Tier.Cold : tier, 0x40, 0xEB, 0xFD);
        ulong eax = f.Cpu[Gpr.Rax];
        f.Cpu.RFlagsValue = RFlags.Rf;
        Arm(f, SystemFixture.CodeAt, Enable(0));
        Traps(f, SystemFixture.CodeAt, 1);
        Assert.Equal(eax + 1, f.Cpu[Gpr.Rax]);
    }

    [Theory]
    [MemberData(nameof(Tiers))]
    public void InstructionBreakpoint_UnderRf_IsPassedByAllIterations(Tier tier)
    {
        // rep stosb; hlt
        using SystemFixture f = Make(tier, 0xF3, 0xAA, 0xF4);
        f.Cpu[Gpr.Rdi] = Data;
        f.Cpu[Gpr.Rcx] = 5;
        f.Cpu.RFlagsValue = RFlags.Rf;
        Arm(f, SystemFixture.CodeAt, Enable(0));
        RunsThrough(f);
        Assert.Equal((0UL, 0UL), (f.Cpu[Gpr.Rcx], f.Cpu.RFlagsValue & RFlags.Rf));
    }

    [Fact]
    public void SingleStep_HeldBackByMovSs_IsLostToAFault()
    {
        // mov ss, ax; ud2. The handler of #UD is an INC EDX and a HLT, that of #DB a HLT.
        using SystemFixture f = Make(Tier.Cold, 0x8E, 0xD0, 0x0F, 0x0B);
        f.SetVector(Vector.Ud, SystemFixture.Code0, offset: 0x9100);
        Put(f, 0x9100, 0x42, 0xF4);
        f.Cpu[Gpr.Rax] = SystemFixture.Data0;
        ulong edx = f.Cpu[Gpr.Rdx];
        f.Cpu.RFlagsValue = RFlags.Tf;
        Assert.Equal(CpuStop.Halted, f.Cpu.Run());
        Assert.Equal((0x9102UL, edx + 1), (f.Cpu.Rip, f.Cpu[Gpr.Rdx]));
        Assert.Equal((Fixed6, 0UL), (f.State->Dr6, f.State->PendingDebug));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Iret_UnderRf_EndsIt_UnlessItLoadsAnother(bool wide)
    {
        // iret of 16 bits; iretd. Both return to an INC EDX with a breakpoint.
        byte[] code = wide ? [0xCF] : [0x66, 0xCF];
        using SystemFixture f = Make(Tier.Cold, code);
        Put(f, SystemFixture.CodeAt + 0x10, 0x42, 0xF4);
        ulong edx = f.Cpu[Gpr.Rdx];
        f.PushAll(wide ? 4 : 2, RFlags.Rf | 2, SystemFixture.Code0, SystemFixture.CodeAt + 0x10);
        f.Cpu.RFlagsValue = RFlags.Rf;
        Arm(f, SystemFixture.CodeAt + 0x10, Enable(0));
        if (wide)
        {
            RunsThrough(f);
        }
        else
        {
            Traps(f, SystemFixture.CodeAt + 0x10, 1);
        }

        Assert.Equal(edx + (wide ? 1UL : 0), f.Cpu[Gpr.Rdx]);
    }

    public static TheoryData<Tier, int, bool> Iterations => new(
        from tier in Enum.GetValues<Tier>()
        from row in new (int, bool)[] { (0, true), (1, true), (2, false) }
        select (tier, row.Item1, row.Item2));

    [Theory]
    [MemberData(nameof(Iterations))]
    public void DataBreakpoint_BetweenIterations_PushesRf(Tier tier, int iteration, bool rf)
    {
        // rep stosb; hlt
        using SystemFixture f = Make(tier, 0xF3, 0xAA, 0xF4);
        f.Cpu[Gpr.Rdi] = Data;
        f.Cpu[Gpr.Rcx] = 3;
        Arm(f, Data + (ulong)iteration, Enable(1));
        Traps(f, rf ? SystemFixture.CodeAt : SystemFixture.CodeAt + 2, 1);
        Assert.Equal(rf ? RFlags.Rf : 0, f.OnStack(2, 4) & RFlags.Rf);
        Assert.Equal((2UL - (ulong)iteration, 0UL), (f.Cpu[Gpr.Rcx], f.Cpu.RFlagsValue & RFlags.Rf));
    }

    [Theory]
    [MemberData(nameof(Tiers))]
    public void SingleStep_BetweenIterations_PushesRf(Tier tier)
    {
        // rep stosb; hlt
        using SystemFixture f = Make(tier, 0xF3, 0xAA, 0xF4);
        f.Cpu[Gpr.Rdi] = Data;
        f.Cpu[Gpr.Rcx] = 2;
        f.Cpu.RFlagsValue = RFlags.Tf;
        Traps(f, SystemFixture.CodeAt, Step);
        Assert.Equal(RFlags.Rf | RFlags.Tf, f.OnStack(2, 4) & (RFlags.Rf | RFlags.Tf));

        // As the handler's IRET would go on.
        f.State->Activity = 0;
        f.Cpu.Rip = SystemFixture.CodeAt;
        f.Cpu[Gpr.Rsp] = SystemFixture.Stack;
        f.Cpu.RFlagsValue = RFlags.Tf | RFlags.Rf;
        Traps(f, SystemFixture.CodeAt + 2, Step);
        Assert.Equal(RFlags.Tf, f.OnStack(2, 4) & (RFlags.Rf | RFlags.Tf));
    }

    [Fact]
    public void InstructionBreakpoint_BehindMovSs_IsHeldBack()
    {
        // mov ss, ax; inc edx; hlt
        using SystemFixture f = Make(Tier.Cold, 0x8E, 0xD0, 0x42, 0xF4);
        f.Cpu[Gpr.Rax] = SystemFixture.Data0;
        Arm(f, SystemFixture.CodeAt + 2, Enable(0));
        RunsThrough(f);
    }

    [Fact]
    public void InstructionBreakpoint_OnAnotherPageWithSameBlocks_StillHits()
    {
        // At 0x8FFE: jmp to 0xB000. There: inc eax; hlt. Run once so that the link is made.
        using SystemFixture f = Make(Tier.Cold);
        Put(f, 0x8000, 0xE9, 0xFB, 0x2F, 0, 0);
        Put(f, 0xB000, 0x40, 0xF4);
        for (int i = 0; i < 3; i++)
        {
            f.Cpu.Rip = 0x8000;
            f.Cpu.Run();
            f.State->Activity = 0;
        }

        f.Cpu.Rip = 0x8000;
        Arm(f, 0xB000, Enable(0));
        Traps(f, 0xB000, 1);
    }

    [Theory]
    [MemberData(nameof(Tiers))]
    public void WriteBreakpoint_TrapsBehindTheStore(Tier tier)
    {
        using SystemFixture f = Make(tier, StoreAndLoad);
        f.Cpu[Gpr.Rax] = 0x1234_5678;
        Arm(f, Data + 3, Enable(1));
        Traps(f, SystemFixture.CodeAt + 5, 1);
        Assert.Equal((0x1234_5678UL, 0UL), (f.Read(Data, 4), f.State->PendingDebug));
    }

    [Theory]
    [MemberData(nameof(Tiers))]
    public void WriteBreakpoint_OnALoad_DoesNotHit(Tier tier)
    {
        using SystemFixture f = Make(tier, StoreAndLoad.AsSpan(5));
        Arm(f, Data, Enable(1, 3));
        RunsThrough(f);
    }

    [Theory]
    [MemberData(nameof(Tiers))]
    public void AccessBreakpoint_TrapsBehindTheLoad(Tier tier)
    {
        using SystemFixture f = Make(tier, StoreAndLoad.AsSpan(5));
        Arm(f, Data, Enable(3, 3));
        Traps(f, SystemFixture.CodeAt + 6, 1);
    }

    [Theory]
    [InlineData(0, 3, false)]
    [InlineData(0, 4, true)]
    [InlineData(1, 3, false)]
    [InlineData(1, 5, true)]
    [InlineData(3, 3, false)]
    [InlineData(3, 7, true)] // aligned down to 4
    [InlineData(3, 8, false)]
    [InlineData(2, 15, true)] // eight bytes at 8
    [InlineData(2, 7, true)] // eight bytes at 0
    [InlineData(2, 16, false)]
    public void DataBreakpoint_OfALength_CoversItsAlignedRange(int length, int offset, bool hits)
    {
        // mov [0xA004], eax; mov [0xA008], eax; hlt: the second store for lengths of eight bytes only.
        using SystemFixture f = Make(Tier.Cold, 0xA3, 4, 0xA0, 0, 0, 0xA3, 8, 0xA0, 0, 0, 0xF4);
        if (length != 2)
        {
            Put(f, SystemFixture.CodeAt + 5, 0x90, 0x90, 0x90, 0x90, 0x90);
        }

        Arm(f, Data + (ulong)offset, Enable(1, length));
        if (hits)
        {
            Traps(f, SystemFixture.CodeAt + (offset > 7 ? 10UL : 5UL), 1);
        }
        else
        {
            RunsThrough(f);
        }
    }

    [Fact]
    public void DataBreakpoint_OnAFaultingInstruction_DoesNotTrap()
    {
        // pushes the watched word, but the stack faults
        using SystemFixture f = Make(Tier.Cold, 0xFF, 0x35, 0, 0xA0, 0, 0, 0xF4);
        Put(f, 0x9100, 0xF4);
        f.SetVector(Vector.Ss, SystemFixture.Code0, offset: 0x9100);
        f.SetVector(Vector.Df, SystemFixture.Code0, offset: 0x9100);
        f.State->Ss.Limit = 0x6FFF;
        f.Cpu[Gpr.Rsp] = 0x7004;
        Arm(f, Data, Enable(3));
        f.State->Ss.Limit = 0x6FFF;
        Assert.Equal(CpuStop.Shutdown, f.Cpu.Run());
        Assert.Equal((Fixed6, 0UL), (f.State->Dr6, f.State->PendingDebug));
    }

    [Theory]
    [MemberData(nameof(Tiers))]
    public void DataBreakpoint_InARepetition_TrapsBehindTheIteration(Tier tier)
    {
        // rep stosb; hlt
        using SystemFixture f = Make(tier, 0xF3, 0xAA, 0xF4);
        f.Cpu[Gpr.Rdi] = Data;
        f.Cpu[Gpr.Rcx] = 8;
        Arm(f, Data + 2, Enable(1));
        Traps(f, SystemFixture.CodeAt, 1);
        Assert.Equal((5UL, Data + 3), (f.Cpu[Gpr.Rcx], f.Cpu[Gpr.Rdi]));
    }

    [Fact]
    public void DataBreakpoint_UnderMovSs_WaitsForTheNextInstruction()
    {
        // mov ss, [0xA000]; inc edx; inc ebx; hlt
        using SystemFixture f = Make(Tier.Cold, 0x8E, 0x15, 0, 0xA0, 0, 0, 0x42, 0x43, 0xF4);
        f.Write(Data, 2, SystemFixture.Data0);
        Arm(f, Data, Enable(3));
        Traps(f, SystemFixture.CodeAt + 7, 1);
        Assert.Equal((1UL, 0UL), (f.Cpu[Gpr.Rdx] - 0x306C3, f.Cpu[Gpr.Rbx]));
    }

    [Fact]
    public void DataBreakpoint_OnTheStackOfAnInterrupt_TrapsInItsHandler()
    {
        // int 0x30; its handler is inc edx; hlt
        using SystemFixture f = Make(Tier.Cold, 0xCD, 0x30, 0xF4);
        Put(f, 0x9100, 0x42, 0xF4);
        f.SetVector(0x30, SystemFixture.Code0, offset: 0x9100);
        Arm(f, SystemFixture.Stack - 4, Enable(1));
        Traps(f, 0x9100, 1);
    }

    [Fact]
    public void TwoBreakpoints_OfOneInstruction_AreReportedTogether()
    {
        using SystemFixture f = Make(Tier.Cold, StoreAndLoad);
        f.State->Dr3 = Data + 1;
        Arm(f, Data, Enable(1) | (2UL << 6) | (1UL << 28));
        Traps(f, SystemFixture.CodeAt + 5, 9);
    }

    [Fact]
    public void Breakpoint_WithStep_IsReportedTogether()
    {
        using SystemFixture f = Make(Tier.Cold, StoreAndLoad);
        f.Cpu.RFlagsValue = RFlags.Tf;
        Arm(f, Data, Enable(1));
        Traps(f, SystemFixture.CodeAt + 5, 1 | Step);
    }

    [Theory]
    [MemberData(nameof(Tiers))]
    public void IoBreakpoint_WithDe_TrapsBehindTheInstruction(Tier tier)
    {
        // out 0x61, eax; in al, 0x70; hlt
        using SystemFixture f = Make(tier, 0xE7, 0x61, 0xE4, 0x70, 0xF4);
        f.State->Cr4 |= Cr4.De;
        Arm(f, 0x64, Enable(2));
        Traps(f, SystemFixture.CodeAt + 2, 1);
        Assert.Equal(["out 61 4 " + f.Cpu[Gpr.Rax].ToString("x", null)], f.BusLog);
    }

    [Fact]
    public void IoBreakpoint_OnIn_Traps()
    {
        using SystemFixture f = Make(Tier.Cold, 0xE4, 0x70, 0xF4);
        f.State->Cr4 |= Cr4.De;
        Arm(f, 0x70, Enable(2));
        Traps(f, SystemFixture.CodeAt + 2, 1);
    }

    [Fact]
    public void IoBreakpoint_WithoutDe_DoesNotHit()
    {
        using SystemFixture f = Make(Tier.Cold, 0xE4, 0x70, 0xF4);
        Arm(f, 0x70, Enable(2));
        RunsThrough(f);
    }

    [Fact]
    public void IoBreakpoint_OnMemory_DoesNotHit()
    {
        using SystemFixture f = Make(Tier.Cold, StoreAndLoad);
        f.State->Cr4 |= Cr4.De;
        Arm(f, Data, Enable(2, 3));
        RunsThrough(f);
    }

    [Theory]
    [InlineData(0x400, false)]
    [InlineData(0x700, false)] // LE and GE alone
    [InlineData(0x401, true)]
    [InlineData(0x402, true)]
    [InlineData(0x404, false)] // breakpoint 1, elsewhere
    public void Breakpoint_NeedsItsEnableBit(ulong dr7, bool hits)
    {
        using SystemFixture f = Make(Tier.Cold, Increments);
        Arm(f, SystemFixture.CodeAt + 1, dr7);
        if (hits)
        {
            Traps(f, SystemFixture.CodeAt + 1, 1);
        }
        else
        {
            RunsThrough(f);
        }
    }

    [Theory]
    [MemberData(nameof(Tiers))]
    public void Breakpoint_EnabledByTheGuest_HitsAtOnce(Tier tier)
    {
        // Two loops over a store with the breakpoint off, then on:
        // mov [0xA000], eax; dec ecx; jnz back; mov dr7, esi; inc ecx; jmp back
        using SystemFixture f = Make(
            tier == Tier.Warm ? Tier.Cold : tier, 0xA3, 0, 0xA0, 0, 0, 0x49, 0x75, 0xF8, 0x0F, 0x23, 0xFE, 0x41, 0xEB, 0xF2);
        f.Cpu[Gpr.Rcx] = 1000;
        f.Cpu[Gpr.Rsi] = Enable(1, 3);
        f.State->Dr0 = Data;
        Traps(f, SystemFixture.CodeAt + 5, 1);
        Assert.Equal((1UL, (1000 * 3) + 5UL), (f.Cpu[Gpr.Rcx], f.Cpu.Retired));
    }

    [Fact]
    public void Breakpoint_Disabled_IsForgotten()
    {
        using SystemFixture f = Make(Tier.Cold, StoreAndLoad);
        Arm(f, Data, Enable(1));
        Arm(f, Data, 0x400);
        RunsThrough(f);
    }

    [Fact]
    public void SingleStep_TrapsBehindEachInstruction()
    {
        using SystemFixture f = Make(Tier.Cold, Increments);
        f.Cpu.RFlagsValue = RFlags.Tf;
        Traps(f, SystemFixture.CodeAt + 1, Step);
        Assert.Equal(RFlags.Tf, f.OnStack(2, 4) & RFlags.Tf);
    }

    [Theory]
    [InlineData(1, 0x8006)] // taken
    [InlineData(0, 0x8007)] // not taken: the jump behind it is
    public void SingleStep_OnBranches_TrapsBehindATakenBranch(ulong zero, ulong target)
    {
        // nop; jz +3; jmp +2; nop; nop; hlt; hlt
        using SystemFixture f = Make(Tier.Cold, 0x90, 0x74, 0x03, 0xEB, 0x02, 0x90, 0x90, 0xF4, 0xF4);
        f.Cpu.RFlagsValue = RFlags.Tf | (zero != 0 ? RFlags.Zf : 0);
        f.State->DebugCtl = 2;
        Traps(f, target, Step);
        Assert.Equal(0UL, f.State->DebugCtl);
    }

    [Theory]
    [InlineData(4)]
    [InlineData(5)]
    public void Dr4AndDr5_WithoutDe_AreAliases(int register)
    {
        using SystemFixture f = Make(Tier.Cold);
        f.State->Dr6 = Fixed6 | 3;
        f.State->Dr7 = 0x455;
        f.Completes(0x0F, 0x21, (byte)(0xC0 | (register << 3)));
        Assert.Equal(register == 4 ? Fixed6 | 3 : 0x455UL, f.Cpu[Gpr.Rax]);
        f.State->Cr4 |= Cr4.De;
        f.Faults(Vector.Ud, 0, 0x0F, 0x21, (byte)(0xC0 | (register << 3)));
    }

    [Theory]
    [InlineData(0x21)]
    [InlineData(0x23)]
    public void GeneralDetect_FaultsOnDebugRegisterAccess_AndIsCleared(int opcode)
    {
        using SystemFixture f = Make(Tier.Cold, 0x0F, (byte)opcode, 0xC0, 0xF4);
        Arm(f, 0, 0x400 | (1 << 13));
        Traps(f, SystemFixture.CodeAt, 1 << 13);
        Assert.Equal((0x400UL, RFlags.Rf), (f.State->Dr7, f.OnStack(2, 4) & RFlags.Rf));
    }

    [Fact]
    public void PendingBreakpoint_OfAVmEntry_IsDelivered()
    {
        using SystemFixture f = Make(Tier.Cold, Increments);
        f.State->PendingDebug = PendingDebugExceptions.EnabledBreakpoint | 4;
        Traps(f, SystemFixture.CodeAt, 4);
    }

    [Fact]
    public void PendingBreakpoint_ThatIsNotEnabled_IsNotDelivered()
    {
        using SystemFixture f = Make(Tier.Cold, Increments);
        f.State->PendingDebug = 4;
        Assert.Equal(CpuStop.Halted, f.Cpu.Run());
        Assert.Equal(SystemFixture.CodeAt + 4, f.Cpu.Rip);
    }

    // INT n under the shadow of MOV SS and its held trap; there is no IDT.
    [Fact]
    public void Shutdown_UnderAShadow_EndsItAndTheTrapsThatWait()
    {
        using SystemFixture f = Make(Tier.Cold, 0x8E, 0xD0, 0xCD, 0x40);
        f.Cpu[Gpr.Rax] = SystemFixture.Data0;
        f.Cpu.RFlagsValue |= RFlags.Tf;
        f.State->Idtr.Limit = 0;
        Assert.Equal(CpuStop.Shutdown, f.Cpu.Run());
        Assert.Equal((SystemFixture.CodeAt + 2, 0UL, 0UL), (f.Cpu.Rip, f.State->Interruptibility, f.State->PendingDebug));
    }

    [Fact]
    public void InstructionBreakpoint_ComesBeforeThePageFaultOfItsFetch()
    {
        using SystemFixture f = Make(Tier.Cold);
        f.Cpu.Rip = 0x400000;
        f.State->Cs.Limit = 0x3FFFFF;
        Arm(f, 0x400000, Enable(0));
        Traps(f, 0x400000, 1);
    }
}
