using VmFuzz.Arch;
using VmFuzz.Machines;
using VmFuzz.Replay;
using VmFuzz.Trace;

namespace VmFuzz.Benchmarks;

internal static class Guests
{
    public static MachineOptions Options(byte[] code, Accelerator accelerator) => new()
    {
        Accelerator = accelerator,
        Images = [new MachineImage("code", "benchmark", code)],
    };

    // mov rsi, n / again: xor eax, eax / cpuid / dec rsi / jnz again / hlt
    public static byte[] CpuidLoop(uint count)
    {
        byte[] code = [0x48, 0xC7, 0xC6, 0, 0, 0, 0, 0x31, 0xC0, 0x0F, 0xA2, 0x48, 0xFF, 0xCE, 0x75, 0xF7, 0xF4];
        BitConverter.TryWriteBytes(code.AsSpan(3), count);
        return code;
    }

    // cpuid, a number of times / hlt
    public static byte[] CpuidRow(int count)
    {
        byte[] code = new byte[(2 * count) + 1];
        for (int i = 0; i < count; i++)
        {
            (code[2 * i], code[(2 * i) + 1]) = (0x0F, 0xA2);
        }

        code[^1] = 0xF4;
        return code;
    }

    // mov rsi, n / again: out 0xed, al / dec rsi / jnz again / hlt
    public static byte[] OutLoop(uint count)
    {
        byte[] code = [0x48, 0xC7, 0xC6, 0, 0, 0, 0, 0xE6, 0xED, 0x48, 0xFF, 0xCE, 0x75, 0xF9, 0xF4];
        BitConverter.TryWriteBytes(code.AsSpan(3), count);
        return code;
    }

    // mov ecx, n / again: add rax, rcx / xor rax, 0x1234 / mov [0x20000+rbx*8], rax / mov rdx, [0x20000] / add rdx, rax /
    // inc ebx / and ebx, 0xff / dec ecx / jnz again / hlt
    public static byte[] ArithmeticLoop(uint count)
    {
        byte[] code =
        [
            0xB9, 0, 0, 0, 0, 0x31, 0xDB, 0x48, 0x01, 0xC8, 0x48, 0x35, 0x34, 0x12, 0x00, 0x00,
            0x48, 0x89, 0x04, 0xDD, 0x00, 0x00, 0x02, 0x00, 0x48, 0x8B, 0x14, 0x25, 0x00, 0x00, 0x02, 0x00,
            0x48, 0x01, 0xC2, 0xFF, 0xC3, 0x81, 0xE3, 0xFF, 0x00, 0x00, 0x00, 0xFF, 0xC9, 0x75, 0xD8, 0xF4,
        ];
        BitConverter.TryWriteBytes(code.AsSpan(1), count);
        return code;
    }
}

internal sealed class NoInputs : IInputSource
{
    public static NoInputs Instance { get; } = new();

    public ulong NextDue(int vcpu, ulong retired) => ulong.MaxValue;

    public ulong QuietUntil(int vcpu, ulong retired) => ulong.MaxValue;

    public bool TryTake(InputPoint point, in Position at, out Input input)
    {
        input = default;
        return false;
    }
}

internal static class Resets
{
    private const int Count = 100_000;

    /// <summary>Resets of a machine that ran once, with a number of dirty pages each time.</summary>
    public static Func<long> Create(Accelerator accelerator, int pages)
    {
        // mov [0x30000], eax / out 0xf4, al
        byte[] code = [0x89, 0x04, 0x25, 0x00, 0x00, 0x03, 0x00, 0xE6, 0xF4];
        Machine machine = Machine.Create(Guests.Options(code, accelerator), NoInputs.Instance);
        machine.Run();
        return () =>
        {
            for (int i = 0; i < Count; i++)
            {
                for (int page = 0; page < pages; page++)
                {
                    machine.Memory.PrepareWrite(0x30 + page);
                }

                machine.Reset();
            }

            return Count;
        };
    }

    /// <summary>One case of a fuzzer: a reset, 8 CPUID exits, an exit by HLT.</summary>
    public static Func<long> Cases()
    {
        Machine machine = Machine.Create(Guests.Options(Guests.CpuidRow(8), Accelerator.Kvm), NoInputs.Instance);
        return () =>
        {
            for (int i = 0; i < Count; i++)
            {
                machine.Reset();
                if (machine.Kvm!.Vcpu.Run() != 0)
                {
                    throw new InvalidOperationException("the guest did not halt");
                }
            }

            return Count;
        };
    }
}

internal static class Replays
{
    /// <summary>Records the CPUID loop once; the work is to replay it, with every event compared.</summary>
    public static Func<long> Create(ulong exits)
    {
        MachineOptions options = Guests.Options(Guests.CpuidLoop((uint)exits), Accelerator.Kvm);
        using MemoryStream trace = new();
        using (Machine machine = Machine.Create(options, NoInputs.Instance))
        {
            using Recorder recorder = new(machine, new TraceWriter(trace, TraceHeaders.Of(options, "benchmark"), leaveOpen: true));
            machine.Run();
        }

        byte[] bytes = trace.ToArray();
        return () =>
        {
            using TraceReader reader = TraceReader.Open(bytes);
            using Replayer replayer = new(reader, options);
            ReplayResult result = replayer.Run();
            return result.Outcome == ReplayOutcome.Identical ? (long)exits : throw new InvalidOperationException("the replay diverged");
        };
    }
}
