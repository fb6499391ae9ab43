using VmFuzz.Arch;

namespace VmFuzz.Kvm;

/// <summary>Why <see cref="Vmm.Run"/> returned.</summary>
public enum VmmStop : byte
{
    /// <summary>The caller's hook asked for it, or the processor was stopped at a boundary.</summary>
    Requested,
    /// <summary>The guest halted and nothing can wake it.</summary>
    Halted,
    /// <summary>Triple fault.</summary>
    Shutdown,
    /// <summary>An exit that this userspace cannot complete; <see cref="KvmRun"/> says which.</summary>
    Failed,
}

/// <summary>What a machine gives the userspace loop.</summary>
public interface IVmmHost
{
    /// <summary>Whether the machine wants to stop; asked before every run call.</summary>
    bool StopRequested { get; }

    /// <summary>The guest halted with interrupts on: let time pass to the next event.</summary>
    /// <returns>False when nothing is scheduled that could wake it.</returns>
    bool Idle();

    /// <summary>Inputs for a userspace that waits: before a run call, and while the guest is halted.</summary>
    /// <param name="point">Userspace or Blocked.</param>
    /// <returns>Whether anything came.</returns>
    bool TakeInputs(InputPoint point);
}

/// <summary>
/// A userspace for one VCPU with the irqchip outside the kernel, as QEMU with <c>kernel-irqchip=off</c>: completes port
/// and memory accesses on a bus, delivers the interrupts of a controller, waits when the guest halts.
/// </summary>
public sealed class Vmm
{
    private readonly IBus _bus;
    private readonly IInterruptController _controller;
    private readonly IVmmHost _host;

    /// <summary>Creates the loop.</summary>
    /// <param name="vcpu">The VCPU.</param>
    /// <param name="bus">Ports and MMIO.</param>
    /// <param name="controller">The interrupt controller.</param>
    /// <param name="host">The machine.</param>
    public Vmm(Vcpu vcpu, IBus bus, IInterruptController controller, IVmmHost host)
    {
        Vcpu = vcpu;
        _bus = bus;
        _controller = controller;
        _host = host;
    }

    /// <summary>The VCPU.</summary>
    public Vcpu Vcpu { get; }

    /// <summary>
    /// Devices may have changed the interrupt line while the guest runs: a VCPU that does not know yet is signalled, as
    /// an I/O thread does. Called by the machine after it ran due events at a boundary.
    /// </summary>
    public void LinesChanged()
    {
        if (Vcpu.Mode != VcpuMode.OutsideGuest && _controller.InterruptPending && !Vcpu.KvmRun.RequestInterruptWindow
            && !Vcpu.Host.SignalPending)
        {
            Vcpu.Signal();
        }
    }

    /// <summary>The errno with which the run call failed; 0 when it did not.</summary>
    public int Errno { get; private set; }

    /// <summary>Runs the guest until something ends the run.</summary>
    public VmmStop Run()
    {
        Errno = 0;
        while (!_host.StopRequested && !Vcpu.StopRequested)
        {
            if (!Vcpu.StoppedInGuest)
            {
                _host.TakeInputs(InputPoint.Userspace);
                if (_host.StopRequested)
                {
                    break;
                }

                OfferInterrupt();
            }

            int result = Vcpu.Run();
            if (result == Vcpu.Stopped)
            {
                return VmmStop.Requested;
            }

            TakeTaskPriority();
            if (result < 0)
            {
                if (result is -Arch.Errno.EINTR or -Arch.Errno.EAGAIN)
                {
                    // Asleep in the kernel (after INIT, or for a page): only what comes from outside can wake it.
                    if (Vcpu.IsAsleep && !_host.TakeInputs(InputPoint.Blocked))
                    {
                        return VmmStop.Halted;
                    }

                    continue;
                }

                Errno = -result;
                return VmmStop.Failed;
            }

            if (Complete() is { } stop)
            {
                return stop;
            }
        }

        return VmmStop.Requested;
    }

    // An interrupt is taken from the controller only when the guest can have it at once.
    private void OfferInterrupt()
    {
        KvmRun run = Vcpu.KvmRun;
        bool pending = _controller.InterruptPending;
        if (pending && Vcpu.ReadyForInterrupt)
        {
            Vcpu.Interrupt(_controller.Acknowledge());
            pending = _controller.InterruptPending;
        }

        run.RequestInterruptWindow = pending;
        run.Cr8 = _controller.TaskPriority;
    }

    // The guest moves its task priority by CR8, which the run structure carries, or by the APIC's own register.
    private void TakeTaskPriority()
    {
        byte priority = (byte)Vcpu.KvmRun.Cr8;
        if (_controller.TaskPriority != priority)
        {
            _controller.TaskPriority = priority;
        }
    }

    private VmmStop? Complete()
    {
        KvmRun run = Vcpu.KvmRun;
        switch (run.ExitReason)
        {
            case KvmExitReason.Io:
                CompleteIo(run);
                return null;
            case KvmExitReason.Mmio:
                CompleteMmio(run);
                return null;
            case KvmExitReason.Hlt:
                return Wait();
            case KvmExitReason.IrqWindowOpen:
            case KvmExitReason.SetTpr:
            case KvmExitReason.Intr:
                return null;
            case KvmExitReason.Shutdown:
                return VmmStop.Shutdown;
            default:
                return VmmStop.Failed;
        }
    }

    private void CompleteIo(KvmRun run)
    {
        KvmRunIo io = run.Io;
        for (int i = 0; i < io.Count; i++)
        {
            Span<byte> item = run.Data.Slice(i * io.Size, io.Size);
            if (io.Out)
            {
                _bus.WritePort(io.Port, io.Size, (uint)StateFields.Take(item));
            }
            else
            {
                StateFields.Put(item, _bus.ReadPort(io.Port, io.Size));
            }
        }
    }

    private void CompleteMmio(KvmRun run)
    {
        KvmRunMmio mmio = run.Mmio;
        Span<byte> data = run.Data[..mmio.Length];
        if (mmio.IsWrite)
        {
            _bus.WriteMmio(mmio.Address, mmio.Length, StateFields.Take(data));
        }
        else
        {
            StateFields.Put(data, _bus.ReadMmio(mmio.Address, mmio.Length));
        }
    }

    // A halted guest sleeps until its controller has an interrupt that it can take, or an NMI came.
    private VmmStop? Wait()
    {
        while (!CanWake)
        {
            if (_host.StopRequested)
            {
                return VmmStop.Requested;
            }

            if (_host.TakeInputs(InputPoint.Blocked))
            {
                continue;
            }

            if (!Vcpu.KvmRun.IfFlag || !_host.Idle())
            {
                return VmmStop.Halted;
            }
        }

        return null;
    }

    private bool CanWake =>
        (Vcpu.KvmRun.IfFlag && _controller.InterruptPending)
        || Vcpu.Events.NmiQueued > 0 || Vcpu.Events.NmiPending > 0 || Vcpu.Events.NeedsReinjection;
}
