using System.Collections.Immutable;
using System.Runtime.InteropServices;
using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Machines;
using VmFuzz.Vmx;

namespace VmFuzz.Fuzzing;

/// <summary>The one form of each section that is written.</summary>
internal static class Canonical
{
    private const ulong AddressMask = (1UL << 52) - 1;

    // Width in bytes of the processor's state field with this number; 0 where inputs have none.
    private static readonly ImmutableArray<byte> RegisterWidths = MakeWidths();

    /// <summary>Numbers of the registers that inputs may set, ascending.</summary>
    public static ImmutableArray<ushort> RegisterIds { get; } =
        [.. Enumerable.Range(0, RegisterWidths.Length).Where(static id => RegisterWidths[id] != 0).Select(static id => (ushort)id)];

    public static bool IsRegister(ushort id) => id < RegisterWidths.Length && RegisterWidths[id] != 0;

    public static void Apply(FuzzInput input, FuzzSections sections)
    {
        if ((sections & FuzzSections.Setup) != 0)
        {
            input.Target = input.Target > FuzzTarget.GuestCode ? FuzzTarget.GuestCode : input.Target;
            input.Mode = input.Mode > FlatMode.Long64 ? FlatMode.Long64 : input.Mode;
        }

        if ((sections & FuzzSections.Registers) != 0)
        {
            Registers(input.Registers);
        }

        if ((sections & FuzzSections.Code) != 0)
        {
            Cap(input.Code, FuzzLimits.CodeBytes);
        }

        if ((sections & FuzzSections.Patches) != 0)
        {
            Patches(input.Patches);
        }

        if ((sections & FuzzSections.Events) != 0)
        {
            input.Events.RemoveAll(static e => !IsEvent(e));
            Cap(input.Events, FuzzLimits.Items);
            Sort(input.Events, static e => e.At);
        }

        if ((sections & FuzzSections.Answers) != 0)
        {
            Cap(input.Answers, FuzzLimits.Items);
        }

        if ((sections & FuzzSections.Exits) != 0)
        {
            Exits(input.Exits);
        }

        // The difference is one from the base, so a change of the base may take fields out.
        if ((sections & (FuzzSections.Vmcs | FuzzSections.Setup)) != 0)
        {
            Vmcs(input.Vmcs, GoldenValues.Of(input.AllCapabilities));
        }

        if ((sections & (FuzzSections.Capabilities | FuzzSections.Setup)) != 0)
        {
            VmxCapabilities start = CapabilityRow.Base(input.AllCapabilities);
            Cap(input.Capabilities, FuzzLimits.Items);
            Sort(input.Capabilities, static c => c.Msr);
            Unique(input.Capabilities, static c => c.Msr);
            input.Capabilities.RemoveAll(c => CapabilityRow.Find(c.Msr) is not { } row || row.Get(start) == c.Value);
        }
    }

    public static bool IsField(VmcsField field) => VmcsFieldInfo.TryFind((ulong)field, out _, out bool high) && !high;

    public static bool IsGuestField(VmcsField field) => IsField(field) && VmcsFieldInfo.Of(field).Group == VmcsFieldGroup.Guest;

    public static bool IsEvent(in ScheduledEvent e) =>
        e.Kind is > InputKind.None and <= InputKind.Stop && e.Point is >= InputPoint.Boundary and <= InputPoint.Blocked;

    /// <summary>Bytes of an unsigned integer in MessagePack.</summary>
    public static int SizeOf(ulong value) =>
        value < 0x80 ? 1 : value <= byte.MaxValue ? 2 : value <= ushort.MaxValue ? 3 : value <= uint.MaxValue ? 5 : 9;

    private static void Registers(List<RegisterOverride> list)
    {
        Cap(list, FuzzLimits.Items);
        list.RemoveAll(static r => !IsRegister(r.Register));
        Span<RegisterOverride> span = CollectionsMarshal.AsSpan(list);
        foreach (ref RegisterOverride register in span)
        {
            register = register with { Value = register.Value & MaskOf(RegisterWidths[register.Register]) };
        }

        Sort(list, static r => r.Register);
        Unique(list, static r => r.Register);
    }

    private static void Vmcs(List<FieldOverride> list, ImmutableArray<ulong> golden)
    {
        Cap(list, FuzzLimits.Items);
        Fields(list, static f => IsField(f.Field));
        list.RemoveAll(f => golden[VmcsFieldInfo.Of(f.Field).Index] == f.Value);
    }

    private static void Fields(List<FieldOverride> list, Predicate<FieldOverride> allowed)
    {
        list.RemoveAll(f => !allowed(f));
        Span<FieldOverride> span = CollectionsMarshal.AsSpan(list);
        foreach (ref FieldOverride field in span)
        {
            field = field with { Value = field.Value & VmcsFieldInfo.Of(field.Field).Mask };
        }

        Sort(list, static f => (ulong)f.Field);
        Unique(list, static f => (ulong)f.Field);
    }

    private static void Patches(List<MemoryPatch> list)
    {
        int used = 0;
        int kept = 0;
        for (int i = 0; i < list.Count && kept < FuzzLimits.Items; i++)
        {
            MemoryPatch patch = list[i];
            if (patch.Bytes.IsDefaultOrEmpty)
            {
                continue;
            }

            if (patch.Bytes.Length > FuzzLimits.PatchBytes || patch.Address > AddressMask)
            {
                patch = new MemoryPatch(patch.Address & AddressMask, patch.Bytes[..Math.Min(patch.Bytes.Length, FuzzLimits.PatchBytes)]);
            }

            used += 12 + patch.Bytes.Length;
            if (used > FuzzLimits.PatchShare)
            {
                break;
            }

            list[kept++] = patch;
        }

        list.RemoveRange(kept, list.Count - kept);
    }

    private static void Exits(List<MadeExit> list)
    {
        Cap(list, FuzzLimits.Items);
        int used = 0;
        for (int i = 0; i < list.Count; i++)
        {
            MadeExit exit = list[i];
            if (exit.CanonicalSize == 0)
            {
                if (!IsCanonical(exit))
                {
                    list[i] = exit = Clean(exit);
                }

                exit.CanonicalSize = SizeOf(exit);
            }

            used += exit.CanonicalSize;
            if (used > FuzzLimits.ExitShare)
            {
                list.RemoveRange(i, list.Count - i);
                return;
            }
        }
    }

    private static bool IsCanonical(MadeExit exit)
    {
        if (exit.Registers.IsDefault || exit.GuestState.IsDefault
            || exit.Registers.Length > FuzzLimits.OverridesOfExit || exit.GuestState.Length > FuzzLimits.OverridesOfExit)
        {
            return false;
        }

        int last = -1;
        foreach (RegisterOverride register in exit.Registers)
        {
            if (register.Register <= last || !IsRegister(register.Register) || (register.Value & ~MaskOf(RegisterWidths[register.Register])) != 0)
            {
                return false;
            }

            last = register.Register;
        }

        last = -1;
        foreach (FieldOverride field in exit.GuestState)
        {
            if ((int)field.Field <= last || !IsGuestField(field.Field) || (field.Value & ~VmcsFieldInfo.Of(field.Field).Mask) != 0)
            {
                return false;
            }

            last = (int)field.Field;
        }

        return true;
    }

    private static MadeExit Clean(MadeExit exit)
    {
        List<RegisterOverride> registers = exit.Registers.IsDefault ? [] : [.. exit.Registers];
        Registers(registers);
        Cap(registers, FuzzLimits.OverridesOfExit);
        List<FieldOverride> fields = exit.GuestState.IsDefault ? [] : [.. exit.GuestState];
        Cap(fields, FuzzLimits.Items);
        Fields(fields, static f => IsGuestField(f.Field));
        Cap(fields, FuzzLimits.OverridesOfExit);
        return new MadeExit(exit.Exit, [.. registers], [.. fields]);
    }

    private static int SizeOf(MadeExit exit)
    {
        VmExit e = exit.Exit;
        int size = 1 + SizeOf(e.Reason) + SizeOf(e.Qualification) + SizeOf(e.GuestLinear) + SizeOf(e.GuestPhysical)
            + SizeOf(e.InterruptionInfo.Value) + SizeOf(e.InterruptionError) + SizeOf(e.IdtVectoringInfo.Value)
            + SizeOf(e.IdtVectoringError) + SizeOf(e.InstructionLength) + SizeOf(e.InstructionInfo) + 6;
        foreach (RegisterOverride register in exit.Registers)
        {
            size += SizeOf(register.Register) + SizeOf(register.Value);
        }

        foreach (FieldOverride field in exit.GuestState)
        {
            size += SizeOf((ulong)field.Field) + SizeOf(field.Value);
        }

        return size;
    }

    private static ulong MaskOf(int width) => width == 4 ? uint.MaxValue : ulong.MaxValue;

    private static void Cap<T>(List<T> list, int most)
    {
        if (list.Count > most)
        {
            list.RemoveRange(most, list.Count - most);
        }
    }

    // Stable; the lists are short and nearly always sorted already.
    private static void Sort<T>(List<T> list, Func<T, ulong> key)
    {
        for (int i = 1; i < list.Count; i++)
        {
            T item = list[i];
            ulong own = key(item);
            int place = i;
            while (place > 0 && key(list[place - 1]) > own)
            {
                list[place] = list[place - 1];
                place--;
            }

            if (place != i)
            {
                list[place] = item;
            }
        }
    }

    // Of several items with one key the last stays.
    private static void Unique<T>(List<T> list, Func<T, ulong> key)
    {
        int kept = 0;
        for (int i = 0; i < list.Count; i++)
        {
            if (i + 1 == list.Count || key(list[i + 1]) != key(list[i]))
            {
                list[kept++] = list[i];
            }
        }

        list.RemoveRange(kept, list.Count - kept);
    }

    private static ImmutableArray<byte> MakeWidths()
    {
        int most = 0;
        foreach (StateField field in ProcessorState.List)
        {
            most = Math.Max(most, field.Id);
        }

        byte[] widths = new byte[most + 1];
        foreach (StateField field in ProcessorState.List)
        {
            // The retired count is a position, not a start value.
            widths[field.Id] = field.Width <= 8 && field.Id != ProcessorState.Retired ? (byte)field.Width : (byte)0;
        }

        return [.. widths];
    }
}
