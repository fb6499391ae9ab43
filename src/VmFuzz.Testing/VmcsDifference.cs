using System.Collections.Immutable;
using System.Text;
using VmFuzz.Arch;
using VmFuzz.Fuzzing;
using VmFuzz.Vmx;

namespace VmFuzz.Testing;

/// <summary>A VMCS, as what differs from the golden one. A value; fields are sorted and none has its golden value.</summary>
public sealed class VmcsDifference : IEquatable<VmcsDifference>
{
    private VmcsDifference(bool allCapabilities, ImmutableArray<FieldOverride> fields) => (AllCapabilities, Fields) = (allCapabilities, fields);

    /// <summary>Whether the golden VMCS is that of <see cref="VmxCapabilities.Everything"/> and not of <see cref="VmxCapabilities.Default"/>.</summary>
    public bool AllCapabilities { get; }

    /// <summary>The fields that differ.</summary>
    public ImmutableArray<FieldOverride> Fields { get; }

    /// <summary>The capabilities of the golden VMCS.</summary>
    public VmxCapabilities Capabilities => AllCapabilities ? VmxCapabilities.Everything : VmxCapabilities.Default;

    /// <summary>A difference of fields in any order; of several values of one field the last counts.</summary>
    public static VmcsDifference Of(IEnumerable<FieldOverride> fields, bool allCapabilities = false)
    {
        var input = new FuzzInput { Target = FuzzTarget.VmcsEntry, AllCapabilities = allCapabilities };
        input.Vmcs.AddRange(fields);
        input.Normalise(FuzzSections.Vmcs);
        return new VmcsDifference(allCapabilities, [.. input.Vmcs]);
    }

    /// <summary>What differs in a VMCS.</summary>
    public static VmcsDifference Of(Vmcs vmcs, bool allCapabilities = false)
    {
        ArgumentNullException.ThrowIfNull(vmcs);
        return Of(VmcsFieldInfo.All.Select(info => new FieldOverride(info.Field, vmcs[info.Field])), allCapabilities);
    }

    /// <summary>Fills a VMCS: the golden one, then the differences.</summary>
    public void Fill(Vmcs vmcs)
    {
        ArgumentNullException.ThrowIfNull(vmcs);
        GoldenVmcs.Fill(vmcs, Capabilities);
        foreach (FieldOverride field in Fields)
        {
            vmcs[field.Field] = field.Value;
        }
    }

    /// <summary>The input of target <c>vmcs-entry</c> that enters this VMCS.</summary>
    public FuzzInput ToInput()
    {
        var input = new FuzzInput { Target = FuzzTarget.VmcsEntry, AllCapabilities = AllCapabilities };
        input.Vmcs.AddRange(Fields);
        return input;
    }

    /// <summary>Rounds to a VMCS that can be entered: while a check fails, the fields it reads become golden again.</summary>
    /// <param name="firstFailure">The first check that fails for a VMCS; null when none does. Null for the default checks without memory and host.</param>
    public VmcsDifference Round(Func<Vmcs, EntryCheck?>? firstFailure = null)
    {
        firstFailure ??= v => EntryChecks.Default.FirstFailure(new EntryContext(v, Capabilities, null, 0, null));
        using var vmcs = new Vmcs();
        VmcsDifference rounded = this;
        for (; ; )
        {
            rounded.Fill(vmcs);
            if (rounded.Fields.IsEmpty || firstFailure(vmcs) is not { } check)
            {
                return rounded;
            }

            // A check that reads none of them fails through something that they steer.
            ImmutableArray<FieldOverride> kept = rounded.Fields.RemoveAll(f => check.Reads.Contains(f.Field));
            rounded = new VmcsDifference(AllCapabilities, kept.Length == rounded.Fields.Length ? [] : kept);
        }
    }

    /// <summary>The same with other fields.</summary>
    internal VmcsDifference With(ImmutableArray<FieldOverride> fields) => new(AllCapabilities, fields);

    /// <inheritdoc/>
    public bool Equals(VmcsDifference? other) =>
        other is not null && AllCapabilities == other.AllCapabilities && Fields.AsSpan().SequenceEqual(other.Fields.AsSpan());

    /// <inheritdoc/>
    public override bool Equals(object? obj) => Equals(obj as VmcsDifference);

    /// <inheritdoc/>
    public override int GetHashCode() => Fields.Length;

    /// <inheritdoc/>
    public override string ToString()
    {
        var text = new StringBuilder(AllCapabilities ? "golden with all capabilities" : "golden");
        foreach (FieldOverride field in Fields)
        {
            text.Append(System.Globalization.CultureInfo.InvariantCulture, $" {field.Field}=0x{field.Value:x}");
        }

        return text.ToString();
    }
}

/// <summary>A VMCS that passes the entry checks.</summary>
/// <param name="Difference">What differs from the golden one.</param>
public sealed record RoundedVmcs(VmcsDifference Difference);

/// <summary>Capabilities of VMX, as MSRs that differ from a base.</summary>
/// <param name="AllCapabilities">Whether the base is <see cref="VmxCapabilities.Everything"/> and not <see cref="VmxCapabilities.Default"/>.</param>
/// <param name="Msrs">The MSRs, 0x480 to 0x493.</param>
public sealed record CapabilityDifference(bool AllCapabilities, ImmutableArray<CapabilityOverride> Msrs)
{
    /// <summary>The capabilities.</summary>
    public VmxCapabilities Build()
    {
        var input = new FuzzInput { AllCapabilities = AllCapabilities };
        input.Capabilities.AddRange(Msrs);
        return input.BuildCapabilities();
    }

    /// <inheritdoc/>
    public override string ToString() =>
        (AllCapabilities ? "everything" : "default") + string.Concat(Msrs.Select(static m => string.Create(System.Globalization.CultureInfo.InvariantCulture, $" 0x{m.Msr:x}=0x{m.Value:x}")));
}
