using VmFuzz.Arch;

namespace VmFuzz.Devices;

/// <summary>
/// A device model. All its state that outlives a call is in its fields; the bus, the event queue and its named input
/// methods are the only ways in, and each of them counts <see cref="Version"/> up.
/// </summary>
/// <remarks>
/// Levels of interrupt lines belong to the controller at their other end: restoring a device drives no line.
/// </remarks>
public abstract class Device : IStateful, IVersioned
{
    /// <summary>Makes a device with the number of its component.</summary>
    /// <param name="component">The number; two devices of one machine never share it.</param>
    protected Device(ComponentId component) => Component = component;

    /// <inheritdoc/>
    public ComponentId Component { get; }

    /// <inheritdoc/>
    public ReadOnlySpan<StateField> Fields => Map.Fields;

    /// <summary>
    /// Counts accesses, events and inputs. A digest taken at an equal version is still right. Not part of the state.
    /// </summary>
    public ulong Version { get; private set; }

    /// <summary>The list of this device's fields.</summary>
    protected abstract StateMap Map { get; }

    /// <summary>Says that something reached the device. Called by the bus, the event queue and the device's own input methods.</summary>
    public void Touch() => Version++;

    /// <summary>Puts every field back to its value after power-on. Lines fall, events are cancelled or set again.</summary>
    public abstract void Reset();

    /// <inheritdoc/>
    public void ReadField(int index, Span<byte> destination) => Map.Read(this, index, destination);

    /// <inheritdoc/>
    public void WriteField(int index, ReadOnlySpan<byte> source)
    {
        Map.Write(this, index, source);
        Touch();
        OnStateRestored();
    }

    /// <summary>
    /// Rebuilds what is derived from fields, such as scheduled events. Called after every restored field, so it bears
    /// any combination of values and is idempotent.
    /// </summary>
    protected virtual void OnStateRestored()
    {
    }
}

/// <summary>The receiving end of interrupt lines.</summary>
public interface IInterruptSink
{
    /// <summary>Sets the level of a line. Setting the level it has changes nothing.</summary>
    /// <param name="line">Number of the line, as the receiver counts.</param>
    /// <param name="level">True for asserted.</param>
    void SetLine(int line, bool level);
}

/// <summary>One interrupt line: a receiver and a number. The default value is a line that ends nowhere.</summary>
/// <param name="Sink">The receiver, or null.</param>
/// <param name="Number">Number of the line at the receiver.</param>
public readonly record struct InterruptLine(IInterruptSink? Sink, int Number)
{
    /// <summary>Drives the line.</summary>
    public void Set(bool level) => Sink?.SetLine(Number, level);
}

/// <summary>Where console bytes go.</summary>
public interface IConsoleSink
{
    /// <summary>Takes one byte.</summary>
    void Write(byte value);
}

/// <summary>What a machine does when a device asks for a reset or moves the A20 gate.</summary>
public interface IMachineControl
{
    /// <summary>A device pulls the processor's reset line.</summary>
    /// <param name="reason">Which device and how, a constant text for the report.</param>
    void RequestReset(string reason);

    /// <summary>A device switches the machine off.</summary>
    /// <param name="reason">Which device and how, a constant text for the report.</param>
    void RequestPowerOff(string reason);

    /// <summary>A device sets its A20 gate. The machine combines the gates: address line 20 passes when any gate is open.</summary>
    /// <param name="gate">Which gate.</param>
    /// <param name="enabled">Whether it lets the line through.</param>
    void SetA20(A20Gate gate, bool enabled);
}

/// <summary>The two gates of address line 20.</summary>
public enum A20Gate : byte
{
    /// <summary>Output port bit 1 of the keyboard controller.</summary>
    KeyboardController = 0,
    /// <summary>Port 0x92 bit 1.</summary>
    Port92 = 1,
}
