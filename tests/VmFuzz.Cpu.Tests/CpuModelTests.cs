namespace VmFuzz.Cpu.Tests;

/// <summary>What <c>-cpu</c> takes.</summary>
public sealed class CpuModelTests
{
    [Fact]
    public void TryParse_FeaturesSwitched_AreInTheModelAndInCpuid()
    {
        Assert.Null(CpuModels.TryParse("max,-smep,-PDPE1GB,-lahf_lm", out CpuModel model));
        Assert.Equal("max,-smep,-PDPE1GB,-lahf_lm", model.Name);
        Assert.Equal(CpuModels.VmFuzz64.Features & ~(CpuFeatures.Smep | CpuFeatures.Page1G | CpuFeatures.Lahf64), model.Features);
        Assert.Equal(0U, model.Lookup(7, 0).Ebx & (1U << 7));
        Assert.NotEqual(0U, CpuModels.VmFuzz64.Lookup(7, 0).Ebx & (1U << 7));
    }

    [Fact]
    public void TryParse_TheLastSwitchOfAFeature_Wins()
    {
        Assert.Null(CpuModels.TryParse("max,-smep,+smep", out CpuModel model));
        Assert.Equal(CpuModels.VmFuzz64.Features, model.Features);
    }

    [Fact]
    public void TryParse_VectorFeatures_AreThoseWithoutFloatingPoint()
    {
        Assert.Null(CpuModels.TryParse("max,+mmx,+ssse3,+sse4.2,+pclmulqdq,+aes,+sha-ni", out CpuModel model));
        Assert.True(model.Has(CpuFeatures.Mmx | CpuFeatures.Ssse3 | CpuFeatures.Sse42 | CpuFeatures.Pclmulqdq | CpuFeatures.Aes | CpuFeatures.Sha));
        foreach (string name in (string[])["pni", "sse4.1", "avx", "avx2"])
        {
            Assert.StartsWith(name + " is not implemented", CpuModels.TryParse("max,+" + name, out _), StringComparison.Ordinal);
        }
    }

    [Theory]
    [InlineData("host", "there is no processor model 'host'")]
    [InlineData("max,smep", "'smep' does not switch a feature")]
    [InlineData("max,+nonsense", "'+nonsense' does not switch a feature")]
    [InlineData("max,", "'' does not switch a feature")]
    [InlineData("max,+vmx", "vmx is not implemented")]
    public void TryParse_Nonsense_SaysWhatIsWrong(string text, string what) =>
        Assert.StartsWith(what, CpuModels.TryParse(text, out _), StringComparison.Ordinal);

    [Fact]
    public void Names_EveryFeature_IsFoundByItsName()
    {
        foreach ((CpuFeatures feature, string name) in CpuFeatureNames.All)
        {
            Assert.True(CpuFeatureNames.TryFind(name, out CpuFeatures found));
            Assert.Equal(feature, found);
        }
    }
}
