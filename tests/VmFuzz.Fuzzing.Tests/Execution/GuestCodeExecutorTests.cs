using VmFuzz.Arch;
using VmFuzz.Kvm;
using VmFuzz.Machines;

namespace VmFuzz.Fuzzing.Tests;

public sealed class GuestCodeExecutorTests
{
    [Theory]
    [InlineData(FlatMode.Real16)]
    [InlineData(FlatMode.Protected32)]
    [InlineData(FlatMode.Long64)]
    public void Run_OfAPlainProgram_BreaksNothingAndCounts(FlatMode mode)
    {
        using var executor = new GuestCodeExecutor(MachineVariants.None);
        Execution execution = executor.Run(Program(mode, "0FA290FAF4"));
        Assert.Null(execution.Violation);
        Assert.Equal(4UL, execution.Instructions);
        Assert.True(execution.Exits >= 2);
        Assert.NotEmpty(executor.Features.Touched.ToArray());
        Assert.Null(executor.RunDeep(Program(mode, "0FA290FAF4")));
    }

    [Fact]
    public void Run_Twice_HasOneDigest()
    {
        using var executor = new GuestCodeExecutor(MachineVariants.None);
        FuzzInput input = Program(FlatMode.Long64, "0FA2480FC7F00F0BF4");
        executor.Run(input);
        ulong first = executor.Digest();
        executor.Run(Program(FlatMode.Long64, "48FFC0F4"));
        Assert.NotEqual(first, executor.Digest());
        executor.Run(input);
        Assert.Equal(first, executor.Digest());
    }

    [Fact]
    public void Run_ThatFailsBehindAnIoExit_ShowsNothingOfTheRunBefore()
    {
        // CPUID, and the host has no memory at the next look of the run path.
        FuzzInput fails = Program(FlatMode.Long64, "0FA20FA2F4");
        fails.Events.Add(new(0, InputPoint.Reschedule, InputKind.AllocationFailure, 0));
        fails.Normalise();
        using var fresh = new GuestCodeExecutor(MachineVariants.None);
        fresh.Run(fails);
        using var used = new GuestCodeExecutor(MachineVariants.None);
        used.Run(Program(FlatMode.Long64, "E471F4"));
        used.Run(fails);
        Assert.Equal(fresh.Features.Touched.ToArray(), used.Features.Touched.ToArray());
    }

    [Fact]
    public void RunDeep_InterruptAndNmiForAHaltedGuest_WakeItOneByOne()
    {
        // sti / hlt, in real mode.
        FuzzInput input = Program(FlatMode.Real16, "FBF4");
        input.Events.Add(new(32, InputPoint.Boundary, InputKind.Interrupt, 0xD1));
        input.Events.Add(new(40, InputPoint.Boundary, InputKind.Nmi, 0));
        input.Normalise();
        using var executor = new GuestCodeExecutor(MachineVariants.None);
        Assert.Null(executor.Run(input).Violation);
        Assert.Null(executor.RunDeep(input)?.ToString());
    }

    [Fact]
    public void RunDeep_InterruptAndNmiAtOnce_MayComeInEitherOrder()
    {
        FuzzInput input = Program(FlatMode.Long64, "909090909090F4");
        input.Registers.Add(new(17, 0x202));
        input.Events.Add(new(4, InputPoint.Boundary, InputKind.Nmi, 0));
        input.Events.Add(new(4, InputPoint.Boundary, InputKind.Interrupt, 0xAF));
        input.Normalise();
        using var executor = new GuestCodeExecutor(MachineVariants.None);
        Assert.Null(executor.Run(input).Violation);
        Assert.Null(executor.RunDeep(input)?.ToString());
    }

    [Fact]
    public void Run_HandlerThatFaultsAtItsFirstInstruction_Ends()
    {
        // mov word [0x18], 12 / mov word [0x1a], 0x1000 / ud2: its own handler.
        FuzzInput input = Program(FlatMode.Real16, "C70618000C00C7061A0000100F0B");
        using var executor = new GuestCodeExecutor(MachineVariants.None);
        Execution ran = executor.Run(input);
        Assert.Null(ran.Violation);
        Assert.Equal(2UL, ran.Instructions);
        Assert.Null(executor.RunDeep(input)?.ToString());
    }

    [Fact]
    public void Run_WithCodeSelectorOfLevel3_StartsAtCpl3()
    {
        using var executor = new GuestCodeExecutor(MachineVariants.None);

        // CLI at CPL 3 raises #GP, whose handler goes on 16 bytes on: nothing but exceptions until the limit.
        FuzzInput input = Program(FlatMode.Long64, "FAF4");
        Assert.Equal(2UL, executor.Run(input).Instructions);
        input.Registers.Add(new(36, 3));
        Assert.True(executor.Run(input).Instructions > 100);
    }

    [Fact]
    public void Run_WithAHandlerThatThrows_IsACrashAtIt()
    {
        using var executor = new GuestCodeExecutor(With(ExitReason.Cpuid, static (Vcpu _, in Vmx.VmExit _) => throw new InvalidOperationException("planted")));
        FuzzInput input = Program(FlatMode.Long64, "0FA2F4");
        Violation? violation = executor.Run(input).Violation;
        Assert.NotNull(violation);
        Assert.Equal("crash.exception", violation.Oracle);
        Assert.StartsWith("InvalidOperationException:", violation.Where, StringComparison.Ordinal);
        Assert.Null(executor.Run(Program(FlatMode.Long64, "90F4")).Violation);
        Assert.Equal(violation.Key, executor.RunDeep(input)?.Key);
    }

    [Fact]
    public void Run_WithAHandlerThatNeverCompletes_MakesNoProgress()
    {
        using var executor = new GuestCodeExecutor(With(ExitReason.Cpuid, static (Vcpu _, in Vmx.VmExit _) => ExitOutcome.Resume));
        Assert.Equal("guest-kill.no-progress@Cpuid", executor.Run(Program(FlatMode.Long64, "0FA2F4")).Violation?.Key);
    }

    [Fact]
    public void Run_WithoutAHandler_KillsTheGuest()
    {
        MachineVariants variants = MachineVariants.None with { Kvm = static o => o with { Exits = o.Exits.Without(ExitReason.Cpuid) } };
        using var executor = new GuestCodeExecutor(variants);
        Assert.Equal("guest-kill.unknown-exit@Cpuid", executor.Run(Program(FlatMode.Long64, "0FA2F4")).Violation?.Key);
    }

    [Fact]
    public void RunDeep_WithAWrongHandler_NamesTheInstruction()
    {
        using var executor = new GuestCodeExecutor(With(ExitReason.Cpuid, static (Vcpu vcpu, in Vmx.VmExit _) =>
        {
            vcpu.Rax = 5;
            return ExitOutcome.RetireInstruction;
        }));
        Assert.Equal("equivalence.bare@cpuid:gpr", executor.RunDeep(Program(FlatMode.Long64, "90900FA29090F4"))?.Key);
    }

    internal static FuzzInput Program(FlatMode mode, string code)
    {
        FuzzInput input = new() { Target = FuzzTarget.GuestCode, Mode = mode };
        input.Code.AddRange(Convert.FromHexString(code));
        input.Normalise();
        return input;
    }

    private static MachineVariants With(ExitReason reason, ExitHandler handler) =>
        MachineVariants.None with { Kvm = o => o with { Exits = o.Exits.With(reason, handler) } };
}
