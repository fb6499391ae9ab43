using VmFuzz.Arch;

namespace VmFuzz.Cpu.Tests;

/// <summary>Notes what it is asked; exits or not.</summary>
internal sealed class NonRootPolicy : INonRootPolicy
{
    public List<string> Log { get; } = [];

    public bool Exits { get; set; } = true;

    public uint Bitmap { get; set; } = uint.MaxValue;

    private bool Note(string text)
    {
        Log.Add(text);
        return Exits;
    }

    public bool Instruction(SensitiveInstruction instruction, int instructionLength, ulong qualification = 0, uint instructionInfo = 0) =>
        Note($"{instruction} {instructionLength} {qualification:x} {instructionInfo:x}");

    public bool Io(in IoAccess access, int instructionLength) => Note(access.ToString());

    public bool MsrAccess(uint msr, bool write, int instructionLength) => Note($"msr {msr:x} {write}");

    public bool MovToCr(int register, Gpr source, int instructionLength, ref ulong value)
    {
        value |= Cr0.Wp;
        return Note($"to cr{register} {source}");
    }

    public bool MovFromCr(int register, Gpr destination, int instructionLength, ref ulong value)
    {
        value = 0x77;
        return Note($"from cr{register} {destination}");
    }

    public bool Clts(int instructionLength, out bool clear)
    {
        clear = false;
        return Note("clts");
    }

    public bool Lmsw(ushort source, bool fromMemory, ulong linearAddress, int instructionLength, ref ulong cr0) => Note($"lmsw {source:x}");

    public bool MovDr(int register, bool write, Gpr gpr, int instructionLength) => Note($"dr{register} {write} {gpr}");

    public bool Exception(in GuestEvent raised, in GuestEvent? original)
    {
        Log.Add($"exception {raised.Vector} during {original?.Vector}");
        return (Bitmap & (1U << raised.Vector)) != 0;
    }

    public bool TripleFault() => Note("triple fault");

    public bool TaskSwitch(ushort selector, TaskSwitchSource source, in GuestEvent? original, int instructionLength) =>
        Note($"task {selector:x} {source} {original?.Vector}");

    public bool VirtualNmis => false;

    public bool Nmi() => false;

    public bool ExternalInterrupt(IInterruptController controller) => false;

    public bool InterruptWindow() => false;

    public bool MonitorTrap() => false;

    public bool Window() => false;

    public ulong GuestTsc(ulong tsc) => tsc + 7;
}
