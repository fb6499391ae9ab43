using VmFuzz.Arch;
using VmFuzz.Machines;
using VmFuzz.Replay;
using VmFuzz.Trace;

namespace VmFuzz.Replay.Tests;

/// <summary>A short recording with inputs of several kinds.</summary>
internal static class SmallTrace
{
    // mov ecx,3; again: rdrand rax; out 0xe9,al; mov dx,0x3fd; in al,dx; loop again; hlt
    private static readonly byte[] Code =
        [0xB9, 3, 0, 0, 0, 0x48, 0x0F, 0xC7, 0xF0, 0xE6, 0xE9, 0x66, 0xBA, 0xFD, 0x03, 0xEC, 0xE2, 0xF3, 0xF4];

    public static byte[] Record(Accelerator accelerator)
    {
        var options = new MachineOptions { Accelerator = accelerator, Images = [new MachineImage("code", "small", Code)] };
        using var stream = new MemoryStream();
        using (Machine machine = Machine.Create(options, new Script()))
        {
            using var recorder = new Recorder(machine, new TraceWriter(stream, TraceHeaders.Of(options, "test"), leaveOpen: true));
            Assert.Equal(MachineStopKind.Halted, machine.Run().Kind);
        }

        return stream.ToArray();
    }

    public static ReplayResult Replay(ReadOnlyMemory<byte> trace)
    {
        using TraceReader reader = TraceReader.Open(trace);
        Assert.Null(TraceHeaders.TryOptions(reader, compareOnly: false, out MachineOptions options));
        using var replayer = new Replayer(reader, options);
        return replayer.Run();
    }

    private sealed class Script : IInputSource
    {
        private static readonly (ulong At, Input Input)[] Inputs =
        [
            (3, new Input(InputKind.Kick)), (5, new Input(InputKind.ConsoleByte, 'x')), (5, new Input(InputKind.Signal)), (9, new Input(InputKind.Kick)),
        ];

        private int _next;
        private ulong _random = 0x1234_5678_9ABC_DEF0;

        public ulong NextDue(int vcpu, ulong retired) => _next < Inputs.Length ? Math.Max(Inputs[_next].At, retired) : ulong.MaxValue;

        public bool TryTake(InputPoint point, in Position at, out Input input)
        {
            input = default;
            if (point == InputPoint.Random)
            {
                _random *= 0x9E37_79B9_7F4A_7C15;
                input = new Input(InputKind.Random, _random, 1);
                return true;
            }

            if (point != InputPoint.Boundary || _next == Inputs.Length || Inputs[_next].At > at.Retired)
            {
                return false;
            }

            input = Inputs[_next++].Input;
            return true;
        }
    }
}
