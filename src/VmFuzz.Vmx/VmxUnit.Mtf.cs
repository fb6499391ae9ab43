using VmFuzz.Arch;
using VmFuzz.Cpu;

namespace VmFuzz.Vmx;

// SDM "Monitor Trap Flag": an exit at the boundary after one instruction, one REP iteration or one delivered event.
// While the control is 1 the unit stands before the machine's boundary handler and keeps the budget at one.
public sealed unsafe partial class VmxUnit : IBoundary
{
    private IBoundary? _outerBoundary;
    private bool _stepping;
    private ulong _stepRetired;
    private ulong _stepRip;

    bool IBoundary.OnBoundary(ulong retired, out ulong nextLimit)
    {
        nextLimit = ulong.MaxValue >> 1;
        bool goOn = _outerBoundary is null || _outerBoundary.OnBoundary(retired, out nextLimit);
        nextLimit = Math.Min(nextLimit, _cpu.Retired + 1);
        _cpu.Look();
        return goOn;
    }

    // After the injection, if any: an injected event is followed by the exit at once.
    private void StartStepping(bool injected)
    {
        if (!Primary(PrimaryControls.MonitorTrapFlag))
        {
            return;
        }

        _pendingMtf |= injected;
        _stepping = true;
        _stepRetired = _cpu.Retired;
        _stepRip = _state->Gpr[CpuState.RipSlot];
        _outerBoundary = _cpu.Boundary;
        _cpu.Boundary = this;
    }

    private void StopStepping()
    {
        if (_stepping)
        {
            _stepping = false;
            _cpu.Boundary = _outerBoundary;
            _outerBoundary = null;
        }
    }

    private bool Stepped() => _stepping && (_cpu.Retired != _stepRetired || _state->Gpr[CpuState.RipSlot] != _stepRip);
}
