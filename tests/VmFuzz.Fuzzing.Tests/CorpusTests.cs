using System.Text;

namespace VmFuzz.Fuzzing.Tests;

public sealed class CorpusTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("vmfuzz-corpus-").FullName;
    private readonly List<string> _lines = [];

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private Corpus Open()
    {
        Assert.Null(Corpus.TryOpen(_folder, _lines.Add, out Corpus? corpus));
        return corpus!;
    }

    [Fact]
    public void Add_ThenOpenAgain_ReadsTheSameAndGoesOnCounting()
    {
        CorpusName? written = Open().Add(CorpusFolder.Queue, new CorpusName { Source = 3, Second = 9, Time = 1200, Executions = 4711, Operation = "havoc", Covers = true }, [1, 2, 3]);
        Assert.Equal("id:000000,src:000003+000009,time:1200,execs:4711,op:havoc,+cov", written!.Format());
        Corpus again = Open();
        CorpusFile file = Assert.Single(again.Read(CorpusFolder.Queue));
        Assert.Equal(written, file.Name);
        Assert.Equal([1, 2, 3], file.Bytes);
        Assert.Equal(1U, again.Add(CorpusFolder.Queue, new CorpusName(), [])!.Id);
        Assert.Equal(0U, again.Add(CorpusFolder.Crashes, new CorpusName { Signal = 6 }, [])!.Id);
        Assert.Empty(_lines);
    }

    [Theory]
    [InlineData("id:000001,time:0,execs:0,orig:seed.bin", 1)]
    [InlineData("id:000002,src:000000,time:7,execs:8,op:havoc,rep:4,+cov", 2)]
    [InlineData("id:000003,sig:11,src:000002,time:1,execs:2,op:flip1,pos:3", 3)]
    public void Parse_NamesOfAfl_AreRead(string name, uint id) => Assert.Equal(id, CorpusName.Parse(name)!.Id);

    [Theory]
    [InlineData("")]
    [InlineData("README.txt")]
    [InlineData("id:x")]
    [InlineData("id:99999999999")]
    [InlineData("time:1,execs:2")]
    public void Parse_OtherNames_AreForeign(string name) => Assert.Null(CorpusName.Parse(name));

    [Fact]
    public void Format_HostileText_StaysOneName()
    {
        string name = new CorpusName { Operation = "../../etc/passwd\n\0,id:5" + new string('x', 500) }.Format();
        Assert.DoesNotContain('/', name);
        Assert.DoesNotContain('\n', name);
        Assert.True(name.Length < 255);
        Assert.Equal(0U, CorpusName.Parse(name)!.Id);
    }

    [Theory]
    [InlineData("../x")]
    [InlineData("queue/../../x")]
    [InlineData("/etc/passwd")]
    [InlineData("")]
    [InlineData(".")]
    [InlineData("a\0b")]
    public void Resolve_PathsThatLeaveTheDirectory_AreRefused(string path)
    {
        Corpus corpus = Open();
        Assert.Null(corpus.Resolve(path));
        Assert.False(corpus.TryReplace(path, [1]));
        Assert.Single(_lines);
    }

    [Fact]
    public void Read_HostileDirectory_SkipsWithALineAndReadsTheRest()
    {
        Corpus corpus = Open();
        string queue = corpus.PathOf(CorpusFolder.Queue);
        string outside = Path.Combine(_folder, "outside");
        File.WriteAllText(outside, "secret");
        File.CreateSymbolicLink(Path.Combine(queue, "a-link"), outside);
        File.CreateSymbolicLink(Path.Combine(queue, "b-dangling"), Path.Combine(_folder, "nothing"));
        Directory.CreateDirectory(Path.Combine(queue, "c-folder"));
        File.WriteAllBytes(Path.Combine(queue, "d-empty"), []);
        using (FileStream large = File.Create(Path.Combine(queue, "e-large")))
        {
            large.SetLength(1L << 32);
        }

        File.WriteAllBytes(Path.Combine(queue, "id:000041,\u00ff weird \n name"), [0xFF]);
        IReadOnlyList<CorpusFile> files = corpus.Read(CorpusFolder.Queue);
        string[] expected = ["d-empty", "e-large", "id:000041,\u00ff weird \n name"];
        Assert.True(expected.SequenceEqual(files.Select(static f => f.FileName), StringComparer.Ordinal));
        Assert.Equal(FuzzLimits.InputBytes, files[1].Bytes.Length);
        Assert.Equal(2, _lines.Count);
        Assert.All(files, static f => FuzzCodec.Decode(f.Bytes.AsSpan()));
        Assert.Equal(42U, Open().Add(CorpusFolder.Queue, new CorpusName(), [])!.Id);
    }

    [Fact]
    public void Read_Pipe_DoesNotWait()
    {
        Corpus corpus = Open();
        string pipe = Path.Combine(corpus.PathOf(CorpusFolder.Queue), "pipe");
        using var make = System.Diagnostics.Process.Start("mkfifo", pipe);
        make.WaitForExit();
        Assert.Empty(Assert.Single(corpus.Read(CorpusFolder.Queue)).Bytes);
    }

    [Fact]
    public void TryOpen_FolderIsALink_IsRefused()
    {
        string elsewhere = Directory.CreateDirectory(Path.Combine(_folder, "elsewhere")).FullName;
        string root = Directory.CreateDirectory(Path.Combine(_folder, "out")).FullName;
        Directory.CreateSymbolicLink(Path.Combine(root, "queue"), elsewhere);
        Assert.Contains("is a link", Corpus.TryOpen(root, _lines.Add, out _), StringComparison.Ordinal);
    }

    [Fact]
    public void TryOpen_PathIsAFile_SaysSo()
    {
        string file = Path.Combine(_folder, "file");
        File.WriteAllText(file, "");
        Assert.Contains("cannot be used", Corpus.TryOpen(file, _lines.Add, out _), StringComparison.Ordinal);
    }

    [Fact]
    public void Add_FolderGone_IsALineAndNotAnException()
    {
        Corpus corpus = Open();
        Directory.Delete(corpus.PathOf(CorpusFolder.Hangs));
        Assert.Null(corpus.Add(CorpusFolder.Hangs, new CorpusName(), [1]));
        Assert.Single(_lines);
    }

    [Fact]
    public void Stats_RoundTripAndPlot_HaveAflsForm()
    {
        FuzzerStats stats = new()
        {
            RunTime = 20,
            Executions = 4001,
            EdgesFound = 1,
            EdgesTotal = 3,
            SavedCrashes = 2,
            CorpusCount = 7,
            More = [new("afl_banner", "exit-handlers\nexecs_done : 5")],
        };
        string text = stats.Format();
        Assert.Contains("execs_per_sec     : 200.05\n", text, StringComparison.Ordinal);
        Assert.Contains("bitmap_cvg        : 33.33%\n", text, StringComparison.Ordinal);
        FuzzerStats again = FuzzerStats.Parse(text);
        Assert.Equal(text, again.Format());
        Assert.Equal(4001UL, again.Executions);
        Assert.Equal(FuzzerStats.PlotHeader.Split(',').Length, stats.PlotLine().Split(',').Length);
        Corpus corpus = Open();
        Assert.True(corpus.TryReplace("fuzzer_stats", Encoding.UTF8.GetBytes(text)));
        Assert.True(corpus.TryAppend("plot_data", FuzzerStats.PlotHeader));
        Assert.Equal(text, Encoding.UTF8.GetString(corpus.TryRead("fuzzer_stats")!));
    }
}
