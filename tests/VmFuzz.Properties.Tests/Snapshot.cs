using VmFuzz.Arch;
using VmFuzz.Machines;
using VmFuzz.Testing;

namespace VmFuzz.Properties.Tests;

/// <summary>All fields of all components, and memory; made and put back through the public lists only.</summary>
internal sealed class Snapshot
{
    private readonly List<byte[]> _fields = [];
    private readonly byte[] _memory;

    private Snapshot(Machine machine)
    {
        machine.Processor.FlushWriteTlb();
        foreach (IStateful component in machine.Components.Concat(machine.InnerComponents))
        {
            for (int i = 0; i < component.Fields.Length; i++)
            {
                byte[] value = new byte[component.Fields[i].Width];
                component.ReadField(i, value);
                _fields.Add(value);
            }
        }

        _memory = Run.Read(machine, 0, (int)GuestProgram.MemorySize);
    }

    public static Snapshot Of(Machine machine) => new(machine);

    public void Restore(Machine machine)
    {
        machine.Processor.FlushWriteTlb();
        byte[] page = new byte[4096];
        for (int at = 0; at < _memory.Length; at += 4096)
        {
            Assert.True(machine.Memory.TryRead(new Gpa((ulong)at), page));
            if (!page.AsSpan().SequenceEqual(_memory.AsSpan(at, 4096)))
            {
                Assert.True(machine.Memory.TryLoad(new Gpa((ulong)at), _memory.AsSpan(at, 4096)));
            }
        }

        int next = 0;
        foreach (IStateful component in machine.Components.Concat(machine.InnerComponents))
        {
            for (int i = 0; i < component.Fields.Length; i++)
            {
                component.WriteField(i, _fields[next++]);
            }
        }

        machine.StateRestored();
    }
}
