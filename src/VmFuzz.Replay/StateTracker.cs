using VmFuzz.Arch;
using VmFuzz.Devices;

namespace VmFuzz.Replay;

/// <summary>A field that changed between two looks.</summary>
/// <param name="Component">The component.</param>
/// <param name="Field">The field's number.</param>
/// <param name="Value">Its new value; for fields wider than eight bytes their mix.</param>
public readonly record struct StateChange(ComponentId Component, ushort Field, ulong Value);

/// <summary>
/// Follows the state of a machine's components: keeps the last seen value of every field, the digest over all of
/// them, and tells what changed.
/// </summary>
/// <remarks>Devices are looked at only when their version moved. The digest equals <see cref="FullDigest"/> at any time.</remarks>
public sealed class StateTracker
{
    private readonly Tracked[] _tracked;
    private readonly byte[] _buffer = new byte[4096];
    private StateChange[] _changes = new StateChange[64];
    private int _changeCount;

    /// <summary>Starts to follow components.</summary>
    /// <param name="components">The components, in the machine's order.</param>
    /// <param name="reported">Components whose changes are listed by <see cref="Changes"/>; all count for the digest.</param>
    public StateTracker(IReadOnlyList<IStateful> components, Func<IStateful, bool> reported)
    {
        _tracked = new Tracked[components.Count];
        for (int i = 0; i < _tracked.Length; i++)
        {
            _tracked[i] = new Tracked(components[i], reported(components[i]));
        }

        Update();
    }

    /// <summary>The sum modulo 2^64 of the mixes of all fields, as of the last <see cref="Update()"/>.</summary>
    public ulong Digest { get; private set; }

    /// <summary>What the last <see cref="Update()"/> found, in a fixed order.</summary>
    public ReadOnlySpan<StateChange> Changes => _changes.AsSpan(0, _changeCount);

    /// <summary>Looks at everything that may have changed.</summary>
    public void Update()
    {
        _changeCount = 0;
        foreach (Tracked tracked in _tracked)
        {
            if (tracked.Device is { } device)
            {
                if (tracked.Version == device.Version && tracked.Seen)
                {
                    continue;
                }

                tracked.Version = device.Version;
            }

            tracked.Seen = true;
            Update(tracked);
        }
    }

    /// <summary>The digest worked out from nothing.</summary>
    public ulong FullDigest()
    {
        ulong sum = 0;
        foreach (Tracked tracked in _tracked)
        {
            ReadOnlySpan<StateField> fields = tracked.Component.Fields;
            for (int i = 0; i < fields.Length; i++)
            {
                Span<byte> value = _buffer.AsSpan(0, fields[i].Width);
                tracked.Component.ReadField(i, value);
                sum += StateHash.Mix(tracked.Component.Component, fields[i].Id, value);
            }
        }

        return sum;
    }

    private void Update(Tracked tracked)
    {
        IStateful component = tracked.Component;
        ReadOnlySpan<StateField> fields = component.Fields;
        int offset = 0;
        for (int i = 0; i < fields.Length; i++)
        {
            int width = fields[i].Width;
            Span<byte> value = _buffer.AsSpan(0, width);
            component.ReadField(i, value);
            Span<byte> last = tracked.Last.AsSpan(offset, width);
            offset += width;
            if (value.SequenceEqual(last) && tracked.Mixes[i] != 0)
            {
                continue;
            }

            value.CopyTo(last);
            ulong mix = StateHash.Mix(component.Component, fields[i].Id, value);
            Digest += mix - tracked.Mixes[i];
            tracked.Mixes[i] = mix;
            if (tracked.Reported)
            {
                Add(new StateChange(component.Component, fields[i].Id, width <= 8 ? Little(value) : mix));
            }
        }
    }

    private void Add(in StateChange change)
    {
        if (_changeCount == _changes.Length)
        {
            Array.Resize(ref _changes, _changes.Length * 2);
        }

        _changes[_changeCount++] = change;
    }

    private static ulong Little(ReadOnlySpan<byte> bytes)
    {
        ulong value = 0;
        for (int i = bytes.Length - 1; i >= 0; i--)
        {
            value = (value << 8) | bytes[i];
        }

        return value;
    }

    private sealed class Tracked
    {
        public Tracked(IStateful component, bool reported)
        {
            Component = component;
            Device = component as Device;
            Reported = reported;
            int bytes = 0;
            foreach (StateField field in component.Fields)
            {
                bytes += field.Width;
            }

            Last = new byte[bytes];
            Mixes = new ulong[component.Fields.Length];
        }

        public IStateful Component { get; }

        public Device? Device { get; }

        public bool Reported { get; }

        public byte[] Last { get; }

        public ulong[] Mixes { get; }

        public ulong Version { get; set; }

        public bool Seen { get; set; }
    }
}
