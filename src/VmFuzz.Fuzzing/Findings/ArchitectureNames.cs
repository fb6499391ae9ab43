using System.Collections.Immutable;
using System.Globalization;
using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Vmx;

namespace VmFuzz.Fuzzing;

/// <summary>Names of exit reasons, events, exceptions and registers for people.</summary>
public static class ArchitectureNames
{
    private static readonly ImmutableArray<string> Exceptions =
    [
        "#DE", "#DB", "2", "#BP", "#OF", "#BR", "#UD", "#NM", "#DF", "9", "#TS", "#NP", "#SS", "#GP", "#PF", "15",
        "#MF", "#AC", "#MC", "#XM", "#VE", "#CP", "22", "23", "24", "25", "26", "27", "28", "29", "30", "31",
    ];

    private static readonly ImmutableArray<string> Registers = RegisterNames();

    private static readonly ImmutableArray<string> Capabilities =
    [
        "basic", "pin-based controls", "primary controls", "exit controls", "entry controls", "misc", "CR0 fixed to 1",
        "CR0 allowed 1", "CR4 fixed to 1", "CR4 allowed 1", "VMCS enumeration", "secondary controls", "EPT and VPID",
        "true pin-based controls", "true primary controls", "true exit controls", "true entry controls", "VM functions",
        "tertiary controls", "secondary exit controls",
    ];

    /// <summary>Name of an exit reason; bit 31 (entry failure) is shown too.</summary>
    /// <param name="reason">The 32 bits of the field; bit 31 alone stands for VMfail, which has no exit.</param>
    public static string Exit(ulong reason)
    {
        if (reason == VmExit.EntryFailureBit)
        {
            return "VMfail";
        }

        var basic = (ExitReason)(ushort)reason;
        string name = Enum.IsDefined(basic) ? basic.ToString() : string.Create(CultureInfo.InvariantCulture, $"reason {(ushort)reason}");
        return (reason & (1UL << 31)) != 0 ? name + ", entry failed" : name;
    }

    /// <summary>Name of an exception: <c>#PF</c>; of those without one the number.</summary>
    /// <param name="vector">0 to 31.</param>
    public static string Exception(byte vector) => vector < Exceptions.Length ? Exceptions[vector] : InputLines.Decimal(vector);

    /// <summary>Type and vector of an interruption-information field.</summary>
    /// <returns>Null when it is not valid.</returns>
    public static string? Interruption(uint value)
    {
        var info = new InterruptionInfo(value);
        if (!info.Valid)
        {
            return null;
        }

        string vector = info.Type == InterruptionType.HardwareException && info.Vector < 32
            ? Exceptions[info.Vector]
            : string.Create(CultureInfo.InvariantCulture, $"vector 0x{info.Vector:x2}");
        return info.Type == InterruptionType.Nmi ? "NMI" : $"{info.Type} {vector}{(info.ErrorCodeValid ? " with error code" : "")}";
    }

    /// <summary>Name of a field of the processor's state.</summary>
    /// <param name="register">Its number.</param>
    public static string Register(ushort register) =>
        register < Registers.Length && Registers[register].Length != 0 ? Registers[register] : "register " + InputLines.Decimal(register);

    /// <summary>Name of a capability MSR.</summary>
    /// <param name="msr">0x480 to 0x493.</param>
    public static string Capability(uint msr) =>
        msr - Msr.VmxBasic < (uint)Capabilities.Length ? Capabilities[(int)(msr - Msr.VmxBasic)] : "MSR";

    private static ImmutableArray<string> RegisterNames()
    {
        int most = 0;
        foreach (StateField field in ProcessorState.List)
        {
            most = Math.Max(most, field.Id);
        }

        var names = new string[most + 1];
        Array.Fill(names, "");
        foreach (StateField field in ProcessorState.List)
        {
            names[field.Id] = field.Name;
        }

        return [.. names];
    }
}
