using System.Collections.Immutable;
using System.Text;
using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Replay;

namespace VmFuzz.Testing;

/// <summary>A value for a field of a component, by index into its list of fields.</summary>
/// <param name="Index">Index, from 0.</param>
/// <param name="Seed">Where the bytes come from.</param>
public readonly record struct FieldValue(int Index, ulong Seed)
{
    /// <summary>The bytes.</summary>
    /// <param name="width">How many.</param>
    public byte[] Bytes(int width)
    {
        var random = new SplitMix(Seed);
        byte[] bytes = new byte[width];
        for (int i = 0; i < width; i++)
        {
            bytes[i] = (byte)(i % 8 == 0 ? AtomMaker.Value(random) : random.Next());
        }

        return bytes;
    }
}

/// <summary>A state of a processor, as fields that get other values. Later ones win.</summary>
/// <param name="Values">Fields of <see cref="ProcessorState.List"/> and their values.</param>
public sealed record ProcessorChange(ImmutableArray<FieldValue> Values)
{
    /// <summary>What is written into a field: any bytes, but for the bits that a processor cannot hold.</summary>
    public static byte[] BytesOf(FieldValue value)
    {
        StateField field = ProcessorState.List[value.Index];
        byte[] bytes = value.Bytes(field.Width);
        ulong word = bytes.Length == 8 ? BitConverter.ToUInt64(bytes) : 0;
        return field switch
        {
            { Id: ProcessorState.RFlagsId } => BitConverter.GetBytes((word & RFlags.Defined) | RFlags.Reserved1),
            { Name: "nmi-pending" } => BitConverter.GetBytes(word & 1),
            _ => bytes,
        };
    }

    /// <summary>Changes a processor.</summary>
    public void Apply(Processor processor)
    {
        ArgumentNullException.ThrowIfNull(processor);
        foreach (FieldValue value in Values)
        {
            processor.Fields.WriteField(value.Index, BytesOf(value));
        }
    }

    /// <inheritdoc/>
    public override string ToString()
    {
        var text = new StringBuilder();
        foreach (FieldValue value in Values)
        {
            text.Append(text.Length > 0 ? " " : "").Append(ProcessorState.List[value.Index].Name).Append('=').Append(Convert.ToHexStringLower(BytesOf(value)));
        }

        return text.ToString();
    }
}

/// <summary>A processor model: a built-in one with features on and off.</summary>
/// <param name="Name">The built-in model.</param>
/// <param name="On">Features added.</param>
/// <param name="Off">Features taken away; they win.</param>
public sealed record CpuModelChange(string Name, ImmutableArray<CpuFeatures> On, ImmutableArray<CpuFeatures> Off)
{
    /// <summary>The model.</summary>
    public CpuModel Build()
    {
        CpuModels.TryFind(Name, out CpuModel model);
        return CpuModels.With(model, Sum(On), Sum(Off));
    }

    /// <inheritdoc/>
    public override string ToString() => $"{Name} with [{Sum(On)}] without [{Sum(Off)}]";

    private static CpuFeatures Sum(ImmutableArray<CpuFeatures> features)
    {
        CpuFeatures sum = CpuFeatures.None;
        foreach (CpuFeatures feature in features)
        {
            sum |= feature;
        }

        return sum;
    }
}
