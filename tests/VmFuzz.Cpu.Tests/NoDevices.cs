using VmFuzz.Arch;

namespace VmFuzz.Cpu.Tests;

/// <summary>What is around a processor in a test that is about none of it: time stands still, ports read 0, nothing comes in.</summary>
internal sealed class NoDevices : IBus, IClock, IInputSource
{
    public ulong Now => 0;

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
