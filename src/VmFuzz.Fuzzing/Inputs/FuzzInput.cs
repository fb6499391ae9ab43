using System.Globalization;
using VmFuzz.Machines;
using VmFuzz.Vmx;

namespace VmFuzz.Fuzzing;

/// <summary>
/// One structured input. Any section may be empty; a target reads those it knows. Objects are made once and used
/// again: <see cref="CopyFrom(FuzzInput)"/> and <see cref="FuzzCodec.Decode(ReadOnlySpan{byte}, FuzzInput, FuzzTarget?)"/> fill them.
/// </summary>
/// <remarks>
/// The lists may be changed freely; <see cref="Normalise"/> brings them into the one form that is written: known
/// things only, within <see cref="FuzzLimits"/>, sorted where order means nothing, values cut to their width.
/// </remarks>
public sealed class FuzzInput
{
    /// <summary>What the input is for.</summary>
    public FuzzTarget Target { get; set; }

    /// <summary>Mode in which guest code starts; also how the code is disassembled.</summary>
    public FlatMode Mode { get; set; } = FlatMode.Long64;

    /// <summary>
    /// Whether capabilities and golden VMCS start from <see cref="VmxCapabilities.Everything"/> and not from
    /// <see cref="VmxCapabilities.Default"/>.
    /// </summary>
    public bool AllCapabilities { get; set; }

    /// <summary>Start values of registers; the rest starts as the target has it. Sorted, one a register.</summary>
    public List<RegisterOverride> Registers { get; } = [];

    /// <summary>Code, at most <see cref="FuzzLimits.CodeBytes"/>.</summary>
    public List<byte> Code { get; } = [];

    /// <summary>Memory patches, applied in order.</summary>
    public List<MemoryPatch> Patches { get; } = [];

    /// <summary>Events, sorted by position; those at one position keep their order.</summary>
    public List<ScheduledEvent> Events { get; } = [];

    /// <summary>Answers of userspace to reads of ports and MMIO, in the order of the questions; also random values.</summary>
    public List<ulong> Answers { get; } = [];

    /// <summary>Made exits, in order.</summary>
    public List<MadeExit> Exits { get; } = [];

    /// <summary>Fields that differ from the golden VMCS. Sorted, one a field.</summary>
    public List<FieldOverride> Vmcs { get; } = [];

    /// <summary>Capability MSRs that differ from their base. Sorted, one a register.</summary>
    public List<CapabilityOverride> Capabilities { get; } = [];

    /// <summary>The capabilities that the input describes.</summary>
    public VmxCapabilities BuildCapabilities()
    {
        VmxCapabilities built = CapabilityRow.Base(AllCapabilities);
        foreach (CapabilityOverride capability in Capabilities)
        {
            if (CapabilityRow.Find(capability.Msr) is { } row)
            {
                built = row.With(built, capability.Value);
            }
        }

        return built;
    }

    /// <summary>Fills a VMCS: the golden one of the base capabilities, then the differences.</summary>
    public void FillVmcs(Vmcs vmcs)
    {
        GoldenVmcs.Fill(vmcs, CapabilityRow.Base(AllCapabilities));
        foreach (FieldOverride field in Vmcs)
        {
            vmcs[field.Field] = field.Value;
        }
    }

    /// <summary>Empties everything.</summary>
    public void Clear()
    {
        Target = FuzzTarget.ExitHandlers;
        Mode = FlatMode.Long64;
        AllCapabilities = false;
        foreach (FuzzSectionRow row in FuzzSectionRow.All)
        {
            row.Remove(this, 0, row.Count(this));
        }
    }

    /// <summary>Becomes a copy of another input.</summary>
    public void CopyFrom(FuzzInput other)
    {
        ArgumentNullException.ThrowIfNull(other);
        Target = other.Target;
        CopyFrom(other, FuzzSections.All);
    }

    /// <summary>Takes some sections of another input.</summary>
    public void CopyFrom(FuzzInput other, FuzzSections sections)
    {
        ArgumentNullException.ThrowIfNull(other);
        if ((sections & FuzzSections.Setup) != 0)
        {
            Mode = other.Mode;
            AllCapabilities = other.AllCapabilities;
        }

        foreach (FuzzSectionRow row in FuzzSectionRow.All)
        {
            if ((sections & row.Section) != 0)
            {
                row.Copy(other, this);
            }
        }
    }

    /// <summary>A copy.</summary>
    public FuzzInput Clone()
    {
        FuzzInput clone = new();
        clone.CopyFrom(this);
        return clone;
    }

    /// <summary>Whether two inputs are equal, the target included.</summary>
    public bool SameAs(FuzzInput other)
    {
        ArgumentNullException.ThrowIfNull(other);
        return Target == other.Target && Differences(other) == FuzzSections.None;
    }

    /// <summary>Whether some sections are equal.</summary>
    public bool SameAs(FuzzInput other, FuzzSections sections)
    {
        ArgumentNullException.ThrowIfNull(other);
        if ((sections & FuzzSections.Setup) != 0 && (Mode != other.Mode || AllCapabilities != other.AllCapabilities))
        {
            return false;
        }

        foreach (FuzzSectionRow row in FuzzSectionRow.All)
        {
            if ((sections & row.Section) != 0 && !row.Same(this, other))
            {
                return false;
            }
        }

        return true;
    }

    /// <summary>The sections in which two inputs differ.</summary>
    public FuzzSections Differences(FuzzInput other)
    {
        ArgumentNullException.ThrowIfNull(other);
        FuzzSections found = Mode != other.Mode || AllCapabilities != other.AllCapabilities ? FuzzSections.Setup : FuzzSections.None;
        foreach (FuzzSectionRow row in FuzzSectionRow.All)
        {
            found |= row.Same(this, other) ? FuzzSections.None : row.Section;
        }

        return found;
    }

    /// <summary>Brings sections into the form that is written. Doing it twice changes nothing.</summary>
    public void Normalise(FuzzSections sections = FuzzSections.All) => Canonical.Apply(this, sections);

    /// <summary>What it holds, in words.</summary>
    public override string ToString()
    {
        using var text = new StringWriter(CultureInfo.InvariantCulture);
        InputText.Write(text, InputText.Describe(this));
        return $"{InputText.NameOf(Target)}, {Mode}{(AllCapabilities ? ", all capabilities" : "")}\n{text}";
    }
}
