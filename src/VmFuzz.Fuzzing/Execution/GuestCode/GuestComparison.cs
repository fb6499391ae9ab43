using System.Collections.Immutable;
using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Devices;
using VmFuzz.Machines;
using VmFuzz.Memory;

namespace VmFuzz.Fuzzing;

/// <summary>Two machines that ran one guest.</summary>
/// <param name="Left">The one that is taken for right.</param>
/// <param name="LeftMonitor">Who watched it.</param>
/// <param name="Right">The other one.</param>
/// <param name="RightMonitor">Who watched that.</param>
internal sealed record GuestPair(Machine Left, RunMonitor LeftMonitor, Machine Right, RunMonitor RightMonitor)
{
    /// <summary>Whether one of them is without a hypervisor.</summary>
    public bool AcrossAccelerators => Left.UnderHypervisor != Right.UnderHypervisor;
}

/// <summary>What a guest can observe of two machines at the end of a run, compared.</summary>
internal sealed class GuestComparison
{
    // Memory of the guest comes first among the backing pages.
    private const int GuestPages = (int)(FuzzLayout.MemorySize >> 12);

    private readonly byte[] _left = new byte[Gpa.PageSize];
    private readonly byte[] _right = new byte[Gpa.PageSize];
    private readonly bool[] _seen = new bool[GuestPages];

    /// <summary>The first thing that differs and no row declares, or null.</summary>
    /// <param name="pair">The machines, both stopped.</param>
    /// <returns>Name of the field or page, and a line for people.</returns>
    public (string Name, string Text)? FirstDifference(GuestPair pair)
    {
        foreach (GuestDifferenceRow row in GuestDifferenceRows.WholeRuns)
        {
            if (row.Voids!(pair))
            {
                return null;
            }
        }

        return Stops(pair) ?? Registers(pair) ?? Words(pair) ?? Devices(pair) ?? Memory(pair);
    }

    private static (string, string)? Stops(GuestPair pair)
    {
        MachineStop left = pair.Left.Stop;
        MachineStop right = pair.Right.Stop;
        return left.Kind == right.Kind && left.GuestStatus == right.GuestStatus
            ? null
            : ("stop", $"one ends with {left.Kind} ({left.Text}), the other with {right.Kind} ({right.Text})");
    }

    private (string, string)? Registers(GuestPair pair)
    {
        for (int i = 0; i < ProcessorState.List.Length; i++)
        {
            StateField field = ProcessorState.List[i];
            Span<byte> left = _left.AsSpan(0, field.Width);
            Span<byte> right = _right.AsSpan(0, field.Width);
            GuestFields.Read(pair.Left, i, left);
            GuestFields.Read(pair.Right, i, right);
            if (!left.SequenceEqual(right) && !IsDeclared(pair, field.Name, Word(left), Word(right)))
            {
                return (field.Name, $"{field.Name} is {Hex(left)} on one and {Hex(right)} on the other");
            }
        }

        return null;
    }

    private static bool IsDeclared(GuestPair pair, string name, ulong left, ulong right)
    {
        foreach (GuestDifferenceRow row in GuestDifferenceRows.Fields)
        {
            if (row.Field == name && row.Allows!(pair, left, right))
            {
                return true;
            }
        }

        return false;
    }

    private static (string, string)? Words(GuestPair pair)
    {
        return Word("cr8", static m => m.Kvm is { } kvm ? kvm.Vcpu.Cr8 : m.InterruptController.TaskPriority)
            ?? Word("clock", static m => m.Clock.Now)
            ?? (pair.LeftMonitor.ConsoleHash == pair.RightMonitor.ConsoleHash ? null : ("console", "the consoles show different bytes"));

        (string, string)? Word(string name, Func<Machine, ulong> get)
        {
            ulong left = get(pair.Left);
            ulong right = get(pair.Right);
            return left == right || IsDeclared(pair, name, left, right) ? null : (name, $"{name} is 0x{left:x} on one and 0x{right:x} on the other");
        }
    }

    private (string, string)? Devices(GuestPair pair)
    {
        for (int c = 0; c < pair.Left.Components.Count && c < pair.Right.Components.Count; c++)
        {
            if (pair.Left.Components[c] is not Device device)
            {
                continue;
            }

            IStateful other = pair.Right.Components[c];
            for (int i = 0; i < device.Fields.Length; i++)
            {
                StateField field = device.Fields[i];
                Span<byte> left = _left.AsSpan(0, field.Width);
                Span<byte> right = _right.AsSpan(0, field.Width);
                device.ReadField(i, left);
                other.ReadField(i, right);

                // CR8 is compared by itself.
                if (!left.SequenceEqual(right) && field.Name != "priority")
                {
                    return ($"{device.Component}.{field.Name}", $"{device.Component}.{field.Name} is {Hex(left)} on one and {Hex(right)} on the other");
                }
            }
        }

        return null;
    }

    private (string, string)? Memory(GuestPair pair)
    {
        Array.Clear(_seen);
        return Pages(pair.Left, pair) ?? Pages(pair.Right, pair);
    }

    private (string, string)? Pages(Machine of, GuestPair pair)
    {
        foreach (int page in of.Memory.DirtyPages)
        {
            if (page >= GuestPages || _seen[page])
            {
                continue;
            }

            _seen[page] = true;
            (ulong at, byte left, byte right)? difference = Page(pair, page);
            if (difference is { } d)
            {
                return ("memory", $"memory at 0x{d.at:x} is 0x{d.left:x2} on one and 0x{d.right:x2} on the other");
            }
        }

        return null;
    }

    private (ulong, byte, byte)? Page(GuestPair pair, int page)
    {
        Gpa address = pair.Left.Memory.HomeOf(page);
        pair.Left.Memory.TryRead(address, _left);
        pair.Right.Memory.TryRead(address, _right);
        int at = _left.AsSpan().CommonPrefixLength(_right);
        return at == _left.Length ? null : (address.Value + (ulong)at, _left[at], _right[at]);
    }

    private static ulong Word(ReadOnlySpan<byte> value)
    {
        ulong word = 0;
        for (int i = Math.Min(8, value.Length) - 1; i >= 0; i--)
        {
            word = (word << 8) | value[i];
        }

        return word;
    }

    private static string Hex(ReadOnlySpan<byte> value)
    {
        if (value.Length <= 8)
        {
            return $"0x{Word(value):x}";
        }

        return Convert.ToHexString(value[..Math.Min(value.Length, 64)]);
    }
}
