using VmFuzz.Arch;
using VmFuzz.Machines;

namespace VmFuzz.Fuzzing;

/// <summary>Moves a stopped run into another machine: every field of every component, and memory.</summary>
internal static class MachineMove
{
    private const int WidestField = 4096;

    /// <summary>Copies; the target stands at its start state.</summary>
    public static void Copy(GuestRunner from, GuestRunner to)
    {
        Span<byte> buffer = stackalloc byte[WidestField];
        CopyMemory(from.Machine, to.Machine, buffer);
        CopyFields(from.Machine.Components, to.Machine.Components, buffer);
        CopyFields(from.Machine.InnerComponents, to.Machine.InnerComponents, buffer);
        to.Machine.StateRestored();
        to.Fuzz.Source.CopyFrom(from.Fuzz.Source);
        to.Monitor.ContinueFrom(from.Monitor);
    }

    private static void CopyMemory(Machine from, Machine to, Span<byte> page)
    {
        from.Processor.FlushWriteTlb();
        foreach (int index in from.Memory.DirtyPages)
        {
            Copy(from, to, index, page);
        }

        // Pages that only the target has written so far are as they were at the start.
        int[] own = [.. to.Memory.DirtyPages];
        foreach (int index in own)
        {
            Copy(from, to, index, page);
        }
    }

    private static void Copy(Machine from, Machine to, int index, Span<byte> page)
    {
        Gpa address = from.Memory.HomeOf(index);
        from.Memory.TryRead(address, page[..Gpa.PageSize]);
        to.Memory.TryLoad(address, page[..Gpa.PageSize]);
    }

    private static void CopyFields(IReadOnlyList<IStateful> from, IReadOnlyList<IStateful> to, Span<byte> buffer)
    {
        for (int c = 0; c < from.Count; c++)
        {
            ReadOnlySpan<StateField> fields = from[c].Fields;
            for (int i = 0; i < fields.Length; i++)
            {
                Span<byte> value = buffer[..fields[i].Width];
                from[c].ReadField(i, value);
                to[c].WriteField(i, value);
            }
        }
    }
}
