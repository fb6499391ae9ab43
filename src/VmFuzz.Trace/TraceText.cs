using System.Globalization;
using System.Text;
using System.Text.Encodings.Web;

namespace VmFuzz.Trace;

/// <summary>Names a value of a field, for instance an exit reason.</summary>
/// <param name="kind">The kind of the event.</param>
/// <param name="field">The field.</param>
/// <param name="value">Its value.</param>
/// <returns>The name, or null.</returns>
public delegate string? TraceValueName(TraceEventKind kind, TraceField field, ulong value);

/// <summary>Names the place of a delta.</summary>
/// <param name="component">The component; 0 when the field is the encoding of a VMCS field.</param>
/// <param name="field">The field.</param>
/// <returns>The name, or null.</returns>
public delegate string? TracePlaceName(ushort component, ushort field);

/// <summary>Where names come from that this project does not know.</summary>
public sealed record TraceNames
{
    /// <summary>No names but those of the schema.</summary>
    public static TraceNames None { get; } = new();

    /// <summary>Names values.</summary>
    public TraceValueName? Value { get; init; }

    /// <summary>Names places of deltas.</summary>
    public TracePlaceName? Place { get; init; }
}

/// <summary>Events as text for people and as JSON Lines for programs, both by the schema.</summary>
/// <param name="names">Where names come from.</param>
public sealed class TraceText(TraceNames? names = null)
{
    private readonly TraceNames _names = names ?? TraceNames.None;
    private readonly StringBuilder _text = new();

    /// <summary>One line for people, without a line break: number, VCPU, count, kind, then fields that are not 0.</summary>
    public string Line(TraceEvent item)
    {
        ArgumentNullException.ThrowIfNull(item);
        _text.Clear();
        _text.Append(CultureInfo.InvariantCulture, $"{item.Sequence,8} v{item.Vcpu} {item.Retired,12} {item.Row?.Name ?? "none"}");
        foreach (TraceField field in item.Row?.Fields ?? [])
        {
            if (field.Key != TraceKeys.Vcpu)
            {
                AppendField(item, field);
            }
        }

        return _text.ToString();
    }

    /// <summary>
    /// One JSON object, without a line break. Hexadecimal fields are strings, others numbers; a name stands beside its
    /// value as <c>field-name</c>; bytes are hexadecimal. Fields that are 0 are left out.
    /// </summary>
    public string Json(TraceEvent item)
    {
        ArgumentNullException.ThrowIfNull(item);
        _text.Clear();
        _text.Append(CultureInfo.InvariantCulture, $"{{\"sequence\":{item.Sequence},\"event\":\"{item.Row?.Name ?? "none"}\",\"vcpu\":{item.Vcpu},\"retired\":{item.Retired}");
        foreach (TraceField field in item.Row?.Fields ?? [])
        {
            if (field.Key != TraceKeys.Vcpu)
            {
                AppendJson(item, field);
            }
        }

        return _text.Append('}').ToString();
    }

    private void AppendField(TraceEvent item, TraceField field)
    {
        switch (field.Type)
        {
            case TraceFieldType.Bytes or TraceFieldType.Text:
                if (!item.Bytes.IsEmpty)
                {
                    _text.Append(' ').Append(field.Name).Append("=\"");
                    AppendPrintable(item.Bytes);
                    _text.Append('"');
                }

                break;
            case TraceFieldType.Controls or TraceFieldType.State:
                foreach (ref readonly TraceDelta delta in item.Deltas)
                {
                    _text.Append(' ').Append(PlaceOf(field, delta)).Append(":=0x").Append(CultureInfo.InvariantCulture, $"{delta.Value:x}");
                }

                break;
            default:
                ulong word = item.GetWord(field.Key);
                string? name = _names.Value?.Invoke(item.Kind, field, word);
                if (word != 0 || name is not null || field.Type == TraceFieldType.Named)
                {
                    _text.Append(' ').Append(field.Name).Append('=').Append(TraceComparison.Word(field, word));
                    _text.Append(name is null ? "" : $"({name})");
                }

                break;
        }
    }

    private void AppendJson(TraceEvent item, TraceField field)
    {
        switch (field.Type)
        {
            case TraceFieldType.Bytes:
                if (!item.Bytes.IsEmpty)
                {
                    JsonKey(field.Name).Append('"').Append(Convert.ToHexStringLower(item.Bytes)).Append('"');
                }

                break;
            case TraceFieldType.Text:
                if (!item.Bytes.IsEmpty)
                {
                    JsonKey(field.Name).Append('"').Append(JavaScriptEncoder.Default.Encode(item.Text)).Append('"');
                }

                break;
            case TraceFieldType.Controls or TraceFieldType.State:
                if (!item.Deltas.IsEmpty)
                {
                    AppendJsonDeltas(item, field);
                }

                break;
            default:
                ulong word = item.GetWord(field.Key);
                string? name = _names.Value?.Invoke(item.Kind, field, word) ?? field.NameOf(word);
                if (word != 0)
                {
                    JsonKey(field.Name);
                    if (field.Type == TraceFieldType.Hex)
                    {
                        _text.Append('"').Append(TraceComparison.Word(field, word)).Append('"');
                    }
                    else if (field.Type == TraceFieldType.Signed)
                    {
                        _text.Append((long)word);
                    }
                    else
                    {
                        _text.Append(word);
                    }
                }

                if (name is not null)
                {
                    JsonKey(field.Name + "-name").Append('"').Append(JavaScriptEncoder.Default.Encode(name)).Append('"');
                }

                break;
        }
    }

    private void AppendJsonDeltas(TraceEvent item, TraceField field)
    {
        JsonKey(field.Name).Append('[');
        bool first = true;
        foreach (ref readonly TraceDelta delta in item.Deltas)
        {
            _text.Append(first ? "" : ",");
            _text.Append("{\"component\":").Append(delta.Component).Append(",\"field\":").Append(delta.Field);
            if (_names.Place?.Invoke(delta.Component, delta.Field) is { } name)
            {
                _text.Append(",\"name\":\"").Append(JavaScriptEncoder.Default.Encode(name)).Append('"');
            }

            _text.Append(CultureInfo.InvariantCulture, $",\"value\":\"0x{delta.Value:x}\"}}");
            first = false;
        }

        _text.Append(']');
    }

    private StringBuilder JsonKey(string name) => _text.Append(",\"").Append(name).Append("\":");

    private string PlaceOf(TraceField field, in TraceDelta delta) =>
        _names.Place?.Invoke(delta.Component, delta.Field) ?? TraceComparison.Place(field, delta);

    private void AppendPrintable(ReadOnlySpan<byte> bytes)
    {
        foreach (byte value in bytes)
        {
            switch (value)
            {
                case (byte)'\n':
                    _text.Append("\\n");
                    break;
                case (byte)'\r':
                    _text.Append("\\r");
                    break;
                case (byte)'"' or (byte)'\\':
                    _text.Append('\\').Append((char)value);
                    break;
                case >= 0x20 and < 0x7f:
                    _text.Append((char)value);
                    break;
                default:
                    _text.Append(CultureInfo.InvariantCulture, $"\\x{value:x2}");
                    break;
            }
        }
    }
}
