using VmFuzz.Arch;
using VmFuzz.Memory;

namespace VmFuzz.Cpu.Tests;

/// <summary>How ops go on from one to the next: the stack must not grow, nothing may be allocated, counts must be exact.</summary>
public sealed class ThreadingTests
{
    private const ulong Steps = 24_000_000;

    // 16-bit: again: add ax, bx / xor cx, ax / inc bx / push ax / pop dx / jmp again
    private static readonly byte[] Loop = [0x01, 0xD8, 0x31, 0xC1, 0x43, 0x50, 0x5A, 0xEB, 0xF7];

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void LongRun_OnASmallStack_EndsAtTheLimitWithoutAllocating(bool loop)
    {
        ulong retired = 0;
        long allocated = -1;
        var thread = new Thread(() => (retired, allocated) = Run(loop, Steps), 256 * 1024);
        thread.Start();
        thread.Join();
        Assert.Equal(Steps, retired);
        Assert.Equal(0, allocated);
    }

    [Fact]
    public void TailAndLoop_SameCode_SameRegisters()
    {
        using var tail = new Bench(false);
        using var loop = new Bench(true);
        tail.Go(1_000_003);
        loop.Go(1_000_003);
        for (Gpr r = Gpr.Rax; r <= Gpr.Rdi; r++)
        {
            Assert.Equal(tail.Cpu[r], loop.Cpu[r]);
        }

        Assert.Equal(CpuStop.Requested, tail.Stop);
        Assert.Equal(tail.Cpu.RFlagsValue, loop.Cpu.RFlagsValue);
        Assert.Equal(tail.Cpu.Rip, loop.Cpu.Rip);
    }

    private static (ulong Retired, long Allocated) Run(bool loop, ulong steps)
    {
        using var bench = new Bench(loop);
        // Half the steps end at the same place of the loop: all code is decoded then.
        bench.Go(steps / 2);
        long before = GC.GetAllocatedBytesForCurrentThread();
        bench.Go(steps);
        return (bench.Cpu.Retired, GC.GetAllocatedBytesForCurrentThread() - before);
    }

    internal sealed class Bench : IBus, IClock, IInputSource, IBoundary, IDisposable
    {
        private readonly GuestMemory _memory = new();
        private ulong _limit;

        public Bench(bool loop, byte[]? code = null)
        {
            _memory.AddSlot(new Gpa(0), 1 << 20);
            _memory.TryWrite(new Gpa(0x7C00), code ?? Loop);
            CpuModels.TryFind("vmfuzz64", out CpuModel? model);
            Cpu = new Processor(model!, _memory, this, this, this) { Boundary = this, LoopThreading = loop };
            unsafe
            {
                Cpu.State->Cs = new SegmentState { Limit = 0xFFFF, Attributes = 0x9B };
                Cpu.State->Gpr[(int)Gpr.Rsp] = 0x7000;
            }

            Cpu.Rip = 0x7C00;
            Cpu.StateChanged();
        }

        public Processor Cpu { get; }

        public CpuStop Stop { get; private set; }

        public ulong Now => 0;

        public void Go(ulong limit)
        {
            _limit = limit;
            Stop = Cpu.Run();
        }

        public bool OnBoundary(ulong retired, out ulong nextLimit)
        {
            nextLimit = _limit;
            return retired < _limit;
        }

        public void Dispose()
        {
            Cpu.Dispose();
            _memory.Dispose();
        }

        public uint ReadPort(ushort port, int size) => 0;

        public void WritePort(ushort port, int size, uint value)
        {
        }

        public ulong ReadMmio(Gpa address, int size) => 0;

        public void WriteMmio(Gpa address, int size, ulong value)
        {
        }

        public ulong NextDue(int vcpu, ulong retired) => ulong.MaxValue;

        public bool TryTake(InputPoint point, in Position at, out Input input)
        {
            input = default;
            return false;
        }
    }
}
