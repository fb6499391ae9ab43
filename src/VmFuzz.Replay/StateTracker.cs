using System.Buffers.Binary;
using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Devices;
using VmFuzz.Vmx;

namespace VmFuzz.Replay;

/// <summary>A field that changed between two looks.</summary>
/// <param name="Component">The component.</param>
/// <param name="Field">The field's number.</param>
/// <param name="Value">Its new value; for fields wider than eight bytes their mix.</param>
public readonly record struct StateChange(ComponentId Component, ushort Field, ulong Value);

/// <summary>
/// Follows the state of a machine's components: keeps the last seen value of every field, the digest over all of
/// them, and tells which registers changed.
/// </summary>
/// <remarks>
/// Registers are compared in one pass over memory, the VMCS by its own dirty bits, versioned components only when
/// their version moved. The digest equals <see cref="FullDigest"/> at any time.
/// </remarks>
public sealed class StateTracker
{
    private readonly Tracked[] _tracked;
    private StateChange[] _changes = new StateChange[64];
    private int _changeCount;

    /// <summary>Starts to follow components.</summary>
    /// <param name="components">The components, in the machine's order.</param>
    public StateTracker(IReadOnlyList<IStateful> components)
    {
        _tracked = new Tracked[components.Count];
        for (int i = 0; i < _tracked.Length; i++)
        {
            _tracked[i] = components[i] switch
            {
                ProcessorState processor => new TrackedProcessor(this, processor),
                Vmcs vmcs => new TrackedVmcs(this, vmcs),
                _ => new TrackedAny(this, components[i]),
            };
        }

        Update();
    }

    /// <summary>The sum modulo 2^64 of the mixes of all fields, as of the last <see cref="Update"/>.</summary>
    public ulong Digest { get; private set; }

    /// <summary>Registers of processors that the last <see cref="Update"/> found changed, in a fixed order.</summary>
    public ReadOnlySpan<StateChange> Changes => _changes.AsSpan(0, _changeCount);

    /// <summary>Looks at everything that may have changed.</summary>
    public void Update()
    {
        _changeCount = 0;
        foreach (Tracked tracked in _tracked)
        {
            tracked.Update();
        }
    }

    /// <summary>The digest worked out from nothing.</summary>
    public ulong FullDigest()
    {
        ulong sum = 0;
        foreach (Tracked tracked in _tracked)
        {
            sum += tracked.Full();
        }

        return sum;
    }

    private void Add(in StateChange change)
    {
        if (_changeCount == _changes.Length)
        {
            Array.Resize(ref _changes, _changes.Length * 2);
        }

        _changes[_changeCount++] = change;
    }

    /// <summary>One component: its fields' mixes, and how it finds what changed.</summary>
    private abstract class Tracked
    {
        private readonly byte[] _buffer;

        protected Tracked(StateTracker owner, IStateful component)
        {
            Owner = owner;
            Component = component;
            Id = component.Component;
            Fields = component.Fields.ToArray();
            Mixes = new ulong[Fields.Length];
            _buffer = new byte[Fields.Length == 0 ? 0 : Fields.Max(static field => field.Width)];
        }

        protected StateTracker Owner { get; }

        protected IStateful Component { get; }

        protected ComponentId Id { get; }

        protected StateField[] Fields { get; }

        protected ulong[] Mixes { get; }

        public abstract void Update();

        public ulong Full()
        {
            ulong sum = 0;
            for (int i = 0; i < Fields.Length; i++)
            {
                sum += StateHash.Mix(Id, Fields[i].Id, Read(i));
            }

            return sum;
        }

        protected ReadOnlySpan<byte> Read(int index)
        {
            Span<byte> value = _buffer.AsSpan(0, Fields[index].Width);
            Component.ReadField(index, value);
            return value;
        }

        protected bool Set(int index, ulong mix)
        {
            ulong old = Mixes[index];
            Mixes[index] = mix;
            Owner.Digest += mix - old;
            return mix != old;
        }
    }

    private sealed class TrackedProcessor(StateTracker owner, ProcessorState state) : Tracked(owner, state)
    {
        private readonly byte[] _copy = new byte[ProcessorState.CopyBytes];
        private readonly short[] _changed = new short[state.Fields.Length + 8];
        private bool _seen;

        public override void Update()
        {
            int count = state.Compare(_copy, _changed);
            if (!_seen)
            {
                // A field that is 0 has a mix too.
                _seen = true;
                count = Fields.Length;
                for (int i = 0; i < count; i++)
                {
                    _changed[i] = (short)i;
                }
            }

            for (int i = 0; i < count; i++)
            {
                int index = _changed[i];
                StateField field = Fields[index];
                ulong value = 0;
                ulong mix;
                if (field.Width <= 8)
                {
                    value = state.ReadWord(index);
                    mix = StateHash.Mix(Id, field.Id, value);
                }
                else
                {
                    mix = StateHash.Mix(Id, field.Id, Read(index));
                    value = mix;
                }

                if (Set(index, mix))
                {
                    Owner.Add(new StateChange(Id, field.Id, value));
                }
            }
        }
    }

    private sealed class TrackedVmcs(StateTracker owner, Vmcs vmcs) : Tracked(owner, vmcs)
    {
        private readonly short[] _touched = new short[vmcs.Fields.Length];
        private bool _seen;

        public override void Update()
        {
            int count = vmcs.TakeTouched(_touched);
            for (int i = 0; i < (_seen ? count : Fields.Length); i++)
            {
                int index = _seen ? _touched[i] : i;
                Set(index, StateHash.Mix(Id, Fields[index].Id, vmcs.ReadWord(index)));
            }

            _seen = true;
        }
    }

    private sealed class TrackedAny(StateTracker owner, IStateful component) : Tracked(owner, component)
    {
        private readonly IVersioned? _versioned = component as IVersioned;
        private readonly Device? _device = component as Device;
        private readonly ulong[] _words = new ulong[component.Fields.Length];
        private bool _mixed;
        private ulong _version;
        private bool _seen;

        public override void Update()
        {
            if (_versioned is not null)
            {
                // Devices are many types: without the interface, looking at a version is one load.
                ulong version = _device is not null ? _device.Version : _versioned.Version;
                if (_seen && version == _version)
                {
                    return;
                }

                _version = version;
                _seen = true;
            }

            for (int i = 0; i < Fields.Length; i++)
            {
                ReadOnlySpan<byte> bytes = Read(i);
                if (bytes.Length != 8)
                {
                    Set(i, StateHash.Mix(Id, Fields[i].Id, bytes));
                    continue;
                }

                // A word that did not move needs no mixing; the first look mixes all.
                ulong value = BinaryPrimitives.ReadUInt64LittleEndian(bytes);
                if (value != _words[i] || !_mixed)
                {
                    _words[i] = value;
                    Set(i, StateHash.Mix(Id, Fields[i].Id, value));
                }
            }

            _mixed = true;
        }
    }
}
