using VmFuzz.Arch;

namespace VmFuzz.Machines;

/// <summary>Who is in charge of the processor: nobody (bare) or the C# hypervisor (kvm).</summary>
internal interface IAccelerator
{
    /// <summary>State of its own that is part of every digest.</summary>
    IStateful[] Components { get; }

    /// <summary>State of its own that is part of snapshots and of the digest at the end of a run.</summary>
    IStateful[] InnerComponents { get; }

    /// <summary>State of its own that only a machine paused in the middle of the guest has; restored behind all other.</summary>
    IStateful[] PausedComponents { get; }

    /// <summary>Fields were set from outside: drop what was derived from them.</summary>
    void Restored();

    /// <summary>Runs until the machine has a reason to stop.</summary>
    void Run();

    /// <summary>Due events ran and inputs were taken at a boundary: lines may have changed.</summary>
    void BoundaryPassed();

    /// <summary>Applies an input, or an event of the same kind that a local APIC brings.</summary>
    /// <param name="vcpu">The VCPU that it is for.</param>
    /// <param name="input">What it is.</param>
    void Apply(int vcpu, in Input input);

    /// <summary>Lets an observer watch.</summary>
    void Observe(IMachineObserver? observer);
}
