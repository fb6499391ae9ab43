using Iced.Intel;

namespace VmFuzz.Cpu;

/// <summary>What forms without a row do.</summary>
internal static class UnmodelledForms
{
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
            CpuFeatures shown = FormFeatures.Of(feature);
            if (shown == CpuFeatures.None || !model.Has(shown))
            {
                return false;
            }
        }

        return true;
    }
}
