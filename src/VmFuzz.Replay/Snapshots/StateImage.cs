using VmFuzz.Arch;
using VmFuzz.Machines;
using VmFuzz.Memory;
using VmFuzz.Trace;

namespace VmFuzz.Replay.Snapshots;

/// <summary>
/// A machine's whole state as MessagePack: <c>[version, [[component, [[field, bin]…]]…], digest, memory digest, [[address,
/// bin]…]]</c>. Components and fields stand in the machine's order; a run of memory is whole pages, at rising places; pages that
/// are zero are left out.
/// </summary>
internal static class StateImage
{
    private const ulong Version = 1;

    // Pages in one run of memory.
    private const int MostPages = 256;

    // Head of an element, at most.
    private const int Head = 16;

    /// <summary>Writes the state of a machine that was paused.</summary>
    /// <exception cref="TraceFileException">It is larger than a snapshot can be.</exception>
    public static byte[] Encode(Machine machine)
    {
        List<(ulong Address, int First, int Count)> runs = Runs(machine.Memory);
        long size = 64;
        foreach (IStateful component in machine.WholeState)
        {
            size += Head;
            foreach (StateField field in component.Fields)
            {
                size += Head + field.Width;
            }
        }

        foreach ((_, _, int count) in runs)
        {
            size += Head + ((long)count * Gpa.PageSize);
        }

        if (size > MachineOptions.MaxSnapshot)
        {
            throw new TraceFileException($"the machine's memory holds more than a snapshot can, which is {MachineOptions.MaxSnapshot >> 20} MiB");
        }

        byte[] bytes = new byte[size];
        var writer = new MsgPackWriter(bytes);
        writer.WriteArrayHeader(5);
        writer.WriteUInt(Version);
        WriteComponents(ref writer, [.. machine.WholeState]);
        (ulong state, ulong memory) = Digests(machine);
        writer.WriteUInt(state);
        writer.WriteUInt(memory);
        writer.WriteArrayHeader(runs.Count);
        foreach ((ulong address, int first, int count) in runs)
        {
            writer.WriteArrayHeader(2);
            writer.WriteUInt(address);
            writer.WriteBinHeader(count * Gpa.PageSize);
            for (int i = 0; i < count; i++)
            {
                writer.WriteBytes(machine.Memory.Contents(first + i));
            }
        }

        return writer.Failed ? throw new InvalidOperationException("The size of a snapshot was worked out wrongly.") : writer.Written.ToArray();
    }

    /// <summary>Puts a state into a machine that was made from the same options.</summary>
    /// <exception cref="TraceFileException">The bytes are not the state of such a machine.</exception>
    public static void Restore(ReadOnlySpan<byte> bytes, Machine machine)
    {
        var reader = new MsgPackReader(bytes);
        if (!reader.TryReadArrayHeader(5, out int elements) || elements != 5 || !reader.TryReadUInt(out ulong version))
        {
            throw Broken("it is damaged");
        }

        if (version != Version)
        {
            throw Broken($"its version is {version}, this engine reads version {Version}");
        }

        ReadComponents(ref reader, [.. machine.WholeState]);
        if (!reader.TryReadUInt(out ulong state) || !reader.TryReadUInt(out ulong memory))
        {
            throw Broken("it is damaged");
        }

        ReadMemory(ref reader, machine.Memory);
        if (!reader.Finished)
        {
            throw Broken("it is damaged");
        }

        machine.StateRestored();
        if (Digests(machine) != (state, memory))
        {
            throw Broken("the machine does not take it as it was saved");
        }
    }

    private static (ulong State, ulong Memory) Digests(Machine machine)
    {
        ulong state = new StateTracker([.. machine.WholeState]).Digest;
        machine.Processor.FlushWriteTlb();
        return (state, machine.Memory.Digest());
    }

    private static void WriteComponents(ref MsgPackWriter writer, IStateful[] components)
    {
        byte[] buffer = new byte[4096];
        writer.WriteArrayHeader(components.Length);
        foreach (IStateful component in components)
        {
            writer.WriteArrayHeader(2);
            writer.WriteUInt((ulong)component.Component);
            writer.WriteArrayHeader(component.Fields.Length);
            for (int i = 0; i < component.Fields.Length; i++)
            {
                StateField field = component.Fields[i];
                Span<byte> value = buffer.AsSpan(0, field.Width);
                component.ReadField(i, value);
                writer.WriteArrayHeader(2);
                writer.WriteUInt(field.Id);
                writer.WriteBin(value);
            }
        }
    }

    private static void ReadComponents(ref MsgPackReader reader, IStateful[] components)
    {
        if (!reader.TryReadArrayHeader(components.Length, out int count) || count != components.Length)
        {
            throw Broken("it is of a machine with other parts");
        }

        foreach (IStateful component in components)
        {
            int fields = component.Fields.Length;
            if (!reader.TryReadArrayHeader(2, out int pair) || pair != 2
                || !reader.TryReadUInt(ushort.MaxValue, out ulong id) || id != (ulong)component.Component
                || !reader.TryReadArrayHeader(fields, out int given) || given != fields)
            {
                throw Broken("it is of a machine with other parts");
            }

            for (int i = 0; i < fields; i++)
            {
                StateField field = component.Fields[i];
                if (!reader.TryReadArrayHeader(2, out pair) || pair != 2
                    || !reader.TryReadUInt(ushort.MaxValue, out id) || id != field.Id
                    || !reader.TryReadBin(field.Width, out ReadOnlySpan<byte> value) || value.Length != field.Width)
                {
                    throw Broken($"field {field.Name} of component {component.Component} is not as it must be");
                }

                component.WriteField(i, value);
            }

            (component as Devices.Device)?.Touch();
        }
    }

    private static List<(ulong Address, int First, int Count)> Runs(GuestMemory memory)
    {
        List<(ulong Address, int First, int Count)> runs = [];
        for (int page = 0; page < memory.PageCount; page++)
        {
            if (IsZero(memory.Contents(page)))
            {
                continue;
            }

            ulong address = memory.HomeOf(page).Value;
            if (runs.Count != 0 && runs[^1] is var (start, first, count) && count < MostPages
                && first + count == page && start + ((ulong)count * Gpa.PageSize) == address)
            {
                runs[^1] = (start, first, count + 1);
            }
            else
            {
                runs.Add((address, page, 1));
            }
        }

        return runs;
    }

    // What is not in the image is zero.
    private static void ReadMemory(ref MsgPackReader reader, GuestMemory memory)
    {
        if (!reader.TryReadArrayHeader(memory.PageCount, out int runs))
        {
            throw Broken("it is damaged");
        }

        var held = new HashSet<ulong>();
        for (int i = 0; i < runs; i++)
        {
            if (!reader.TryReadArrayHeader(2, out int pair) || pair != 2 || !reader.TryReadUInt(out ulong address)
                || !reader.TryReadBin(MostPages * Gpa.PageSize, out ReadOnlySpan<byte> bytes)
                || (address & (Gpa.PageSize - 1)) != 0 || bytes.Length % Gpa.PageSize != 0 || bytes.IsEmpty)
            {
                throw Broken("its memory is damaged");
            }

            for (int offset = 0; offset < bytes.Length; offset += Gpa.PageSize)
            {
                ulong at = address + (ulong)offset;
                if (!held.Add(at))
                {
                    throw Broken($"it holds the page at 0x{at:x} twice");
                }

                if (!Put(memory, at, bytes.Slice(offset, Gpa.PageSize)))
                {
                    throw Broken($"the machine has no memory at 0x{at:x}");
                }
            }
        }

        byte[] zero = new byte[Gpa.PageSize];
        for (int page = 0; page < memory.PageCount; page++)
        {
            ulong address = memory.HomeOf(page).Value;
            if (!held.Contains(address) && !IsZero(memory.Contents(page)))
            {
                memory.TryLoad(new Gpa(address), zero);
            }
        }
    }

    // The page as it is costs nothing.
    private static bool Put(GuestMemory memory, ulong address, ReadOnlySpan<byte> page)
    {
        Span<byte> present = stackalloc byte[Gpa.PageSize];
        return memory.TryRead(new Gpa(address), present) && (present.SequenceEqual(page) || memory.TryLoad(new Gpa(address), page));
    }

    private static bool IsZero(ReadOnlySpan<byte> page) => page.IndexOfAnyExcept((byte)0) < 0;

    private static TraceFileException Broken(string why) => new($"the snapshot cannot be used: {why}");
}
