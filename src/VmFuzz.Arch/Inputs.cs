namespace VmFuzz.Arch;

/// <summary>
/// Where a run stands: the VCPU, its retired instructions, and how often the door was consulted at this count.
/// </summary>
/// <param name="Vcpu">Index of the VCPU, from 0.</param>
/// <param name="Retired">Instructions the VCPU has retired; each REP iteration counts one.</param>
/// <param name="Ordinal">Consultations of the door made before this one at the same count.</param>
public readonly record struct Position(int Vcpu, ulong Retired, uint Ordinal)
{
    /// <inheritdoc/>
    public override string ToString() => $"vcpu {Vcpu} at {Retired}+{Ordinal}";
}

/// <summary>The named places at which a machine asks for inputs. Numbers are part of the trace format and never reused.</summary>
public enum InputPoint : byte
{
    /// <summary>An instruction boundary at which an asynchronous input was announced (<see cref="IInputSource.NextDue"/>).</summary>
    Boundary = 1,
    /// <summary>RDRAND or RDSEED asks for a value.</summary>
    Random = 2,
    /// <summary>The caller of the run call decides what to do before calling it again.</summary>
    Userspace = 3,
    /// <summary>The caller's own userspace answers a port or MMIO read.</summary>
    UserAnswer = 4,
    /// <summary>The run loop looks for a pending signal.</summary>
    Signal = 5,
    /// <summary>The run loop looks whether it must reschedule.</summary>
    Reschedule = 6,
    /// <summary>Kick point: the requests were served, before events are looked at.</summary>
    AfterRequests = 7,
    /// <summary>Kick point: events were injected, before the MMU is loaded.</summary>
    AfterInjection = 8,
    /// <summary>Kick point: the guest switch is prepared, before the mode is published.</summary>
    AfterPrepare = 9,
    /// <summary>Kick point: the mode is published and interrupts are off, before the last look at requests.</summary>
    BeforeLastCheck = 10,
    /// <summary>Kick point: the last look is done, before the entry instruction.</summary>
    BeforeEntry = 11,
    /// <summary>A blocked or halted VCPU waits for something to happen.</summary>
    Blocked = 12,
    /// <summary>The start of a machine of several VCPUs: how do they take turns?</summary>
    Schedule = 13,
}

/// <summary>What came through the door. Numbers are part of the trace format and never reused.</summary>
public enum InputKind : byte
{
    /// <summary>No input.</summary>
    None = 0,
    /// <summary>An external interrupt; the value is its vector. On a machine with a PIC or APIC a spurious one.</summary>
    Interrupt = 1,
    /// <summary>A non-maskable interrupt from outside.</summary>
    Nmi = 2,
    /// <summary>A system-management interrupt from outside.</summary>
    Smi = 3,
    /// <summary>INIT from outside.</summary>
    Init = 4,
    /// <summary>Start-up IPI from outside; the value is its vector.</summary>
    Sipi = 5,
    /// <summary>A machine check.</summary>
    MachineCheck = 6,
    /// <summary>A value for RDRAND or RDSEED; the auxiliary word is 1 when the value is valid (CF) and 0 when the unit had none.</summary>
    Random = 7,
    /// <summary>The answer of a user's own userspace to a port or MMIO read.</summary>
    Answer = 8,
    /// <summary>A byte typed on the console.</summary>
    ConsoleByte = 9,
    /// <summary>A signal for the thread of the VCPU.</summary>
    Signal = 10,
    /// <summary>A kick: another thread wants the VCPU out of guest mode.</summary>
    Kick = 11,
    /// <summary>The host's scheduler wants the processor.</summary>
    Reschedule = 12,
    /// <summary>A host page is absent; the value is the guest frame.</summary>
    PageAbsent = 13,
    /// <summary>A host page is ready; the value is the guest frame.</summary>
    PageReady = 14,
    /// <summary>A host interrupt arrives; the value is its vector.</summary>
    HostVector = 15,
    /// <summary>Time stolen from the VCPU; the value is in nanoseconds.</summary>
    StealDelay = 16,
    /// <summary>A performance counter overflows; the value is its index.</summary>
    PmuOverflow = 17,
    /// <summary>An allocation of the host fails.</summary>
    AllocationFailure = 18,
    /// <summary>The user asks the run to stop.</summary>
    Stop = 19,
    /// <summary>The seed from which the turns of several VCPUs are drawn.</summary>
    ScheduleSeed = 20,
}

/// <summary>One input: what kind, and up to two words of it.</summary>
/// <param name="Kind">What came.</param>
/// <param name="Value">The main word; its meaning depends on the kind.</param>
/// <param name="Auxiliary">A second word for kinds that have one, otherwise 0.</param>
public readonly record struct Input(InputKind Kind, ulong Value = 0, ulong Auxiliary = 0);

/// <summary>
/// The one door through which everything enters that is not derived from the start state.
/// Live, recording, replaying and fuzzing runs differ in the source plugged in here and in nothing else.
/// </summary>
/// <remarks>
/// Determinism: an implementation answers from the position and from what it holds, and is asked at the same
/// positions in the same order on every run with the same answers.
/// </remarks>
public interface IInputSource
{
    /// <summary>
    /// The retired count of <paramref name="vcpu"/> at which <see cref="InputPoint.Boundary"/> must next be consulted:
    /// at least <paramref name="retired"/>, or <see cref="ulong.MaxValue"/> when nothing is announced.
    /// </summary>
    ulong NextDue(int vcpu, ulong retired);

    /// <summary>
    /// Takes the input that is due at this point and position. The caller asks again until there is none, except at
    /// <see cref="InputPoint.Random"/>, <see cref="InputPoint.UserAnswer"/> and <see cref="InputPoint.Schedule"/>, which take
    /// at most one.
    /// </summary>
    /// <param name="point">The name of the place that asks.</param>
    /// <param name="at">The position; its ordinal is unique at one retired count.</param>
    /// <param name="input">The input, when the result is true.</param>
    /// <returns>Whether there was one.</returns>
    bool TryTake(InputPoint point, in Position at, out Input input);

    /// <summary>
    /// How long the source has nothing for the points of the run path (<see cref="InputPoint.Signal"/> to
    /// <see cref="InputPoint.BeforeEntry"/>): a promise that at every count from <paramref name="retired"/> on that lies
    /// below the result it would answer "none" at each of them, whatever it is asked meanwhile. It is not asked there
    /// then; those consultations count as ever. The promise ends when the state of the door is restored.
    /// </summary>
    /// <param name="vcpu">The VCPU.</param>
    /// <param name="retired">Its retired count.</param>
    /// <returns><paramref name="retired"/> or less for no promise, as a source gives whose inputs come at any time.</returns>
    ulong QuietUntil(int vcpu, ulong retired) => 0;
}
