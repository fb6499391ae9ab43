using System.Collections.Immutable;
using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Devices;
using VmFuzz.Memory;

namespace VmFuzz.Machines;

/// <summary>
/// A machine put together: processors, memory, devices, and who is in charge. A run is a pure function of the
/// options and of what comes through the door.
/// </summary>
public abstract class Machine : IBoundary, IBusObserver, IConsoleSink, IMachineControl, IDebugSink, IDisposable
{
    /// <summary>Instructions without a digest after which a sync event is due.</summary>
    public const ulong SyncDistance = 1 << 20;

    // Virtual nanoseconds after which a machine whose timers tick but wake nobody counts as halted for ever.
    private const ulong LongestIdle = 3_600_000_000_000;

    // The same for timers that tick so fast that an hour of them would take one.
    private const int MostIdleEvents = 1 << 24;

    private readonly ConsoleMatch _match;
    private readonly List<IStateful> _components = [];
    private readonly List<IStateful> _inner = [];
    private ulong _nextSync = SyncDistance;
    private ulong _idleRetired;
    private ulong _idleSince;
    private int _idleEvents;
    private MachineStop _stop;
    private MachineSnapshot? _start;
    private bool _disposed;

    /// <summary>Puts a machine together.</summary>
    /// <param name="options">Valid options (<see cref="MachineOptions.Validate"/>).</param>
    /// <param name="inputs">The door.</param>
    /// <param name="variants">Replaced rows, for tests and experiments; null for the product's own.</param>
    protected Machine(MachineOptions options, IInputSource inputs, MachineVariants? variants)
    {
        Options = options;
        Variants = variants ?? MachineVariants.None;
        CpuModels.TryParse(options.Cpu, out CpuModel model);
        if (options.Kind is MachineKind.Flat or MachineKind.Microvm or MachineKind.Imported)
        {
            // There is no local APIC behind the registers of these features.
            model = CpuModels.With(model, CpuFeatures.None, CpuFeatures.X2Apic | CpuFeatures.TscDeadline);
        }

        Memory = new GuestMemory();
        Clock = new VirtualClock();
        Bus = new IoBus(this);
        Processors = MakeProcessors(CpuModels.WithProcessors(model, options.Processors), inputs);
        Clock.Follow(Processor, 0);
        Turns = Processors.Length > 1 ? new Turns(Processors, Clock) : null;
        if (options.UserAnswers)
        {
            Bus.Answers = AnswerFromDoor;
        }

        _match = new ConsoleMatch(options.UntilSerial);
    }

    /// <summary>The options it was made from.</summary>
    public MachineOptions Options { get; }

    /// <summary>Replaced rows.</summary>
    public MachineVariants Variants { get; }

    /// <summary>Guest-physical memory.</summary>
    public GuestMemory Memory { get; }

    /// <summary>Virtual time and its events.</summary>
    public VirtualClock Clock { get; }

    /// <summary>Ports and MMIO.</summary>
    public IoBus Bus { get; }

    /// <summary>The VCPUs, by number. One of them runs at a time.</summary>
    public ImmutableArray<Processor> Processors { get; }

    /// <summary>The first VCPU, which starts the machine; the only one of most machines.</summary>
    public Processor Processor => Processors[0];

    /// <summary>The VCPU that runs, or ran last.</summary>
    public Processor Current => Turns?.Current ?? Processor;

    /// <summary>Instructions retired by all VCPUs.</summary>
    public ulong Retired => Clock.Retired;

    /// <summary>Running hash of the inputs that all VCPUs took.</summary>
    public ulong InputsHash
    {
        get
        {
            ulong hash = Processor.Door.Hash;
            foreach (Processor other in Processors.AsSpan()[1..])
            {
                hash = StateHash.Step(hash, other.Door.Hash);
            }

            return hash;
        }
    }

    /// <summary>How several VCPUs take turns; null for one.</summary>
    internal Turns? Turns { get; }

    /// <summary>What every digest covers, in a fixed order: registers, VMCS, devices, time, consumed inputs.</summary>
    public IReadOnlyList<IStateful> Components => _components;

    /// <summary>What only snapshots and the digest at the end cover: the hypervisor's own state and the modelled host.</summary>
    public IReadOnlyList<IStateful> InnerComponents => _inner;

    /// <summary>
    /// Everything that a machine paused in the middle of its run is made of, memory apart, in the order in which it is
    /// restored: <see cref="Components"/>, <see cref="InnerComponents"/>, and where in its loop the hypervisor stands.
    /// </summary>
    public IEnumerable<IStateful> WholeState => _components.Concat(_inner).Concat(Root.PausedComponents);

    /// <summary>
    /// Retired instructions at which the run pauses: it stops at the first instruction boundary of the guest at or behind this
    /// count, and a machine with the same <see cref="WholeState"/> and memory goes on from there. None unless set.
    /// </summary>
    public ulong PauseAt { get; set; } = ulong.MaxValue;

    /// <summary>A text on the console behind which the run pauses; null for none.</summary>
    public ConsoleMatch? PauseAfter { get; set; }

    /// <summary>Brings derived state up to date after fields of components were set from outside.</summary>
    public void StateRestored()
    {
        Root.Restored();
        Turns?.Restored();
        foreach (Processor processor in Processors)
        {
            processor.StateChanged();
        }

        _idleRetired = Retired;
        _idleSince = Clock.Now;
        _idleEvents = 0;
    }

    /// <summary>Watches the run.</summary>
    public IMachineObserver? Observer { get; private set; }

    /// <summary>Bytes the guest wrote to its console so far.</summary>
    public ulong ConsoleLength { get; private set; }

    /// <summary>Running hash of those bytes.</summary>
    public ulong ConsoleHash { get; private set; }

    /// <summary>Receives console bytes as they are written; for people, not part of the run.</summary>
    public Action<byte>? ConsoleOutput { get; set; }

    /// <summary>Why the run ended; kind None while it goes on.</summary>
    public MachineStop Stop => _stop;

    /// <summary>Whether the guest runs under the C# hypervisor.</summary>
    public bool UnderHypervisor => Options.Accelerator == Accelerator.Kvm;

    /// <summary>The part that is in charge of the processor.</summary>
    internal IAccelerator Root { get; private protected set; } = null!;

    /// <summary>The hypervisor's part, when the accelerator is kvm.</summary>
    public KvmAccelerator? Kvm => Root as KvmAccelerator;

    /// <summary>The interrupt controller that devices drive; the first VCPU's.</summary>
    public abstract IInterruptController InterruptController { get; }

    /// <summary>The interrupt controller of a VCPU.</summary>
    internal virtual IInterruptController InterruptControllerOf(int vcpu) => InterruptController;

    /// <summary>Puts what belongs to a VCPU, and is no processor, into its state after INIT.</summary>
    internal virtual void InitVcpu(int vcpu)
    {
    }

    /// <summary>Where a board's memory goes on that does not fit below its devices.</summary>
    internal const ulong HighMemory = 1UL << 32;

    /// <summary>Bytes of a board's memory that lie below its devices: at most 3 GiB.</summary>
    internal static ulong LowMemory(MachineOptions options) => Math.Min(options.Memory, 0xC000_0000);

    /// <summary>Puts what does not fit below a board's devices at 4 GiB.</summary>
    internal void MapHighMemory()
    {
        ulong low = LowMemory(Options);
        if (Options.Memory > low)
        {
            Memory.AddSlot(new Gpa(HighMemory), Options.Memory - low);
        }
    }

    /// <summary>Makes a machine from valid options.</summary>
    public static Machine Create(MachineOptions options, IInputSource inputs, MachineVariants? variants = null)
    {
        Machine machine = options.Kind switch
        {
            MachineKind.Pc => new PcMachine(options, inputs, variants),
            MachineKind.Microvm => new MicrovmMachine(options, inputs, variants),
            MachineKind.UnitTest => new UnitTestMachine(options, inputs, variants),
            MachineKind.Imported => new ImportedMachine(options, inputs, variants),
            _ => new FlatMachine(options, inputs, variants),
        };
        machine.RegisterEventTargets();
        machine.Variants.Prepare?.Invoke(machine);
        machine.Memory.Commit();
        machine._start = new MachineSnapshot(machine);
        return machine;
    }

    /// <summary>
    /// Makes a device of a user's own part of the machine, in <see cref="MachineVariants.Prepare"/>: its state is reset,
    /// saved, restored and digested as that of all devices. The caller puts it on the <see cref="Bus"/>.
    /// </summary>
    /// <param name="device">The device; its component's number is <see cref="ComponentId.User"/> or above.</param>
    /// <exception cref="ArgumentException">The number is not a user's, or is taken.</exception>
    /// <exception cref="InvalidOperationException">The machine is complete.</exception>
    public void AddDevice(Device device)
    {
        ArgumentNullException.ThrowIfNull(device);
        if (_start is not null)
        {
            throw new InvalidOperationException("Devices are added while a machine is prepared.");
        }

        if (device.Component < ComponentId.User || _components.Exists(other => other.Component == device.Component))
        {
            throw new ArgumentException($"Component number 0x{(ushort)device.Component:x} is not a user's, or is taken.", nameof(device));
        }

        // The event queue's image is restored behind all devices.
        _components.Insert(_components.IndexOf(Clock.Events), device);
        if (device is IEventTarget target)
        {
            Clock.Events.Register(target);
        }
    }

    /// <summary>Watches the run from now on.</summary>
    public void Observe(IMachineObserver? observer)
    {
        Observer = observer;
        foreach (Processor processor in Processors)
        {
            processor.Observer = observer;
            processor.Door.Observer = observer;
        }

        Root.Observe(observer);
    }

    /// <summary>Runs until the machine stops. To run again, <see cref="Reset"/> it first. A run that pauses has not ended.</summary>
    public MachineStop Run()
    {
        Root.Run();
        if (_stop.Kind != MachineStopKind.Paused)
        {
            Observer?.OnEnd(_stop);
        }

        return _stop;
    }

    /// <summary>
    /// Puts the machine back to its start state; costs what the run wrote. Decoded code is kept, translations are not.
    /// The input source is the caller's to rewind or replace.
    /// </summary>
    public void Reset()
    {
        Memory.Reset();
        _start!.Restore(this);
        StateRestored();
        Bus.ForgetFloating();
        _match.Reset();
        _stop = default;
        _nextSync = SyncDistance;
        ConsoleLength = 0;
        ConsoleHash = 0;
    }

    /// <summary>Ends the run; the first reason counts.</summary>
    public void RequestStop(in MachineStop stop)
    {
        if (_stop.Kind == MachineStopKind.None)
        {
            _stop = stop;
        }

        Current.RequestStop();
    }

    /// <summary>A digest was taken: the next sync event is due a whole distance later.</summary>
    public void DigestTaken() => _nextSync = Retired + SyncDistance;

    /// <inheritdoc/>
    /// <remarks>
    /// The end of a turn is looked at before inputs are: each count of a VCPU is asked for them in one turn only.
    /// </remarks>
    public bool OnBoundary(ulong retired, out ulong nextLimit)
    {
        nextLimit = retired;
        Clock.Events.RunDue(Clock.Now);
        if (Turns is { Over: true })
        {
            return false;
        }

        Processor processor = Current;
        ulong due = processor.Door.NextDue;
        if (due <= retired)
        {
            TakeInputs(InputPoint.Boundary);
            due = processor.Door.NextDue;
        }

        Root.BoundaryPassed();
        if (_stop.Kind != MachineStopKind.None)
        {
            return false;
        }

        if (retired >= PauseAt || PauseAfter is { Matched: true })
        {
            RequestStop(new MachineStop(MachineStopKind.Paused, $"the machine was paused after {retired} instructions"));
            return false;
        }

        if (_match.Matched && !UnderHypervisor)
        {
            Sync();
            StopOnMatch();
            return false;
        }

        // Limits below count the instructions of all VCPUs.
        ulong others = Clock.RetiredByOthers;
        ulong total = retired + others;
        if (Options.MaxInstructions != 0 && total >= Options.MaxInstructions)
        {
            RequestStop(new MachineStop(MachineStopKind.MaxInstructions, LimitText()));
            return false;
        }

        if (processor.DeliveriesInPlace >= Processor.DeliveryLimit)
        {
            RequestStop(new MachineStop(
                MachineStopKind.EventStorm,
                $"{processor.DeliveriesInPlace} events were delivered and no instruction retired, at RIP 0x{processor.Rip:x}: the handler's first instruction faults again; see which with --log int"));
            return false;
        }

        if (total >= _nextSync)
        {
            Sync();
            if (_stop.Kind != MachineStopKind.None)
            {
                return false;
            }
        }

        ulong limit = Math.Min(Math.Min(_nextSync - others, due), PauseAt);
        limit = Math.Min(limit, Turns?.End ?? ulong.MaxValue);
        ulong deadline = Clock.Events.NextDeadline;
        if (deadline != ulong.MaxValue)
        {
            ulong now = Clock.Now;
            limit = Math.Min(limit, deadline > now ? retired + (deadline - now) : retired + 1);
        }

        if (Options.MaxInstructions != 0)
        {
            limit = Math.Min(limit, Options.MaxInstructions - others);
        }

        nextLimit = Math.Max(limit, retired + 1);
        return true;
    }

    /// <summary>Whether the awaited text has appeared; the hypervisor's loop stops at its next entry or exit then.</summary>
    public bool MatchedSerial => _match.Matched;

    /// <summary>Ends the run because the awaited text appeared.</summary>
    public void StopOnMatch() =>
        RequestStop(new MachineStop(MachineStopKind.SerialMatch, $"the console showed \"{Options.UntilSerial}\""));

    /// <summary>Takes everything that the door has at a point, and applies it.</summary>
    /// <returns>Whether anything came.</returns>
    public bool TakeInputs(InputPoint point)
    {
        bool any = false;
        while (TakeInput(point))
        {
            any = true;
        }

        return any;
    }

    /// <summary>Takes one input at a point, and applies it.</summary>
    /// <returns>Whether there was one.</returns>
    internal bool TakeInput(InputPoint point)
    {
        Processor processor = Current;
        bool any = processor.Door.TryTake(point, out Input input);
        if (any)
        {
            Root.Apply(processor.Index, input);
        }

        return any;
    }

    /// <summary>Applies an input that does not depend on who is in charge.</summary>
    public virtual void ApplyDeviceInput(in Input input)
    {
        if (input.Kind == InputKind.Stop)
        {
            RequestStop(new MachineStop(MachineStopKind.UserStop, "stopped by the user"));
        }
    }

    /// <summary>Advances an idle machine to its next event.</summary>
    /// <returns>False when there is none, or when none of those of a whole hour, or of very many, has woken it.</returns>
    public bool Idle()
    {
        ulong deadline = Clock.Events.NextDeadline;
        if (_idleRetired != Retired)
        {
            _idleRetired = Retired;
            _idleSince = Clock.Now;
            _idleEvents = 0;
        }

        if (deadline == ulong.MaxValue || Clock.Now - _idleSince > LongestIdle || _idleEvents > MostIdleEvents)
        {
            return false;
        }

        Clock.AdvanceTo(deadline);
        _idleEvents += Clock.Events.RunDue(Clock.Now);
        return true;
    }

    /// <inheritdoc/>
    public void Write(byte value)
    {
        ConsoleLength++;
        ConsoleHash = StateHash.Step(ConsoleHash, value);
        ConsoleOutput?.Invoke(value);
        Observer?.OnConsole(value);
        if (_match.Add(value) | (PauseAfter?.Add(value) ?? false))
        {
            Current.RecomputeLimit();
        }
    }

    /// <inheritdoc/>
    public void FirstFloatingAccess(bool isPort, ulong address, bool write) =>
        Observer?.OnFirstAccess(isPort, address, write);

    /// <inheritdoc/>
    public void RequestReset(string reason) =>
        RequestStop(new MachineStop(MachineStopKind.Reset, $"the guest reset the machine ({reason})"));

    /// <inheritdoc/>
    public void RequestPowerOff(string reason) =>
        RequestStop(new MachineStop(MachineStopKind.PowerOff, $"the guest powered the machine off ({reason})"));

    /// <inheritdoc/>
    public virtual void SetA20(A20Gate gate, bool enabled)
    {
    }

    /// <inheritdoc/>
    public virtual void DebugByte(ushort port, byte value) => Write(value);

    /// <inheritdoc/>
    public void DebugExit(uint value)
    {
        int status = (int)((value << 1) | 1) & 0xFF;
        RequestStop(new MachineStop(MachineStopKind.DebugExit, $"the guest ended the run with 0x{value:x}", status));
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_disposed)
        {
            return;
        }

        _disposed = true;
        (Root as IDisposable)?.Dispose();
        foreach (Processor processor in Processors)
        {
            processor.Dispose();
        }

        Memory.Dispose();
        GC.SuppressFinalize(this);
    }

    /// <summary>Adds components to <see cref="Components"/>.</summary>
    private protected void AddComponents(params ReadOnlySpan<IStateful> components) => _components.AddRange(components);

    /// <summary>Puts the accelerator in place once memory and devices stand.</summary>
    private protected void Start()
    {
        Root = UnderHypervisor ? new KvmAccelerator(this) : new BareAccelerator(this);
        AddComponents(Root.Components);
        _inner.AddRange(Root.InnerComponents);
    }

    // The queue's image names targets by number, which must not depend on who scheduled first.
    private void RegisterEventTargets()
    {
        foreach (IStateful component in _components)
        {
            if (component is IEventTarget target)
            {
                Clock.Events.Register(target);
            }
        }
    }

    private void Sync()
    {
        Observer?.OnSync();
        _nextSync = Retired + SyncDistance;
    }

    // All but the first wait to be started.
    private ImmutableArray<Processor> MakeProcessors(CpuModel model, IInputSource inputs)
    {
        var processors = new Processor[Options.Processors];
        for (int i = 0; i < processors.Length; i++)
        {
            processors[i] = new Processor(model, Memory, Bus, Clock, inputs, i, Variants.Instructions)
            {
                Boundary = this,
                RegionThreshold = Processor.UsualRegionThreshold,
            };
            if (i != 0)
            {
                processors[i].WaitForSipi();
            }
        }

        Processor.Share(processors);
        return [.. processors];
    }

    private ulong AnswerFromDoor(bool isPort, ulong address, int size) =>
        Current.Door.TryTake(InputPoint.UserAnswer, out Input answer) ? answer.Value : ulong.MaxValue;

    private string LimitText() => Options.UntilSerial.Length == 0
        ? $"{Options.MaxInstructions} instructions were retired"
        : $"{Options.MaxInstructions} instructions were retired and the console did not show \"{Options.UntilSerial}\"";
}
