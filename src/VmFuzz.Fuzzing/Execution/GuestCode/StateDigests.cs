using VmFuzz.Arch;
using VmFuzz.Machines;

namespace VmFuzz.Fuzzing;

/// <summary>One number a field of a machine, to name what differs between two runs on one machine.</summary>
internal sealed class StateDigests
{
    private const int WidestField = 4096;
    private readonly List<(ComponentId Component, string Field, ulong Value)> _values = [];

    /// <summary>Takes what a machine holds now.</summary>
    public StateDigests(Machine machine)
    {
        Add(machine.Components);
        Add(machine.InnerComponents);
        machine.Processor.FlushWriteTlb();
        _values.Add((ComponentId.Memory, "digest", machine.Memory.Digest()));
    }

    /// <summary>Names the first field that another machine holds otherwise; null when there is none.</summary>
    public string? FirstDifference(StateDigests other)
    {
        for (int i = 0; i < _values.Count; i++)
        {
            if (_values[i].Value != other._values[i].Value)
            {
                return $"{_values[i].Component}.{_values[i].Field}";
            }
        }

        return null;
    }

    private void Add(IReadOnlyList<IStateful> components)
    {
        Span<byte> buffer = stackalloc byte[WidestField];
        foreach (IStateful component in components)
        {
            ReadOnlySpan<StateField> fields = component.Fields;
            for (int i = 0; i < fields.Length; i++)
            {
                Span<byte> value = buffer[..fields[i].Width];
                component.ReadField(i, value);
                _values.Add((component.Component, fields[i].Name, StateHash.Mix(component.Component, fields[i].Id, value)));
            }
        }
    }
}
