using System.Buffers.Binary;
using System.Collections.Immutable;
using VmFuzz.Arch;

namespace VmFuzz.Devices;

/// <summary>
/// Scheduled events of devices, in a small sorted array. Events with one deadline run in the order in which they were
/// scheduled; scheduling an event again with the deadline it has keeps its place.
/// </summary>
/// <remarks>
/// The order is the place in the array; there is no counter, so nothing depends on how many events ever were.
/// Devices derive their events from their fields, but not the order of ties: a machine that lists the queue's image
/// (<see cref="Save"/>) as a field and restores it after the devices gets ties right as well.
/// </remarks>
public sealed class EventQueue : IEventQueue, IStateful, IVersioned
{
    /// <summary>The most events that are scheduled at once.</summary>
    public const int Capacity = 64;

    /// <summary>Bytes of the image that <see cref="Save"/> makes.</summary>
    public const int ImageSize = Capacity * EntrySize;

    private const int EntrySize = 12;
    private static readonly ImmutableArray<StateField> FieldTable = [new(0, "image", ImageSize)];
    private readonly Entry[] _entries = new Entry[Capacity];
    private readonly List<IEventTarget> _targets = [];
    private int _count;

    /// <inheritdoc/>
    public ComponentId Component => ComponentId.Events;

    /// <inheritdoc/>
    public ReadOnlySpan<StateField> Fields => FieldTable.AsSpan();

    /// <inheritdoc/>
    public ulong Version { get; private set; }

    /// <summary>Called when an event becomes the first one: time may now have to stop earlier.</summary>
    public Action? FirstMoved { get; set; }

    /// <summary>How many events are scheduled.</summary>
    public int Count => _count;

    /// <inheritdoc/>
    public ulong NextDeadline => _count == 0 ? ulong.MaxValue : _entries[0].Deadline;

    /// <summary>
    /// Makes a target known before it schedules, so that its number in images does not depend on who schedules first.
    /// Machines call it for every device in a fixed order; a target unknown when it schedules gets the next number.
    /// </summary>
    public void Register(IEventTarget target)
    {
        ArgumentNullException.ThrowIfNull(target);
        NumberOf(target);
    }

    /// <inheritdoc/>
    /// <exception cref="InvalidOperationException">More than <see cref="Capacity"/> events would be scheduled.</exception>
    public void Schedule(IEventTarget target, int token, ulong deadline)
    {
        ArgumentNullException.ThrowIfNull(target);
        int old = Find(target, token);
        if (old >= 0)
        {
            if (_entries[old].Deadline == deadline)
            {
                return;
            }

            RemoveAt(old);
        }

        if (_count == Capacity)
        {
            throw new InvalidOperationException($"More than {Capacity} events are scheduled.");
        }

        int place = _count;
        while (place > 0 && _entries[place - 1].Deadline > deadline)
        {
            _entries[place] = _entries[place - 1];
            place--;
        }

        _entries[place] = new Entry(target, token, deadline);
        _count++;
        Version++;
        if (place == 0)
        {
            FirstMoved?.Invoke();
        }
    }

    /// <inheritdoc/>
    public void Cancel(IEventTarget target, int token)
    {
        int index = Find(target, token);
        if (index >= 0)
        {
            RemoveAt(index);
        }
    }

    /// <summary>Removes all events.</summary>
    public void Clear()
    {
        Array.Clear(_entries);
        _count = 0;
        Version++;
    }

    /// <summary>
    /// Runs, in order, the events whose deadline is at or before <paramref name="now"/>, also those that are scheduled
    /// meanwhile. A target therefore schedules its next event after the time it is given.
    /// </summary>
    /// <returns>How many ran.</returns>
    public int RunDue(ulong now)
    {
        int ran = 0;
        while (_count != 0 && _entries[0].Deadline <= now)
        {
            Entry entry = _entries[0];
            RemoveAt(0);
            (entry.Target as Device)?.Touch();
            entry.Target.OnEvent(entry.Token, now);
            ran++;
        }

        return ran;
    }

    /// <summary>Writes the queue's image: for each event in order its target's number, token and deadline.</summary>
    /// <param name="image">Exactly <see cref="ImageSize"/> bytes.</param>
    public void Save(Span<byte> image)
    {
        CheckImage(image.Length);
        image.Clear();
        for (int i = 0; i < _count; i++)
        {
            Span<byte> place = image.Slice(i * EntrySize, EntrySize);
            BinaryPrimitives.WriteUInt16LittleEndian(place, (ushort)(NumberOf(_entries[i].Target) + 1));
            BinaryPrimitives.WriteUInt16LittleEndian(place[2..], (ushort)_entries[i].Token);
            BinaryPrimitives.WriteUInt64LittleEndian(place[4..], _entries[i].Deadline);
        }
    }

    /// <summary>Replaces all events by those of an image. Entries of unknown targets, or out of order, end it.</summary>
    /// <param name="image">Exactly <see cref="ImageSize"/> bytes.</param>
    /// <returns>Whether the whole image was valid.</returns>
    public bool Restore(ReadOnlySpan<byte> image)
    {
        CheckImage(image.Length);
        Clear();
        for (int i = 0; i < Capacity; i++)
        {
            ReadOnlySpan<byte> place = image.Slice(i * EntrySize, EntrySize);
            int number = BinaryPrimitives.ReadUInt16LittleEndian(place);
            ulong deadline = BinaryPrimitives.ReadUInt64LittleEndian(place[4..]);
            if (number == 0)
            {
                return true;
            }

            if (number > _targets.Count || (_count != 0 && _entries[_count - 1].Deadline > deadline))
            {
                return false;
            }

            _entries[_count++] = new Entry(_targets[number - 1], BinaryPrimitives.ReadUInt16LittleEndian(place[2..]), deadline);
        }

        return true;
    }

    /// <inheritdoc/>
    public void ReadField(int index, Span<byte> destination) => Save(destination);

    /// <inheritdoc/>
    public void WriteField(int index, ReadOnlySpan<byte> source) => Restore(source);

    private static void CheckImage(int length)
    {
        if (length != ImageSize)
        {
            throw new ArgumentException($"An image has {ImageSize} bytes.", nameof(length));
        }
    }

    private int NumberOf(IEventTarget target)
    {
        for (int i = 0; i < _targets.Count; i++)
        {
            if (ReferenceEquals(_targets[i], target))
            {
                return i;
            }
        }

        _targets.Add(target);
        return _targets.Count - 1;
    }

    private int Find(IEventTarget target, int token)
    {
        for (int i = 0; i < _count; i++)
        {
            if (ReferenceEquals(_entries[i].Target, target) && _entries[i].Token == token)
            {
                return i;
            }
        }

        return -1;
    }

    private void RemoveAt(int index)
    {
        Version++;
        _count--;
        for (int i = index; i < _count; i++)
        {
            _entries[i] = _entries[i + 1];
        }

        _entries[_count] = default;
    }

    private readonly record struct Entry(IEventTarget Target, int Token, ulong Deadline);
}

/// <summary>Exact conversion between virtual nanoseconds and the ticks of an oscillator that started at time 0.</summary>
/// <param name="Frequency">Ticks a second, 1 to 10^9.</param>
public readonly record struct Oscillator(ulong Frequency)
{
    /// <summary>Nanoseconds in a second.</summary>
    public const ulong Second = 1_000_000_000;

    /// <summary>Whole ticks that have passed at a time: floor(ns * f / 10^9).</summary>
    /// <param name="nanoseconds">Virtual time.</param>
    public ulong Ticks(ulong nanoseconds) =>
        ((nanoseconds / Second) * Frequency) + ((nanoseconds % Second) * Frequency / Second);

    /// <summary>The first nanosecond at which a tick has passed; <see cref="ulong.MaxValue"/> when time does not reach it.</summary>
    /// <param name="ticks">Number of the tick.</param>
    public ulong Nanoseconds(ulong ticks)
    {
        ulong seconds = ticks / Frequency;
        return seconds >= ulong.MaxValue / Second
            ? ulong.MaxValue
            : (seconds * Second) + ((((ticks % Frequency) * Second) + Frequency - 1) / Frequency);
    }
}
