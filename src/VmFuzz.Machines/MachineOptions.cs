using System.Collections.Immutable;
using VmFuzz.Arch;

namespace VmFuzz.Machines;

/// <summary>Memory, devices and loader.</summary>
public enum MachineKind : byte
{
    /// <summary>Memory, one output port, debug exit; starts in any state.</summary>
    Flat,
    /// <summary>A PC as firmware expects it.</summary>
    Pc,
    /// <summary>The smallest machine that a kernel boots on, without firmware.</summary>
    Microvm,
    /// <summary>A PC with what bare-metal tests of hypervisors use.</summary>
    UnitTest,
    /// <summary>Memory and registers that came from elsewhere, and nothing else.</summary>
    Imported,
}

/// <summary>Who is in charge.</summary>
public enum Accelerator : byte
{
    /// <summary>Guest software runs directly on the processor model.</summary>
    Bare,
    /// <summary>Guest software runs in a VM of the C# hypervisor, on the same processor model, with exits.</summary>
    Kvm,
}

/// <summary>Mode in which a flat guest starts.</summary>
public enum FlatMode : byte
{
    /// <summary>Real mode.</summary>
    Real16,
    /// <summary>32-bit protected mode, flat segments, no paging.</summary>
    Protected32,
    /// <summary>64-bit mode under identity-mapped 4-level paging.</summary>
    Long64,
}

/// <summary>An image that is part of the start state.</summary>
/// <param name="Role">What the machine does with it: one of <see cref="Roles"/>.</param>
/// <param name="Name">File name for people, without folder.</param>
/// <param name="Bytes">The content.</param>
public sealed record MachineImage(string Role, string Name, ReadOnlyMemory<byte> Bytes)
{
    /// <summary>
    /// A fuzzer's input, from which whoever makes the machine completes its start state (<see cref="MachineVariants.Prepare"/>);
    /// the machine itself does nothing with it.
    /// </summary>
    public const string InputRole = "input";

    /// <summary>Raw code of a flat guest.</summary>
    public const string CodeRole = "code";

    /// <summary>Firmware.</summary>
    public const string BiosRole = "bios";

    /// <summary>A kernel that is loaded by a boot protocol.</summary>
    public const string KernelRole = "kernel";

    /// <summary>Its initial RAM disk.</summary>
    public const string InitrdRole = "initrd";

    /// <summary>
    /// The state that a run goes on from, which whoever makes the machine puts into it (<see cref="MachineVariants.Prepare"/>).
    /// </summary>
    public const string SnapshotRole = "snapshot";

    /// <summary>Whether it is a kernel that some boot protocol loads, by its first bytes.</summary>
    public bool IsKernel => BootLoader.Knows(Bytes);

    /// <summary>All roles.</summary>
    public static ImmutableArray<string> Roles { get; } = [CodeRole, BiosRole, KernelRole, InitrdRole, InputRole, SnapshotRole, MapRole];

    /// <summary>The memory of an imported machine (<see cref="MemoryMap"/>).</summary>
    public const string MapRole = "map";

    /// <summary>Largest image of a role. Unit: bytes.</summary>
    public static int MaxBytesOf(string role) => role == SnapshotRole ? MachineOptions.MaxSnapshot : MachineOptions.MaxImage;
}

/// <summary>Everything a run starts from. A value; a trace's header holds it as settings and images.</summary>
public sealed record MachineOptions
{
    /// <summary>Most memory a machine can have: 16 GiB.</summary>
    public const ulong MaxMemory = 16UL << 30;

    /// <summary>Largest image: 64 MiB.</summary>
    public const int MaxImage = 64 << 20;

    /// <summary>Largest state to go on from: 1 GiB.</summary>
    public const int MaxSnapshot = 1 << 30;

    /// <summary>Most virtual nanoseconds that an exit can cost: one second.</summary>
    public const ulong MaxExitCost = 1_000_000_000;

    /// <summary>Most instructions that a limit can name: 2^62.</summary>
    public const ulong MaxInstructionLimit = 1UL << 62;

    /// <summary>Longest text to wait for. Unit: bytes of UTF-8.</summary>
    public const int MaxUntilSerial = 4096;

    /// <summary>The last second that the real-time clock can start at: the end of 2099.</summary>
    public const long MaxRtcBase = 4_102_444_799;

    /// <summary>Memory, devices and loader.</summary>
    public MachineKind Kind { get; init; } = MachineKind.Flat;

    /// <summary>Who is in charge.</summary>
    public Accelerator Accelerator { get; init; } = Accelerator.Bare;

    /// <summary>Bytes of memory; a multiple of 1 MiB, at least 1 MiB.</summary>
    public ulong Memory { get; init; } = 16UL << 20;

    /// <summary>Most VCPUs: as many as the flat model of logical destinations names.</summary>
    public const int MaxProcessors = 8;

    /// <summary>Number of VCPUs. More than one are on the boards of a PC, under the accelerator bare.</summary>
    public int Processors { get; init; } = 1;

    /// <summary>Name of the processor model.</summary>
    public string Cpu { get; init; } = DefaultCpu;

    /// <summary>Name of the default processor model.</summary>
    public const string DefaultCpu = "vmfuzz64";

    /// <summary>Virtual nanoseconds that a VM exit costs.</summary>
    public ulong ExitCost { get; init; } = 1000;

    /// <summary>Seconds since 1970 at which the real-time clock starts.</summary>
    public long RtcBase { get; init; } = 946_684_800;

    /// <summary>Mode in which a flat guest starts.</summary>
    public FlatMode FlatMode { get; init; } = FlatMode.Long64;

    /// <summary>Address at which a flat guest is loaded and starts.</summary>
    public ulong LoadAddress { get; init; } = 0x10000;

    /// <summary>How a kernel is loaded and entered.</summary>
    public BootProtocol Boot { get; init; } = BootProtocol.Auto;

    /// <summary>Command line of a kernel.</summary>
    public string CommandLine { get; init; } = "";

    /// <summary>Text on the console that ends the run; empty for none.</summary>
    public string UntilSerial { get; init; } = "";

    /// <summary>Retired instructions after which the run ends; 0 for no limit.</summary>
    public ulong MaxInstructions { get; init; }

    /// <summary>
    /// Whether a user's own userspace answers, through the door, reads behind which there is no device; otherwise they
    /// float and read all ones.
    /// </summary>
    public bool UserAnswers { get; init; }

    /// <summary>Images of the start state.</summary>
    public ImmutableArray<MachineImage> Images { get; init; } = [];

    /// <summary>The image of a role, or null.</summary>
    public MachineImage? Image(string role)
    {
        foreach (MachineImage image in Images)
        {
            if (image.Role == role)
            {
                return image;
            }
        }

        return null;
    }

    /// <summary>What is wrong with the options, in one line that says what to do; null when nothing is.</summary>
    public string? Validate()
    {
        if (Memory < 1UL << 20 || Memory > MaxMemory || (Memory & 0xFFFFF) != 0)
        {
            return $"-m: {Memory} bytes is not a whole number of MiB from 1 MiB to 16 GiB";
        }

        if (VmFuzz.Cpu.CpuModels.TryParse(Cpu, out _) is { } wrong)
        {
            return $"-cpu: {wrong}";
        }

        if (Processors is < 1 or > MaxProcessors)
        {
            return $"-smp: a machine has 1 to {MaxProcessors} processors, not {Processors}";
        }

        if (Processors > 1 && Kind is (MachineKind.Flat or MachineKind.Microvm))
        {
            return $"-smp {Processors}: only -machine pc and unit-test have the local APICs that start further processors";
        }

        if (Processors > 1 && Accelerator != Accelerator.Bare)
        {
            return $"-smp {Processors}: a VM of -accel kvm has one processor; use -accel bare";
        }

        if (ExitCost > MaxExitCost)
        {
            return $"--exit-cost: {ExitCost} ns is more than {MaxExitCost}";
        }

        if (MaxInstructions > MaxInstructionLimit)
        {
            return $"--max-instructions: {MaxInstructions} is more than {MaxInstructionLimit}";
        }

        if (RtcBase is < 0 or > MaxRtcBase)
        {
            return $"-rtc: the clock cannot start {RtcBase} seconds after 1970; give a year from 1970 to 2099";
        }

        if (System.Text.Encoding.UTF8.GetByteCount(UntilSerial) > MaxUntilSerial)
        {
            return $"--until-serial: the text is longer than {MaxUntilSerial} bytes";
        }

        if (System.Text.Encoding.UTF8.GetByteCount(CommandLine) > BootRequest.MaxCommandLine)
        {
            return $"-append: the command line is longer than {BootRequest.MaxCommandLine} bytes";
        }

        foreach (MachineImage image in Images)
        {
            if (image.Bytes.Length == 0)
            {
                return $"{image.Name}: the image is empty";
            }

            int most = MachineImage.MaxBytesOf(image.Role);
            if (image.Bytes.Length > most)
            {
                return $"{image.Name}: the image has {image.Bytes.Length} bytes; at most {most} can be loaded";
            }
        }

        return Kind switch
        {
            MachineKind.Pc => PcMachine.ValidateImages(this),
            MachineKind.Microvm => MicrovmMachine.ValidateImages(this),
            MachineKind.UnitTest => UnitTestMachine.ValidateImages(this),
            MachineKind.Imported => ImportedMachine.ValidateImages(this),
            _ => FlatMachine.ValidateImages(this),
        };
    }
}
