using System.Collections.Immutable;
using VmFuzz.Arch;
using VmFuzz.Vmx;

namespace VmFuzz.Fuzzing;

/// <summary>Mutators of the VMCS and of the capabilities.</summary>
internal static class VmcsMutators
{
    private const FuzzSections WithBase = FuzzSections.Vmcs | FuzzSections.Capabilities | FuzzSections.Setup;

    public static readonly ImmutableArray<Mutator> Rows =
    [
        Row("vmcs.bit", 40, static (ref MutationContext c) =>
        {
            VmcsFieldInfo info = Field(ref c);
            return Set(ref c, info, Get(c.Input, info) ^ (1UL << c.Pick(8 * info.Bytes)));
        }),
        Row("vmcs.boundary", 30, static (ref MutationContext c) => Set(ref c, Field(ref c), c.Pick(FuzzTables.Boundaries))),
        Row("vmcs.near", 15, static (ref MutationContext c) =>
        {
            VmcsFieldInfo info = Field(ref c);
            return Set(ref c, info, c.Near(Get(c.Input, info)));
        }),
        Row("vmcs.swap", 10, Swap),
        Row("vmcs.dictionary", 40, static (ref MutationContext c) =>
        {
            (VmcsField field, ImmutableArray<ulong> values) = c.Pick(FuzzTables.FieldValues);
            return Set(ref c, VmcsFieldInfo.Of(field), c.Pick(values));
        }),
        Row("vmcs.word", 15, static (ref MutationContext c) => Set(ref c, Field(ref c), c.Pick(FuzzTables.Words))),
        Row("vmcs.restore", 20, Restore),
        new("vmcs.break-rule", FuzzTargets.VmcsEntry, 40, WithBase, static (ref MutationContext c) =>
        {
            c.Input.Vmcs.Clear();
            c.Input.Capabilities.Clear();
            return Break(ref c);
        }),
        new("vmcs.break-another", FuzzTargets.VmcsEntry, 20, WithBase, Break),
        new("capability.bit", FuzzTargets.VmcsEntry, 15, FuzzSections.Capabilities, CapabilityBit),
        new("capability.restore", FuzzTargets.VmcsEntry, 5, FuzzSections.Capabilities, static (ref MutationContext c) =>
        {
            if (c.Input.Capabilities.Count == 0)
            {
                return MutationResult.Skipped;
            }

            c.Input.Capabilities.RemoveAt(c.Pick(c.Input.Capabilities.Count));
            return MutationResult.Mutated;
        }),
        new("capability.base", FuzzTargets.VmcsEntry, 4, WithBase, static (ref MutationContext c) =>
        {
            c.Input.AllCapabilities = !c.Input.AllCapabilities;
            return MutationResult.Mutated;
        }),
    ];

    private static Mutator Row(string id, int weight, MutatorApply apply) =>
        new(id, FuzzTargets.VmcsEntry, weight, FuzzSections.Vmcs, apply);

    private static VmcsFieldInfo Field(ref MutationContext c) =>
        c.OneIn(4) ? c.Pick(FuzzTables.EntryFields) : c.Pick(FuzzTables.CheckedFields);

    internal static ulong Get(FuzzInput input, VmcsFieldInfo info)
    {
        foreach (FieldOverride field in input.Vmcs)
        {
            if (field.Field == info.Field)
            {
                return field.Value;
            }
        }

        return GoldenValues.Of(input.AllCapabilities)[info.Index];
    }

    private static MutationResult Set(ref MutationContext c, VmcsFieldInfo info, ulong value)
    {
        value &= info.Mask;
        if (Get(c.Input, info) == value)
        {
            return MutationResult.Skipped;
        }

        List<FieldOverride> list = c.Input.Vmcs;
        for (int i = 0; i < list.Count; i++)
        {
            if (list[i].Field == info.Field)
            {
                list[i] = new FieldOverride(info.Field, value);
                return MutationResult.Mutated;
            }
        }

        list.Add(new FieldOverride(info.Field, value));
        return MutationResult.Mutated;
    }

    private static MutationResult Swap(ref MutationContext c)
    {
        VmcsFieldInfo first = Field(ref c);
        VmcsFieldInfo second = Field(ref c);
        ulong one = Get(c.Input, first);
        ulong other = Get(c.Input, second);
        MutationResult left = Set(ref c, first, other);
        MutationResult right = Set(ref c, second, one);
        return left | right;
    }

    private static MutationResult Restore(ref MutationContext c)
    {
        List<FieldOverride> list = c.Input.Vmcs;
        if (list.Count == 0)
        {
            return MutationResult.Skipped;
        }

        int at = c.Pick(list.Count);
        list.RemoveRange(at, c.OneIn(4) ? list.Count - at : 1);
        return MutationResult.Mutated;
    }

    // The rows declare their violation as a step away from the golden VMCS under all capabilities.
    private static MutationResult Break(ref MutationContext c)
    {
        c.Input.AllCapabilities = true;
        EntryCheck rule = c.Pick(FuzzTables.Breakable);
        foreach (FieldChange change in rule.Violate)
        {
            VmcsFieldInfo info = VmcsFieldInfo.Of(change.Field);
            Set(ref c, info, change.Apply(Get(c.Input, info)));
        }

        return MutationResult.Mutated;
    }

    private static MutationResult CapabilityBit(ref MutationContext c)
    {
        CapabilityRow row = c.Pick(CapabilityRow.All);
        ulong value = row.Get(c.Input.BuildCapabilities()) ^ (1UL << c.Pick(64));
        c.Input.Capabilities.Add(new CapabilityOverride(row.Msr, value));
        return MutationResult.Mutated;
    }
}
