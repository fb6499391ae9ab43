using VmFuzz.Arch;

namespace VmFuzz.Machines;

/// <summary>Who is in charge of the processor: nobody (bare) or the C# hypervisor (kvm).</summary>
internal interface IAccelerator
{
    /// <summary>State of its own, for digests and snapshots.</summary>
    IStateful[] Components { get; }

    /// <summary>Runs until the machine has a reason to stop.</summary>
    void Run();

    /// <summary>Called at a boundary: due events and inputs.</summary>
    void Poll(ulong retired);

    /// <summary>Applies an input.</summary>
    void Apply(in Input input);

    /// <summary>Lets an observer watch.</summary>
    void Observe(IMachineObserver? observer);
}
