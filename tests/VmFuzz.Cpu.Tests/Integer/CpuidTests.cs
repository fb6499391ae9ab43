using VmFuzz.Arch;

namespace VmFuzz.Cpu.Tests.Integer;

/// <summary>CPUID of the models.</summary>
public sealed unsafe class CpuidTests
{
    [Fact]
    public void Models_EveryFeature_ShowsExactlyItsBits()
    {
        foreach (string name in CpuModels.Names)
        {
            Assert.True(CpuModels.TryFind(name, out CpuModel model));
            foreach (FeatureBit bit in CpuModels.FeatureBits)
            {
                CpuidLeaf leaf = model.Leaves.FirstOrDefault(row => row.Leaf == bit.Leaf && row.Subleaf == 0);
                uint value = bit.Register switch
                {
                    CpuidRegister.Eax => leaf.Eax,
                    CpuidRegister.Ebx => leaf.Ebx,
                    CpuidRegister.Ecx => leaf.Ecx,
                    _ => leaf.Edx,
                };
                Assert.True(model.Has(bit.Feature) == ((value >> bit.Bit) & 1) > 0, $"{name} {bit}");
            }
        }
    }

    [Theory]
    [InlineData(3UL, 576UL)]
    [InlineData(7UL, 832UL)]
    public void Cpuid_SizeOfTheXsaveArea_FollowsXcr0(ulong xcr0, ulong bytes)
    {
        using var machine = new TestProcessor(model: NativeForms.WithVectors());
        machine.Cpu.State->Xcr0 = xcr0;
        (machine[Gpr.Rax], machine[Gpr.Rcx]) = (0xD, 0);
        machine.Step(0x0F, 0xA2);
        Assert.Equal((7UL, bytes, 832UL), (machine[Gpr.Rax], machine[Gpr.Rbx], machine[Gpr.Rcx]));
        (machine[Gpr.Rax], machine[Gpr.Rcx]) = (0xD, 2);
        machine.Step(0x0F, 0xA2);
        Assert.Equal((256UL, 576UL), (machine[Gpr.Rax], machine[Gpr.Rbx]));
    }

    [Fact]
    public void FeatureBits_EveryFeature_HasARow()
    {
        foreach (CpuFeatures feature in Enum.GetValues<CpuFeatures>())
        {
            Assert.True(feature == CpuFeatures.None || CpuModels.FeatureBits.Any(bit => bit.Feature == feature), $"{feature}");
        }
    }

    [Fact]
    public void Lookup_OutOfRange_FollowsIntelsRule()
    {
        CpuModel model = CpuModels.VmFuzz64;
        CpuidLeaf highest = model.Lookup(0x16, 0);
        Assert.Equal(1000U, highest.Eax);
        Assert.Equal(highest, model.Lookup(0x17, 0));
        Assert.Equal(highest, model.Lookup(0x8000_0009, 0));
        Assert.Equal(highest, model.Lookup(0xC000_0000, 0));
        Assert.Equal(0U, model.Lookup(0x4000_0000, 0).Eax);
        Assert.Equal(0U, model.Lookup(0x10, 0).Eax);
        Assert.Equal(5U, model.Lookup(0xB, 5).Ecx);
    }

    [Fact]
    public void Lookup_VendorAndBrand_AreText()
    {
        CpuidLeaf vendor = CpuModels.VmFuzz64.Lookup(0, 0);
        Assert.Equal("GenuineIntel", Text(vendor.Ebx, vendor.Edx, vendor.Ecx));
        CpuidLeaf brand = CpuModels.VmFuzz64.Lookup(0x8000_0002, 0);
        Assert.Equal("VmFuzz Virtual C", Text(brand.Eax, brand.Ebx, brand.Ecx, brand.Edx));
    }

    [Fact]
    public void With_FeatureOff_HidesItEverywhere()
    {
        CpuModel model = CpuModels.With(CpuModels.VmFuzz64, CpuFeatures.Vmx, CpuFeatures.LongMode);
        Assert.Equal(0U, model.Lookup(0x8000_0001, 0).Edx & (1U << 29));
        Assert.NotEqual(0U, model.Lookup(1, 0).Ecx & (1U << 5));
        Assert.Equal(CpuModels.VmFuzz64.Lookup(0x8000_0003, 0), model.Lookup(0x8000_0003, 0));
    }

    private static string Text(params uint[] words) =>
        System.Text.Encoding.ASCII.GetString(System.Runtime.InteropServices.MemoryMarshal.AsBytes(words.AsSpan()));
}
