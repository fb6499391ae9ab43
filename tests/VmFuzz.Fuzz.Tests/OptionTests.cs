namespace VmFuzz.Fuzz.Tests;

public sealed class OptionTests
{
    [Fact]
    public void CommandLine_WithBothForms_IsRead()
    {
        Assert.Null(HostOptions.TryParse(["--target", "a", "--instrument=X,Y", "-runs=1", "file"], out HostOptions options));
        Assert.Equal("a", options.Target);
        Assert.Equal(["X", "Y"], options.Instrumented);
        Assert.Equal(["-runs=1", "file"], options.Rest);
    }
}
