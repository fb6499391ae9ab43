using System.Globalization;
using System.Text;
using System.Xml;

namespace VmFuzz.Fuzzing;

/// <summary>Findings in the XML of JUnit's reports, for CI: a suite a target, a case an oracle.</summary>
public static class JUnitReport
{
    /// <summary>Writes the report.</summary>
    /// <param name="list">The findings.</param>
    /// <param name="targets">Targets that were fuzzed; those of the findings are added.</param>
    /// <returns>UTF-8.</returns>
    public static byte[] Write(FindingList list, IEnumerable<string> targets)
    {
        ArgumentNullException.ThrowIfNull(list);
        ArgumentNullException.ThrowIfNull(targets);
        using var bytes = new MemoryStream();
        using (var xml = XmlWriter.Create(bytes, new XmlWriterSettings { Indent = true, NewLineChars = "\n", Encoding = new UTF8Encoding(false) }))
        {
            xml.WriteStartElement("testsuites");
            xml.WriteAttributeString("name", "vmfuzz");
            foreach (string target in targets.Concat(list.Findings.Select(static f => f.Best.Campaign.Target)).Distinct(StringComparer.Ordinal).Order(StringComparer.Ordinal))
            {
                Suite(xml, target, [.. list.Findings.Where(f => f.Best.Campaign.Target == target)]);
            }

            xml.WriteEndElement();
        }

        bytes.WriteByte((byte)'\n');
        return bytes.ToArray();
    }

    private static void Suite(XmlWriter xml, string target, List<MergedFinding> findings)
    {
        // Families without a finding are cases that passed.
        List<string> oracles = [.. findings.Select(static f => f.Best.Violation.Oracle).Distinct(StringComparer.Ordinal)];
        oracles.AddRange(OracleText.All.Select(static o => o.Id).Where(id => !oracles.Exists(o => OracleText.Of(o).Id == id)));
        oracles.Sort(StringComparer.Ordinal);
        xml.WriteStartElement("testsuite");
        xml.WriteAttributeString("name", Plain(target));
        xml.WriteAttributeString("tests", Number(oracles.Count));
        xml.WriteAttributeString("failures", Number(findings.Select(static f => f.Best.Violation.Oracle).Distinct(StringComparer.Ordinal).Count()));
        xml.WriteAttributeString("errors", "0");
        xml.WriteAttributeString("skipped", "0");
        foreach (string oracle in oracles)
        {
            xml.WriteStartElement("testcase");
            xml.WriteAttributeString("classname", "vmfuzz." + Plain(target));
            xml.WriteAttributeString("name", Plain(oracle));
            List<MergedFinding> broken = [.. findings.Where(f => f.Best.Violation.Oracle == oracle)];
            if (broken.Count != 0)
            {
                xml.WriteStartElement("failure");
                xml.WriteAttributeString("type", Plain(oracle));
                xml.WriteAttributeString("message", Plain(broken.Count == 1 ? broken[0].Best.Violation.ToString() : $"{broken.Count} findings"));
                var text = new StringBuilder();
                foreach (MergedFinding finding in broken)
                {
                    text.Append(Plain(finding.Best.Violation.ToString())).Append('\n')
                        .Append("  ").Append(FindingJson.NameOf(finding.Best.State)).Append('\n')
                        .Append("  ").Append(Plain(FindingNames.Command(finding.Folder, null, finding.Best.Campaign.PluginFiles))).Append('\n');
                }

                xml.WriteString(text.ToString());
                xml.WriteEndElement();
            }

            xml.WriteEndElement();
        }

        xml.WriteEndElement();
    }

    // What XML has no form for.
    private static string Plain(string text)
    {
        var plain = new StringBuilder(text.Length);
        foreach (Rune rune in text.EnumerateRunes())
        {
            bool allowed = !Rune.IsControl(rune) && rune.Value is not (0xFFFE or 0xFFFF);
            plain.Append(allowed ? rune.ToString() : "?");
        }

        return plain.ToString();
    }

    private static string Number(int value) => value.ToString(CultureInfo.InvariantCulture);
}
