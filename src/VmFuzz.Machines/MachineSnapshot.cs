using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Devices;

namespace VmFuzz.Machines;

/// <summary>The state of a machine's components, memory apart, to go back to.</summary>
internal sealed class MachineSnapshot
{
    private readonly ProcessorSnapshot _processor;
    private readonly Part[] _parts;

    public MachineSnapshot(Machine machine)
    {
        _processor = new ProcessorSnapshot(machine.Processor);
        var parts = new List<Part>();
        foreach (IStateful component in machine.Components.Concat(machine.InnerComponents))
        {
            if (component is not ProcessorState)
            {
                parts.Add(new Part(component));
            }
        }

        _parts = [.. parts];
    }

    /// <summary>Puts every component back. Devices that were not touched are left alone.</summary>
    public void Restore(Machine machine)
    {
        _processor.Restore(machine.Processor);
        foreach (Part part in _parts)
        {
            part.Restore();
        }
    }

    private sealed class Part
    {
        private readonly IStateful _component;
        private readonly Device? _device;
        private readonly byte[] _bytes;
        private ulong _version;

        public Part(IStateful component)
        {
            _component = component;
            _device = component as Device;
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

            _version = _device?.Version ?? 0;
        }

        public void Restore()
        {
            if (_device is not null && _device.Version == _version)
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

            _device?.Touch();
            _version = _device?.Version ?? 0;
        }
    }
}
