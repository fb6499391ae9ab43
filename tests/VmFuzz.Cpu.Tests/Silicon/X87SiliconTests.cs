using System.Buffers.Binary;
using Iced.Intel;
using VmFuzz.Arch;
using VmFuzz.Cpu.Microcode;
using VmFuzz.Cpu.Tests.Integer;

namespace VmFuzz.Cpu.Tests.Silicon;

/// <summary>The x87 against the host's: registers, tags, control and status, pointers, RFLAGS and memory.</summary>
public sealed class X87SiliconTests(ITestOutputHelper output)
{
    private static readonly int CasesPerForm = Environment.GetEnvironmentVariable("VMFUZZ_LONG") == "1" ? 100_000 : 400;
    private const int CasesPerEncoding = 50;
    private const int Attempts = 3;

    [Fact]
    public void Forms_OfRandomState_AgreeWithHost()
    {
        using X87Thunk? thunk = X87Thunk.TryCreate();
        Assert.SkipWhen(thunk is null, X87Thunk.Needs);
        using var machine = new TestProcessor(model: NativeForms.WithVectors());
        var random = new SplitMix64(0x5EED_0087);
        var failures = new List<string>();
        OpCodeInfo[] forms = [.. X87Forms.All];
        long cases = 0;
        foreach (OpCodeInfo form in forms)
        {
            int failed = 0;
            for (int i = 0; i < CasesPerForm / CasesPerEncoding && failed < 3; i++)
            {
                byte[] code = X87Forms.Encode(form, ref random);
                thunk!.Load(code);
                for (int n = 0; n < CasesPerEncoding && failed < 3; n++)
                {
                    cases++;
                    if (Compare(machine, thunk, form, code, ref random) is { } difference)
                    {
                        failed++;
                        failures.Add(difference);
                    }
                }
            }
        }

        output.WriteLine($"{cases} cases of {forms.Length} forms");
        Assert.True(failures.Count == 0, $"{failures.Count} differ:\n{string.Join('\n', failures.Take(100))}");
    }

    // The host's tasks may switch in between, and where no exception is pending that loses the pointers.
    private static string? Compare(TestProcessor machine, X87Thunk thunk, OpCodeInfo form, byte[] code, ref SplitMix64 random)
    {
        SplitMix64 start = random;
        string? difference = CompareOnce(machine, thunk, form, code, ref random);
        for (int attempt = 1; attempt < Attempts && difference is not null; attempt++)
        {
            random = start;
            difference = CompareOnce(machine, thunk, form, code, ref random);
        }

        return difference;
    }

    private static string? CompareOnce(TestProcessor machine, X87Thunk thunk, OpCodeInfo form, byte[] code, ref SplitMix64 random)
    {
        Span<byte> before = stackalloc byte[X87Thunk.ImageBytes];
        Span<byte> model = stackalloc byte[X87Thunk.ImageBytes];
        Span<byte> memory = stackalloc byte[X87Thunk.WindowBytes];
        Span<byte> written = stackalloc byte[X87Thunk.WindowBytes];
        X87Forms.FillImage(before, ref random);
        X87Forms.FillMemory(form, memory, ref random);
        ulong flags = X87Forms.NextFlags(ref random);

        before.CopyTo(thunk.Before);
        memory.CopyTo(thunk.Window);
        thunk.Flags = flags;
        thunk.Run();

        machine.Rip = TestProcessor.Start;
        machine.LoadCode(TestProcessor.Start, code);
        machine.LoadCode(TestProcessor.Data, memory);
        machine[Gpr.Rax] = TestProcessor.Data;
        machine.Cpu.RFlagsValue = flags;
        FpuControl.LoadX87(machine.Cpu, before, wide: true);
        if (machine.Step(code) != ExecResult.Next)
        {
            return $"{form.Code} {Convert.ToHexString(code)}: faults";
        }

        before.CopyTo(model);
        FpuControl.StoreX87(machine.Cpu, model, wide: true);
        machine.Read(TestProcessor.Data, written);
        Span<byte> host = thunk.After;
        Rebase(host, X87Forms.InstructionAt, thunk.InstructionAddress, TestProcessor.Start);
        Rebase(host, X87Forms.DataAt, thunk.WindowAddress, TestProcessor.Data);

        if (X87Forms.LeavesConditions(form.Mnemonic))
        {
            model[X87Forms.ConditionsAt] = (byte)(model[X87Forms.ConditionsAt] & ~X87Forms.Condition1 | host[X87Forms.ConditionsAt] & X87Forms.Condition1);
        }

        // AMD's processors load and store pointers only with an exception that is pending.
        bool pointers = (Word(host, X87Forms.StatusAt) & 0x80) != 0 && !IsControl(form.Mnemonic);
        var text = new List<string>();
        for (int at = 0; at < X87Forms.RegistersEnd; at += 2)
        {
            if (IsCompared(at, pointers) && !model.Slice(at, 2).SequenceEqual(host.Slice(at, 2)))
            {
                text.Add($"+{at} model {Convert.ToHexString(model.Slice(at, 2))} host {Convert.ToHexString(host.Slice(at, 2))}");
            }
        }

        if (((thunk.Flags ^ machine.Cpu.RFlagsValue) & RFlags.Arithmetic) != 0)
        {
            text.Add($"flags model {machine.Cpu.RFlagsValue:X} host {thunk.Flags:X}");
        }

        if (!written.SequenceEqual(thunk.Window))
        {
            text.Add($"memory model {Convert.ToHexString(written)} host {Convert.ToHexString(thunk.Window)}");
        }

        return text.Count == 0 ? null
            : $"{form.Code} {Convert.ToHexString(code)} cw {Word(before, 0):X4} sw {Word(before, 2):X4} tags {before[4]:X2} memory {Convert.ToHexString(memory[..10])}"
                + $" st0 {Register(before, 0)} st1 {Register(before, 1)}\n    model sw {Word(model, 2):X4} tags {model[4]:X2} st0 {Register(model, 0)}"
                + $"\n    host  sw {Word(host, 2):X4} tags {host[4]:X2} st0 {Register(host, 0)}\n    {string.Join("; ", text)}";
    }

    // Pointers, then MXCSR, stand between the control words and the registers.
    private static bool IsCompared(int at, bool pointers) => at is < X87Forms.OpcodeAt or >= X87Forms.RegistersAt || (pointers && at < X87Forms.PointersEnd);

    private static bool IsControl(Mnemonic mnemonic) => mnemonic is Mnemonic.Fldcw or Mnemonic.Fnstcw or Mnemonic.Fnstsw or Mnemonic.Fninit or Mnemonic.Fnclex
        or Mnemonic.Fldenv or Mnemonic.Fnstenv or Mnemonic.Frstor or Mnemonic.Fnsave;

    private static void Rebase(Span<byte> image, int at, ulong from, ulong to)
    {
        ulong value = BinaryPrimitives.ReadUInt64LittleEndian(image[at..]);
        if (value >= from && value < from + 0x100)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(image[at..], value - from + to);
        }
    }

    private static ushort Word(ReadOnlySpan<byte> image, int at) => BinaryPrimitives.ReadUInt16LittleEndian(image[at..]);

    private static string Register(ReadOnlySpan<byte> image, int number)
    {
        ReadOnlySpan<byte> register = image[(X87Forms.RegistersAt + (number * 16))..];
        return $"{Word(register, 8):X4}.{BinaryPrimitives.ReadUInt64LittleEndian(register):X16}";
    }
}
