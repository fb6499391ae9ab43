using System.Text.Json;
using System.Xml.Linq;

namespace VmFuzz.Fuzzing.Tests;

public sealed class FindingListTests : IDisposable
{
    private readonly string _root = Directory.CreateTempSubdirectory("vmfuzz-list-").FullName;

    public void Dispose() => Directory.Delete(_root, recursive: true);

    private void Save(string worker, Violation violation, int bytes, FindingState state = FindingState.Confirmed, string target = "guest-code")
    {
        string root = Path.Combine(_root, worker);
        Assert.Null(Corpus.TryOpen(root, static _ => { }, out Corpus? corpus));
        CorpusName name = corpus!.Add(CorpusFolder.Crashes, new CorpusName { Executions = (ulong)bytes }, new byte[bytes])!;
        Finding finding = new()
        {
            Violation = violation,
            State = state,
            Campaign = new(target, "", "worker00", 1, EngineIdentity.Here([]), []),
            Bytes = bytes,
            CorpusFile = "crashes/" + name.Format(),
        };
        string folder = Path.Combine("findings", FindingNames.Slug(violation.Key));
        Assert.True(corpus.TryMakeFolder(folder));
        Assert.True(corpus.TryReplace(Path.Combine(folder, "finding.json"), FindingJson.Write(finding)));
    }

    private static readonly Violation First = new("retire.rip", "Cpuid", "RIP <did> not \"move\" & more");
    private static readonly Violation Second = new("ledger.pins", "", "a pin was left");

    [Fact]
    public void Read_SameKeyInTwoWorkers_IsOneFindingAndTheSurestSmallestIsShown()
    {
        Save("worker00", First, 10, FindingState.Unstable);
        Save("worker01", First, 40);
        Save("worker02", First, 30);
        Save("worker02", Second, 5);
        Directory.CreateDirectory(Path.Combine(_root, "elsewhere"));
        FindingList list = FindingList.Read(_root);
        Assert.Equal(3, list.Workers.Length);
        Assert.Equal($"{Second.Key} {First.Key}", string.Join(' ', list.Findings.Select(static f => f.Best.Violation.Key)));
        Assert.Equal(30, list.Findings[1].Best.Bytes);
        Assert.Equal(3, list.Findings[1].Copies);
        Assert.StartsWith("worker02/findings/retire.rip-cpuid-", list.Findings[1].Folder, StringComparison.Ordinal);
        Assert.Empty(list.Loose);
        Assert.Empty(list.Lines);
    }

    [Fact]
    public void Read_CrashWithoutFinding_IsLoose()
    {
        Save("worker00", First, 10);
        File.WriteAllBytes(Path.Combine(_root, "worker00", "crashes", "id:000009,sig:11,src:000000,time:1,execs:2,op:havoc"), [1]);
        File.WriteAllText(Path.Combine(_root, "worker00", "crashes", "README.txt"), "of AFL++");
        Assert.Equal("worker00/crashes/id:000009,sig:11,src:000000,time:1,execs:2,op:havoc", Assert.Single(FindingList.Read(_root).Loose));
    }

    [Fact]
    public void Read_WorkerDirectoryItself_Works()
    {
        Save("worker00", First, 10);
        FindingList list = FindingList.Read(Path.Combine(_root, "worker00"));
        Assert.Equal(".", Assert.Single(list.Workers));
        Assert.StartsWith("findings/", Assert.Single(list.Findings).Folder, StringComparison.Ordinal);
    }

    [Fact]
    public void Read_HostileFolders_AreLinesAndTheRestIsRead()
    {
        Save("worker00", First, 10);
        string findings = Path.Combine(_root, "worker00", "findings");
        Directory.CreateDirectory(Path.Combine(findings, "empty"));
        Directory.CreateDirectory(Path.Combine(findings, "broken"));
        File.WriteAllText(Path.Combine(findings, "broken", "finding.json"), "{\"schema\":1,");
        Directory.CreateDirectory(Path.Combine(findings, "deep"));
        File.WriteAllText(Path.Combine(findings, "deep", "finding.json"), new string('[', 100_000));
        Directory.CreateSymbolicLink(Path.Combine(findings, "link"), "/");
        Directory.CreateDirectory(Path.Combine(findings, "folder", "finding.json"));
        FindingList list = FindingList.Read(_root);
        Assert.Single(list.Findings);
        Assert.Equal(4, list.Lines.Length);
    }

    [Fact]
    public void Sarif_Findings_HasTheRequiredStructure()
    {
        Save("worker00", First, 10);
        Save("worker00", Second, 5, FindingState.Unstable);
        using JsonDocument sarif = JsonDocument.Parse(SarifReport.Write(FindingList.Read(_root)));
        JsonElement root = sarif.RootElement;
        Assert.Equal("2.1.0", root.GetProperty("version").GetString());
        Assert.EndsWith("sarif-2.1.0.json", root.GetProperty("$schema").GetString(), StringComparison.Ordinal);
        JsonElement run = Assert.Single(root.GetProperty("runs").EnumerateArray());
        JsonElement driver = run.GetProperty("tool").GetProperty("driver");
        Assert.Equal("vmfuzz", driver.GetProperty("name").GetString());
        JsonElement[] rules = [.. driver.GetProperty("rules").EnumerateArray()];
        JsonElement[] results = [.. run.GetProperty("results").EnumerateArray()];
        Assert.Equal(2, results.Length);
        foreach (JsonElement result in results)
        {
            // What a consumer needs (SARIF 2.1.0, sections 3.27, 3.49): the rule, a level, a message, a place.
            string rule = result.GetProperty("ruleId").GetString()!;
            Assert.Equal(rule, rules[result.GetProperty("ruleIndex").GetInt32()].GetProperty("id").GetString());
            Assert.True(result.GetProperty("level").GetString() is "error" or "warning");
            Assert.False(string.IsNullOrEmpty(result.GetProperty("message").GetProperty("text").GetString()));
            string uri = result.GetProperty("locations")[0].GetProperty("physicalLocation").GetProperty("artifactLocation").GetProperty("uri").GetString()!;
            Assert.True(Uri.IsWellFormedUriString(uri, UriKind.Relative), uri);
            Assert.False(string.IsNullOrEmpty(result.GetProperty("partialFingerprints").GetProperty("vmfuzzKey/v1").GetString()));
        }

        Assert.All(rules, static r => Assert.False(string.IsNullOrEmpty(r.GetProperty("shortDescription").GetProperty("text").GetString())));
    }

    [Fact]
    public void Sarif_NoFindings_IsARunWithoutResults()
    {
        using JsonDocument sarif = JsonDocument.Parse(SarifReport.Write(FindingList.Read(_root)));
        Assert.Equal(0, sarif.RootElement.GetProperty("runs")[0].GetProperty("results").GetArrayLength());
    }

    [Fact]
    public void JUnit_Findings_AreFailuresOfTheirOracleAndTheOtherOraclesPass()
    {
        Save("worker00", First, 10);
        Save("worker00", First with { Where = "Hlt" }, 10);
        Save("worker00", new Violation("odd\u0001\ufffe", "", "control \u0007 character"), 1, target: "mine");
        XDocument junit = XDocument.Load(new MemoryStream(JUnitReport.Write(FindingList.Read(_root), ["guest-code", "vmcs-entry"])));
        XElement[] suites = [.. junit.Root!.Elements("testsuite")];
        Assert.Equal("guest-code mine vmcs-entry", string.Join(' ', suites.Select(static s => s.Attribute("name")!.Value)));
        foreach (XElement suite in suites)
        {
            Assert.Equal(suite.Elements("testcase").Count(), (int)suite.Attribute("tests")!);
            Assert.Equal(suite.Descendants("failure").Count(), (int)suite.Attribute("failures")!);
        }

        XElement failure = Assert.Single(suites[0].Descendants("failure"));
        Assert.Equal("retire.rip", failure.Parent!.Attribute("name")!.Value);
        Assert.Contains(First.ToString(), failure.Value, StringComparison.Ordinal);
        Assert.Contains("vmfuzz reproduce worker00/findings/", failure.Value, StringComparison.Ordinal);
        Assert.Equal(OracleText.All.Length, suites[0].Elements("testcase").Count());
        Assert.Empty(suites[2].Descendants("failure"));
    }
}
