namespace VmFuzz.Fuzz.Tests;

public sealed class OptionTests
{
    [Fact]
    public void CommandLine_WithBothForms_IsRead()
    {
        Assert.Null(HostOptions.TryParse(["--target", "a", "--instrument=X,Y", "-runs=1", "--plugin=/p/Q.dll", "--plugin", "/R.dll", "--deep-every=3", "file"], out HostOptions options));
        Assert.Equal("a", options.Target);
        Assert.Equal(["X", "Y"], options.Instrumented);
        Assert.Equal("Q R", string.Join(' ', options.PluginNames));
        Assert.Equal(3, options.DeepEvery);
        Assert.Equal(["-runs=1", "file"], options.Rest);
    }

    [Fact]
    public void CommandLine_WrittenAgain_MeansTheSame()
    {
        Assert.Null(HostOptions.TryParse(["--target=a", "--instrument=X", "--plugin=/p/Q.dll", "--deep-every=0", "--findings=/f", "--entry=A:B:C"], out HostOptions options));
        Assert.Null(HostOptions.TryParse([.. options.Arguments], out HostOptions again));
        Assert.Equal(string.Join(' ', options.Arguments), string.Join(' ', again.Arguments));
        Assert.Equal("A:B:C", again.Entry);
    }

    [Theory]
    [InlineData("--target is missing")]
    [InlineData("--target needs a value", "--target")]
    [InlineData("--deep-every is not a number", "--target=a", "--deep-every=x")]
    [InlineData("--entry is not ASSEMBLY:TYPE:METHOD", "--target=a", "--entry=A:B")]
    public void CommandLine_Wrong_IsSaidSo(string why, params string[] arguments) =>
        Assert.Equal(why, HostOptions.TryParse(arguments, out _));
}
