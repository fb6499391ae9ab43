using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Devices;

namespace VmFuzz.Machines;

/// <summary>The state of a machine's components, memory apart, to go back to.</summary>
internal sealed class MachineSnapshot
{
    private readonly ProcessorSnapshot[] _processors;
    private readonly IStateCopy[] _copies;

    public MachineSnapshot(Machine machine)
    {
        _processors = [.. machine.Processors.Select(static processor => new ProcessorSnapshot(processor))];
        var copies = new List<IStateCopy>();
        foreach (IStateful component in machine.WholeState)
        {
            if (component is not ProcessorState)
            {
                copies.Add(component is ICopiedState copied ? copied.CopyState() : new FieldsCopy(component));
            }
        }

        _copies = [.. copies];
    }

    /// <summary>Puts every component back. Those that count their changes and were not touched are left alone.</summary>
    public void Restore(Machine machine)
    {
        for (int i = 0; i < _processors.Length; i++)
        {
            _processors[i].Restore(machine.Processors[i]);
        }

        foreach (IStateCopy copy in _copies)
        {
            copy.Restore();
        }
    }

    private sealed class FieldsCopy : IStateCopy
    {
        private readonly IStateful _component;
        private readonly IVersioned? _versioned;
        private readonly byte[] _bytes;
        private ulong _version;

        public FieldsCopy(IStateful component)
        {
            _component = component;
            _versioned = component as IVersioned;
            int bytes = 0;
            foreach (StateField field in component.Fields)
            {
                bytes += field.Width;
            }

            _bytes = new byte[bytes];
            int offset = 0;
            for (int i = 0; i < component.Fields.Length; i++)
            {
                int width = component.Fields[i].Width;
                component.ReadField(i, _bytes.AsSpan(offset, width));
                offset += width;
            }

            _version = _versioned?.Version ?? 0;
        }

        public void Restore()
        {
            if (_versioned is not null && _versioned.Version == _version)
            {
                return;
            }

            ReadOnlySpan<StateField> fields = _component.Fields;
            int offset = 0;
            for (int i = 0; i < fields.Length; i++)
            {
                int width = fields[i].Width;
                _component.WriteField(i, _bytes.AsSpan(offset, width));
                offset += width;
            }

            (_component as Device)?.Touch();
            _version = _versioned?.Version ?? 0;
        }
    }
}
