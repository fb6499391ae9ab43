using System.Collections.Immutable;
using System.Globalization;
using System.Text;
using VmFuzz.Arch;
using VmFuzz.Machines;

namespace VmFuzz.Replay.Gdb;

/// <summary>What gdb takes the processor for.</summary>
public enum GdbArchitecture : byte
{
    /// <summary>What it is: for a pc 64 bits, for flat guests those of their start.</summary>
    OfMachine,
    /// <summary>16-bit code.</summary>
    I8086,
    /// <summary>32-bit code.</summary>
    I386,
    /// <summary>64-bit code.</summary>
    X64,
}

/// <summary>What gdb is told about the processor: its architecture and its registers, in the order of their numbers.</summary>
/// <remarks>gdb manual "Target Descriptions" and "i386 Features" say which names gdb knows.</remarks>
internal sealed class GdbDescription
{
    private const string Core = "org.gnu.gdb.i386.core";
    private const string Sse = "org.gnu.gdb.i386.sse";
    private const string Segments = "org.gnu.gdb.i386.segments";
    private const string SystemRegisters = "org.vmfuzz.i386.system";

    private static readonly ImmutableArray<string> Names = ["ax", "bx", "cx", "dx", "si", "di", "bp", "sp"];
    private static readonly ImmutableArray<string> Selectors = ["cs", "ss", "ds", "es", "fs", "gs"];

    // Name and field; the two without one are selectors that newer processors do not keep.
    private static readonly ImmutableArray<(string Name, string Field)> FloatControls =
    [
        ("fctrl", "fcw"), ("fstat", "fsw"), ("ftag", "ftw"), ("fiseg", ""), ("fioff", "fip"), ("foseg", ""), ("fooff", "fdp"), ("fop", "fop"),
    ];

    private static readonly ImmutableArray<(string Name, int Bit)> Flags =
    [
        ("CF", 0), ("PF", 2), ("AF", 4), ("ZF", 6), ("SF", 7), ("TF", 8), ("IF", 9), ("DF", 10), ("OF", 11), ("NT", 14), ("RF", 16),
        ("VM", 17), ("AC", 18), ("VIF", 19), ("VIP", 20), ("ID", 21),
    ];

    private static readonly ImmutableArray<(string Name, string Element, int Count)> VectorForms =
    [
        ("v4_float", "ieee_single", 4), ("v2_double", "ieee_double", 2), ("v16_int8", "int8", 16), ("v8_int16", "int16", 8),
        ("v4_int32", "int32", 4), ("v2_int64", "int64", 2),
    ];

    private readonly ImmutableArray<(string Feature, GdbRegister Register)> _rows;

    private GdbDescription(string architecture, bool wide)
    {
        _rows = [.. Build(wide)];
        Registers = [.. _rows.Select(static row => row.Register)];
        ProgramCounter = Registers.IndexOf(Registers.First(static r => r.Field == "rip"));
        Xml = Encoding.ASCII.GetBytes(Write(architecture)).ToImmutableArray();
    }

    /// <summary>A processor that can run 64-bit code.</summary>
    public static GdbDescription X64 { get; } = new("i386:x86-64", wide: true);

    /// <summary>A 32-bit guest.</summary>
    public static GdbDescription I386 { get; } = new("i386", wide: false);

    /// <summary>A 16-bit guest.</summary>
    public static GdbDescription I8086 { get; } = new("i8086", wide: false);

    /// <summary>The registers by number.</summary>
    public ImmutableArray<GdbRegister> Registers { get; }

    /// <summary>Number of the program counter.</summary>
    public int ProgramCounter { get; }

    /// <summary>The description as gdb reads it.</summary>
    public ImmutableArray<byte> Xml { get; }

    /// <summary>The description for a machine.</summary>
    public static GdbDescription Of(Machine machine, GdbArchitecture architecture) => (architecture, machine.Options) switch
    {
        (GdbArchitecture.I8086, _) => I8086,
        (GdbArchitecture.I386, _) => I386,
        (GdbArchitecture.X64, _) => X64,
        (_, { Kind: MachineKind.Flat, FlatMode: FlatMode.Real16 }) => I8086,
        (_, { Kind: MachineKind.Flat, FlatMode: FlatMode.Protected32 }) => I386,
        _ => X64,
    };

    private static IEnumerable<(string Feature, GdbRegister Register)> Build(bool wide)
    {
        int word = wide ? 8 : 4;
        string integer = wide ? "int64" : "int32";
        foreach (string name in wide ? Names : ["ax", "cx", "dx", "bx", "sp", "bp", "si", "di"])
        {
            string type = name is "bp" or "sp" ? "data_ptr" : integer;
            yield return (Core, new((wide ? "r" : "e") + name, word, type, "r" + name) { Writable = true });
        }

        for (int i = 8; wide && i < 16; i++)
        {
            yield return (Core, new($"r{i}", 8, integer, $"r{i}") { Writable = true });
        }

        yield return (Core, new(wide ? "rip" : "eip", word, "code_ptr", "rip") { Writable = true });
        yield return (Core, new("eflags", 4, "eflags", "rflags") { Writable = true });
        foreach (string selector in Selectors)
        {
            yield return (Core, new(selector, 4, "int32", selector + ".selector"));
        }

        for (int i = 0; i < 8; i++)
        {
            yield return (Core, new($"st{i}", 10, "i387_ext", "x87", i * 16) { OnStack = true, Writable = true });
        }

        foreach ((string name, string field) in FloatControls)
        {
            yield return (Core, new(name, 4, "int", field));
        }

        for (int i = 0; i < (wide ? 16 : 8); i++)
        {
            yield return (Sse, new($"xmm{i}", 16, "vec128", "ymm", i * 32) { Writable = true });
        }

        yield return (Sse, new("mxcsr", 4, "int", "mxcsr"));
        foreach (string selector in (string[])["fs", "gs"])
        {
            yield return (wide ? Segments : SystemRegisters, new(selector + "_base", word, integer, selector + ".base") { Writable = true });
        }

        foreach (string selector in Selectors[..4])
        {
            yield return (SystemRegisters, new(selector + "_base", word, integer, selector + ".base"));
        }

        yield return (SystemRegisters, new("cr0", word, integer, "") { WorkedOut = static m => OfGuest(m, "cr0", VmcsField.Cr0GuestHostMask, VmcsField.Cr0ReadShadow) });
        yield return (SystemRegisters, new("cr2", word, integer, "cr2"));
        yield return (SystemRegisters, new("cr3", word, integer, "cr3"));
        yield return (SystemRegisters, new("cr4", word, integer, "") { WorkedOut = static m => OfGuest(m, "cr4", VmcsField.Cr4GuestHostMask, VmcsField.Cr4ReadShadow) });
        yield return (SystemRegisters, new("cr8", word, integer, "") { WorkedOut = static m => m.Kvm?.Vcpu.Cr8 ?? m.InterruptController.TaskPriority });
        yield return (SystemRegisters, new("efer", word, integer, "efer"));
        if (wide)
        {
            yield return (SystemRegisters, new("k_gs_base", 8, integer, "kernel_gs_base"));
        }
    }

    // Under the hypervisor the guest sees the bits of the mask as the read shadow has them (SDM "Guest/Host Masks and Read
    // Shadows for CR0 and CR4").
    private static ulong OfGuest(Machine machine, string field, VmcsField maskField, VmcsField shadowField)
    {
        Span<byte> bytes = stackalloc byte[8];
        new GdbRegister(field, 8, "", field).Read(machine, bytes);
        ulong real = Hex.FromLittleEndian(bytes);
        if (machine.Kvm is not { } kvm)
        {
            return real;
        }

        ulong mask = kvm.Vmx.Current[maskField];
        return (real & ~mask) | (kvm.Vmx.Current[shadowField] & mask);
    }

    private string Write(string architecture)
    {
        var xml = new StringBuilder("<?xml version=\"1.0\"?><!DOCTYPE target SYSTEM \"gdb-target.dtd\"><target>");
        xml.Append(CultureInfo.InvariantCulture, $"<architecture>{architecture}</architecture>");
        string open = "";
        foreach ((string feature, GdbRegister register) in _rows)
        {
            if (feature != open)
            {
                xml.Append(open.Length == 0 ? "" : "</feature>");
                xml.Append(CultureInfo.InvariantCulture, $"<feature name=\"{feature}\">");
                WriteTypes(xml, feature);
                open = feature;
            }

            xml.Append(CultureInfo.InvariantCulture, $"<reg name=\"{register.Name}\" bitsize=\"{register.Bytes * 8}\" type=\"{register.Type}\"/>");
        }

        return xml.Append("</feature></target>").ToString();
    }

    private static void WriteTypes(StringBuilder xml, string feature)
    {
        if (feature == Core)
        {
            xml.Append("<flags id=\"eflags\" size=\"4\">");
            foreach ((string name, int bit) in Flags)
            {
                xml.Append(CultureInfo.InvariantCulture, $"<field name=\"{name}\" start=\"{bit}\" end=\"{bit}\"/>");
            }

            xml.Append("</flags>");
        }
        else if (feature == Sse)
        {
            foreach ((string name, string element, int count) in VectorForms)
            {
                xml.Append(CultureInfo.InvariantCulture, $"<vector id=\"{name}\" type=\"{element}\" count=\"{count}\"/>");
            }

            xml.Append("<union id=\"vec128\">");
            foreach ((string name, _, _) in VectorForms)
            {
                xml.Append(CultureInfo.InvariantCulture, $"<field name=\"{name}\" type=\"{name}\"/>");
            }

            xml.Append("<field name=\"uint128\" type=\"uint128\"/></union>");
        }
    }
}
