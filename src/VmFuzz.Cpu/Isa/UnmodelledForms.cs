using System.Collections.Immutable;
using Iced.Intel;

namespace VmFuzz.Cpu;

/// <summary>What forms without a row do.</summary>
internal static class UnmodelledForms
{
    // Features that models show although not all of their forms are modelled yet.
    private static readonly ImmutableArray<(CpuidFeature Needs, CpuFeatures Feature)> Shown =
    [
        (CpuidFeature.FPU, CpuFeatures.Fpu),
        (CpuidFeature.FPU287, CpuFeatures.Fpu),
        (CpuidFeature.FPU387, CpuFeatures.Fpu),
        (CpuidFeature.CMOV, CpuFeatures.Cmov),
        (CpuidFeature.MMX, CpuFeatures.Mmx),
        (CpuidFeature.SSE, CpuFeatures.Sse),
        (CpuidFeature.SSE2, CpuFeatures.Sse2),
        (CpuidFeature.XSAVE, CpuFeatures.Xsave),
    ];

    /// <summary>
    /// True when the machine must stop at a form without a row, because CPUID shows everything that the form needs. False
    /// when it is #UD, as on a processor without its features.
    /// </summary>
    public static bool Stop(Code form, CpuModel model)
    {
        if (InstructionFamilies.OfDecoded(form).State == FamilyState.Absent)
        {
            return false;
        }

        foreach (CpuidFeature feature in form.CpuidFeatures())
        {
            if (!IsShown(feature, model))
            {
                return false;
            }
        }

        return true;
    }

    private static bool IsShown(CpuidFeature feature, CpuModel model)
    {
        foreach ((CpuidFeature needs, CpuFeatures shown) in Shown)
        {
            if (needs == feature)
            {
                return model.Has(shown);
            }
        }

        return false;
    }
}
