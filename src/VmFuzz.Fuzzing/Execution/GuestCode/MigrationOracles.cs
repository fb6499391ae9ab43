using System.Collections.Immutable;
using VmFuzz.Arch;
using VmFuzz.Kvm;
using VmFuzz.Machines;
using VmFuzz.Replay;

namespace VmFuzz.Fuzzing;

/// <summary>A guest that is saved at an exit and goes on in another machine ends the same.</summary>
internal static class MigrationOracles
{
    public static readonly ImmutableArray<DeepOracleRow> Rows =
    [
        new("migration.first", static (m, input) => Compare(m, input.AtBoundaries, 1)),
        new("migration.second", static (m, input) => Compare(m, input.AtBoundaries, 2)),
    ];

    private static Violation? Compare(GuestMachines machines, FuzzInput input, ulong seed)
    {
        GuestRunner straight = machines.Base(GuestMachineKind.Kvm, input);
        if (straight.Judge() is { } already)
        {
            return already;
        }

        if (straight.Monitor.Exits == 0 || straight.Monitor.AllocationFailed)
        {
            return null;
        }

        ulong at = StateHash.Step(seed, straight.Monitor.Exits) % straight.Monitor.Exits;
        GuestRunner from = machines.Get(GuestMachineKind.Twin, input.Mode);
        GuestRunner to = machines.Get(GuestMachineKind.Target, input.Mode);
        if (!TryStopBehind(from, input, at))
        {
            return null;
        }

        string place = from.Machine.Kvm!.Vcpu.Vmx.Exit.Basic.ToString();
        to.Load(input);
        MachineMove.Copy(from, to);
        to.Machine.Run();
        if (to.Judge() is { } wrong)
        {
            return wrong with { Oracle = "migration." + wrong.Oracle };
        }

        var pair = new GuestPair(straight.Machine, straight.Monitor, to.Machine, to.Monitor);
        return machines.Comparison.FirstDifference(pair) is { } difference
            ? new Violation("migration.state", $"{place}:{difference.Name}", $"moved behind exit {at} ({place}): {difference.Text}")
            : null;
    }

    // Runs an input up to the first return to userspace behind an exit that leaves nothing unfinished.
    private static bool TryStopBehind(GuestRunner runner, FuzzInput input, ulong exit)
    {
        runner.Load(input);
        var source = new LeavingSource(runner.Fuzz.Source);
        runner.Machine.Processor.Door.Source = source;
        runner.Monitor.AtExit = vcpu =>
        {
            if (runner.Monitor.Exits == exit + 1)
            {
                source.Leave = true;
                vcpu.Signal();
            }
        };
        runner.Machine.Run();
        Vcpu vcpu = runner.Machine.Kvm!.Vcpu;
        if (!source.Left || runner.Judge() is not null)
        {
            return false;
        }

        // KVM_SET_* need what userspace was asked for to be complete: a run call that leaves at once does that.
        vcpu.KvmRun.ImmediateExit = true;
        int result = vcpu.Run();
        vcpu.KvmRun.ImmediateExit = false;
        return result == -Errno.EINTR;
    }

    /// <summary>A door that stops the machine when its userspace runs next.</summary>
    private sealed class LeavingSource(IInputSource inner) : IInputSource
    {
        public bool Leave { get; set; }

        public bool Left { get; private set; }

        public ulong NextDue(int vcpu, ulong retired) => inner.NextDue(vcpu, retired);

        public bool TryTake(InputPoint point, in Position at, out Input input)
        {
            if (Leave && point == InputPoint.Userspace)
            {
                Leave = false;
                Left = true;
                input = new Input(InputKind.Stop);
                return true;
            }

            return inner.TryTake(point, at, out input);
        }
    }
}
