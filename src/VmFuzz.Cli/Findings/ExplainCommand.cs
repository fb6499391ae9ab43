using System.Collections.Immutable;
using System.Globalization;
using VmFuzz.Fuzzing;

namespace VmFuzz.Cli;

/// <summary><c>vmfuzz explain</c>.</summary>
internal static class ExplainCommand
{
    /// <summary>Says what an input or a finding is.</summary>
    public static int Execute(Host host, string path, bool json)
    {
        InputSubject subject = InputSubject.Read(path);
        string command = FindingNames.Command(path, subject.Target is null ? InputText.NameOf(subject.Input.Target) : null, subject.PluginFiles);
        ImmutableArray<InputSection> sections = InputText.Describe(subject.Input);
        if (json)
        {
            JsonReport.Write(host.Out, writer =>
            {
                writer.WriteString("command", "explain");
                writer.WriteNumber("status", ExitStatus.Fine);
                writer.WriteString("path", path);
                writer.WriteNumber("bytes", subject.Bytes.Length);
                writer.WriteBoolean("canonical", subject.Canonical);
                writer.WriteString("reproduce", command);
                if (subject.Finding is { } finding)
                {
                    writer.WriteStartObject("finding");
                    FindingJson.WriteFacts(writer, finding, command);
                    writer.WriteString("meaning", OracleText.MeaningOf(finding.Violation.Oracle));
                    writer.WriteString("source", OracleText.SourceOf(finding.Violation));
                    writer.WriteEndObject();
                }

                InputText.Write(writer, sections);
            });
            return ExitStatus.Fine;
        }

        var text = new StringWriter { NewLine = "\n" };
        if (subject.Finding is { } known)
        {
            FindingReport.Write(text, known, subject.Input, path);
        }
        else
        {
            string form = subject.Canonical ? "" : ", not in the form that inputs are written in: what makes no sense is raw material";
            text.Write(string.Create(CultureInfo.InvariantCulture, $"{Quantities.Plain(path)}: {subject.Bytes.Length} bytes{form}\n"));
            InputText.Write(text, sections);
            text.Write("run it\n  " + Quantities.Plain(command) + "\n");
        }

        host.Out.Write(text.ToString());
        return ExitStatus.Fine;
    }
}
