using VmFuzz.Arch;
using VmFuzz.Vmx;

namespace VmFuzz.Fuzzing.Tests;

public sealed class InputTextTests
{
    private static string Text(FuzzInput input)
    {
        var text = new StringWriter { NewLine = "\n" };
        InputText.Write(text, InputText.Describe(input));
        return text.ToString();
    }

    [Fact]
    public void Describe_Guest_ShowsCodeRegistersPatchesAndEvents()
    {
        FuzzInput input = new() { Target = FuzzTarget.GuestCode };
        input.Registers.Add(new(3, 0x1000));
        input.Code.AddRange([0x8B, 0x43, 0x08, 0x74, 0x00, 0x0F, 0xFF, 0x48]);
        input.Patches.Add(new MemoryPatch(0x2000, [.. "ABC\n"u8]));
        input.Events.Add(new(9, InputPoint.AfterRequests, InputKind.Kick, 0));
        Assert.Equal(
            """
            setup
              inputs for    guest-code
              mode          Long64
              capabilities  default
            registers at the start
              rbx  0x1000
            code
              0x10000  8b 43 08                        mov eax,[rbx+8]
              0x10003  74 00                           je short 0x10005
              0x10005  0f ff 48                        (cut off)
            memory patches
              0x00002000  41 42 43 0a                                      ABC.
            events
              9  Kick 0x0 at AfterRequests

            """,
            Text(input));
    }

    [Fact]
    public void Describe_Exits_ReadsQualificationsByReason()
    {
        FuzzInput input = new() { Target = FuzzTarget.ExitHandlers };
        input.Exits.Add(new MadeExit(
            new VmExit((uint)ExitReason.IoInstruction, new IoQualification(0x3F8, 1, isIn: true).Value, InstructionLength: 1), [new(0, 5)], [new(VmcsField.GuestRflags, 0x202)]));
        input.Exits.Add(new MadeExit(new VmExit((uint)ExitReason.ControlRegisterAccess, ControlRegisterQualification.Mov(4, Gpr.Rdx, toCr: true).Value)));
        input.Exits.Add(new MadeExit(new VmExit(
            (uint)ExitReason.EptViolation,
            EptViolationQualification.WriteBit | EptViolationQualification.LinearAddressValidBit,
            0x1000,
            0x2000,
            IdtVectoringInfo: new InterruptionInfo(InterruptionType.HardwareException, Vector.Pf, errorCodeValid: true),
            IdtVectoringError: 2)));
        Assert.Equal(
            """
            setup
              inputs for    exit-handlers
              mode          Long64
              capabilities  default
            exits
              0  IoInstruction (30)
                  qualification       0x3f80008
                      direction  in
                      port       0x3f8
                      bytes      1
                      string     no
                      rep        no
                      operand    dx
                  instruction length  0x1
                  registers
                      rax  0x5
                  guest state
                      GuestRflags  0x202 (Reserved1, If)
              1  ControlRegisterAccess (28)
                  qualification  0x204
                      access            to control register
                      control register  cr4
                      register          rdx
              2  EptViolation (48)
                  qualification             0x82
                      bits  WriteBit, LinearAddressValidBit
                  guest-linear address      0x1000
                  guest-physical address    0x2000
                  IDT vectoring             0x80000b0e (HardwareException #PF with error code)
                  IDT vectoring error code  0x2

            """,
            Text(input));
    }

    [Fact]
    public void Describe_Vmcs_ShowsOldAndNewWithNamedBits()
    {
        FuzzInput input = new() { Target = FuzzTarget.VmcsEntry };
        ulong primary = GoldenValues.Of(false)[VmcsFieldInfo.Of(VmcsField.PrimaryControls).Index];
        input.Vmcs.Add(new(VmcsField.PrimaryControls, (primary | PrimaryControls.MovDrExiting) & ~(ulong)PrimaryControls.HltExiting));
        input.Vmcs.Add(new(VmcsField.GuestActivity, 1));
        input.Capabilities.Add(new(0x485, 0));
        string text = Text(input);
        Assert.Contains("(-HltExiting, +MovDrExiting)", text, StringComparison.Ordinal);
        Assert.Contains("GuestActivity    0x0 -> 0x1 (Active -> Hlt)", text, StringComparison.Ordinal);
        Assert.Matches("0x485  0x[0-9a-f]+ -> 0x0 \\(misc\\)", text);
    }

    [Theory]
    [InlineData(Machines.FlatMode.Real16, "mov al,0x12")]
    [InlineData(Machines.FlatMode.Protected32, "inc eax")]
    [InlineData(Machines.FlatMode.Long64, "add rax,rcx")]
    public void Describe_Code_FollowsTheMode(Machines.FlatMode mode, string expected)
    {
        FuzzInput input = new() { Target = FuzzTarget.GuestCode, Mode = mode };
        input.Code.AddRange([0xB0, 0x12, 0x40, 0x90, 0x48, 0x01, 0xC8]);
        Assert.Contains(expected, Text(input), StringComparison.Ordinal);
    }

    [Fact]
    public void Describe_AnyBytes_IsAlwaysWholeLinesWithoutControlCharacters()
    {
        var random = new Replay.SplitMix(1);
        byte[] encoding = FuzzCodec.Encode(Samples.Full());
        for (int i = 0; i < 300; i++)
        {
            string text = Text(FuzzCodec.Decode(Samples.Bytes(random, encoding)));
            Assert.StartsWith("setup\n", text, StringComparison.Ordinal);
            Assert.DoesNotContain(text, static c => char.IsControl(c) && c != '\n');
        }
    }

    [Fact]
    public void Describe_EveryReasonWithAllBitsSet_HasAName()
    {
        FuzzInput input = new() { Target = FuzzTarget.ExitHandlers };
        input.Exits.AddRange(Enum.GetValues<ExitReason>().Select(static r => new MadeExit(new VmExit((uint)r, ulong.MaxValue, InstructionInfo: uint.MaxValue))));
        InputSection exits = InputText.Describe(input)[1];
        Assert.Equal(Enum.GetValues<ExitReason>().Length, exits.Facts.Length);
        Assert.All(exits.Facts, static f => Assert.Contains(f.Parts, static p => p.Name == "qualification"));
    }

    [Fact]
    public void FieldMeaning_Rows_NameAFieldOnce()
    {
        VmcsField[] fields = [.. FieldMeaning.All.SelectMany(static r => r.Fields)];
        Assert.Equal(fields.Length, fields.Distinct().Count());
    }

    [Fact]
    public void Report_OfAFinding_SaysWhatBrokeTheRuleItsSourceAndTheCommand()
    {
        EntryCheck check = EntryChecks.Default.Rows[0];
        Finding finding = new()
        {
            Violation = new("privilege.entry", check.Id, "the entry was let through"),
            State = FindingState.Confirmed,
            Campaign = new("vmcs-entry", "", "worker01", 2, new("0.1.0", 1, 0xABC, []), ["my plug-in.dll"]),
            Execution = 7,
            Digest = 0x12,
            Bytes = 10,
            OriginalBytes = 20,
            Trace = true,
        };
        var text = new StringWriter { NewLine = "\n" };
        FindingReport.Write(text, finding, new FuzzInput(), "a b");
        Assert.StartsWith(
            $"""
            privilege.entry@{check.Id}
              what broke  the entry was let through
              where       {check.Id}
              oracle      privilege.entry: a check of privilege, mode, reserved bits or canonical form was missed
              source      SDM "{check.Section}"
              state       confirmed
              target      vmcs-entry
              found       execution 7, seed 0x2, worker01
              engine      0.1.0, semantics 1, rows 0xabc
              size        10 bytes of 20, 0 exits, 0 instructions
              digest      0x0000000000000012
              reproduce   vmfuzz reproduce 'a b' --plugin 'my plug-in.dll'
              replay      vmfuzz replay 'a b/trace.vmtrace' --plugin 'my plug-in.dll' --check
            setup

            """,
            text.ToString(),
            StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(10UL, "Cpuid")]
    [InlineData(0x8000_0029UL, "EntryFailureMachineCheck, entry failed")]
    [InlineData(0x8000_0000UL, "VMfail")]
    public void Exit_Reasons_HaveNames(ulong reason, string name) => Assert.Equal(name, ArchitectureNames.Exit(reason));
}
