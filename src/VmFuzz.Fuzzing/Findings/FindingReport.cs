using System.Collections.Immutable;
using System.Globalization;

namespace VmFuzz.Fuzzing;

/// <summary>A finding in words.</summary>
public static class FindingReport
{
    /// <summary>What broke, where, and what is known about it.</summary>
    /// <param name="finding">The finding.</param>
    /// <param name="folder">Its folder, as commands name it.</param>
    public static InputSection Describe(Finding finding, string folder)
    {
        ArgumentNullException.ThrowIfNull(finding);
        CampaignFacts campaign = finding.Campaign;
        var facts = ImmutableArray.CreateBuilder<InputFact>();
        facts.Add(new("what broke", finding.Violation.Text));
        facts.Add(new("where", finding.Violation.Where.Length == 0 ? "not said" : finding.Violation.Where));
        facts.Add(new("oracle", $"{finding.Violation.Oracle}: {OracleText.MeaningOf(finding.Violation.Oracle)}"));
        if (OracleText.SourceOf(finding.Violation) is { } source)
        {
            facts.Add(new("source", source));
        }

        facts.Add(new("state", FindingJson.NameOf(finding.State) + (finding.Note.Length == 0 ? "" : ": " + finding.Note)));
        facts.Add(new("target", campaign.Target));
        facts.Add(new("found", string.Create(CultureInfo.InvariantCulture, $"execution {finding.Execution}, seed {InputLines.Hex(campaign.Seed)}{(campaign.Campaign.Length == 0 ? "" : ", campaign " + campaign.Campaign)}{(campaign.Worker.Length == 0 ? "" : ", " + campaign.Worker)}")));
        EngineIdentity engine = campaign.Engine;
        facts.Add(new("engine", string.Create(CultureInfo.InvariantCulture, $"{engine.Version}, semantics {engine.Semantics}, rows {InputLines.Hex(engine.Rows)}{string.Concat(engine.Plugins.Select(static p => ", " + p))}")));
        facts.Add(new("size", string.Create(CultureInfo.InvariantCulture, $"{finding.Bytes} bytes of {finding.OriginalBytes}{(finding.Minimal ? ", minimal" : "")}, {finding.Exits} exits, {finding.Instructions} instructions")));
        if (finding.Digest is { } digest)
        {
            facts.Add(new("digest", "0x" + digest.ToString("x16", CultureInfo.InvariantCulture)));
        }

        facts.Add(new("reproduce", FindingNames.Command(folder, null, campaign.PluginFiles)));
        if (finding.Trace)
        {
            facts.Add(new("replay", FindingNames.Replay(folder, campaign.PluginFiles)));
        }

        return new("finding", finding.Violation.Key, facts.ToImmutable());
    }

    /// <summary>Writes a finding and its input for people.</summary>
    /// <param name="writer">Where to.</param>
    /// <param name="finding">The finding.</param>
    /// <param name="input">Its input.</param>
    /// <param name="folder">Its folder, as commands name it.</param>
    public static void Write(TextWriter writer, Finding finding, FuzzInput input, string folder)
    {
        ArgumentNullException.ThrowIfNull(writer);
        InputLines.Write(writer, Describe(finding, folder));
        InputText.Write(writer, InputText.Describe(input));
    }
}
