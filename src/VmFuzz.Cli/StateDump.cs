using System.Globalization;
using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Kvm;
using VmFuzz.Machines;

namespace VmFuzz.Cli;

/// <summary>The processors' state at the end of a run.</summary>
internal static class StateDump
{
    /// <summary>Fields of at most eight bytes, by name; those of further processors begin with their number, as in <c>cpu1.rip</c>.</summary>
    public static IReadOnlyList<KeyValuePair<string, string>> Of(Machine machine)
    {
        var result = new List<KeyValuePair<string, string>>();
        foreach (Processor processor in machine.Processors)
        {
            Add(machine, processor.Fields, processor.Index == 0 ? "" : string.Create(CultureInfo.InvariantCulture, $"cpu{processor.Index}."), result);
        }

        return result;
    }

    private static void Add(Machine machine, ProcessorState state, string prefix, List<KeyValuePair<string, string>> result)
    {
        VcpuRegs regs = default;
        VcpuSregs system = default;
        bool hypervisor = machine.Kvm is { } kvm && kvm.Vcpu.GetRegs(out regs) == 0 && kvm.Vcpu.GetSregs(out system) == 0;
        for (int i = 0; i < state.Fields.Length; i++)
        {
            StateField field = state.Fields[i];
            if (field.Width <= 8)
            {
                ulong value = state.ReadWord(i);
                value = hypervisor ? OfGuest(field, value, regs, system) : value;
                result.Add(new(prefix + field.Name, "0x" + value.ToString("x", CultureInfo.InvariantCulture)));
            }
        }
    }

    // Under the hypervisor some registers of the guest are not those of the processor.
    private static ulong OfGuest(in StateField field, ulong value, in VcpuRegs regs, in VcpuSregs system) => field.Name switch
    {
        _ when field.Id < 16 => regs.Gprs[field.Id],
        "rip" => regs.Rip,
        "rflags" => regs.RFlags,
        "cr0" => system.Cr0,
        "cr2" => system.Cr2,
        "cr3" => system.Cr3,
        "cr4" => system.Cr4,
        "efer" => system.Efer,
        "apic_base" => system.ApicBase,
        _ => value,
    };

    /// <summary>Four fields a line.</summary>
    public static void Write(TextWriter writer, IReadOnlyList<KeyValuePair<string, string>> fields)
    {
        for (int i = 0; i < fields.Count; i += 4)
        {
            var line = new System.Text.StringBuilder(" ");
            for (int j = i; j < Math.Min(i + 4, fields.Count); j++)
            {
                line.Append(' ').Append((fields[j].Key + "=" + fields[j].Value).PadRight(34));
            }

            writer.WriteLine(line.ToString().TrimEnd());
        }
    }
}
