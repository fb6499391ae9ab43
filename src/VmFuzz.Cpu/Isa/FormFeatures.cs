using System.Collections.Immutable;
using Iced.Intel;

namespace VmFuzz.Cpu;

/// <summary>Features that forms need, from what the decoder says of them.</summary>
internal static class FormFeatures
{
    // Those of vectors and floating point, of which a model may show one before all of its forms are modelled.
    private static readonly ImmutableArray<(CpuidFeature Needs, CpuFeatures Feature)> Rows =
    [
        (CpuidFeature.FPU, CpuFeatures.Fpu),
        (CpuidFeature.FPU287, CpuFeatures.Fpu),
        (CpuidFeature.FPU387, CpuFeatures.Fpu),
        (CpuidFeature.CMOV, CpuFeatures.Cmov),
        (CpuidFeature.MMX, CpuFeatures.Mmx),
        (CpuidFeature.SSE, CpuFeatures.Sse),
        (CpuidFeature.SSE2, CpuFeatures.Sse2),
        (CpuidFeature.SSE3, CpuFeatures.Sse3),
        (CpuidFeature.SSSE3, CpuFeatures.Ssse3),
        (CpuidFeature.SSE4_1, CpuFeatures.Sse41),
        (CpuidFeature.SSE4_2, CpuFeatures.Sse42),
        (CpuidFeature.PCLMULQDQ, CpuFeatures.Pclmulqdq),
        (CpuidFeature.AES, CpuFeatures.Aes),
        (CpuidFeature.SHA, CpuFeatures.Sha),
        (CpuidFeature.AVX, CpuFeatures.Avx),
        (CpuidFeature.AVX2, CpuFeatures.Avx2),
        (CpuidFeature.XSAVE, CpuFeatures.Xsave),
    ];

    /// <summary>The feature as models have it; None for one that is not here.</summary>
    public static CpuFeatures Of(CpuidFeature needs)
    {
        foreach ((CpuidFeature Needs, CpuFeatures Feature) row in Rows)
        {
            if (row.Needs == needs)
            {
                return row.Feature;
            }
        }

        return CpuFeatures.None;
    }

    /// <summary>Whether models can have all that a form needs.</summary>
    public static bool AreHere(Code form) => !form.CpuidFeatures().Any(static feature => Of(feature) == CpuFeatures.None);

    /// <summary>All features that a form needs.</summary>
    public static CpuFeatures Of(Code form)
    {
        CpuFeatures features = CpuFeatures.None;
        foreach (CpuidFeature feature in form.CpuidFeatures())
        {
            features |= Of(feature);
        }

        return features;
    }
}
