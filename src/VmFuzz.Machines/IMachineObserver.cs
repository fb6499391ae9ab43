using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Kvm;

namespace VmFuzz.Machines;

/// <summary>Watches a machine: what the recorder writes and the replayer compares.</summary>
public interface IMachineObserver : IInputObserver, IProcessorObserver, IKvmObserver
{
    /// <summary>The guest wrote a byte to its console.</summary>
    void OnConsole(byte value);

    /// <summary>The guest touched a port or page behind which there is nothing, for the first time.</summary>
    void OnFirstAccess(bool isPort, ulong address, bool write);

    /// <summary>A point at which the digest of a quiet stretch is taken.</summary>
    void OnSync();

    /// <summary>The run ends.</summary>
    void OnEnd(in MachineStop stop);
}
