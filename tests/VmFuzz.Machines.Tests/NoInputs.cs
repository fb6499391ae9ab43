using VmFuzz.Arch;

namespace VmFuzz.Machines.Tests;

/// <summary>A door through which nothing comes.</summary>
internal sealed class NoInputs : IInputSource
{
    public ulong NextDue(int vcpu, ulong retired) => ulong.MaxValue;

    public bool TryTake(InputPoint point, in Position at, out Input input)
    {
        input = default;
        return false;
    }
}
