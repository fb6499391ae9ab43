using Iced.Intel;

namespace VmFuzz.Cpu.Tests.Integer;

/// <summary>What the table says of every form that the decoder knows.</summary>
public sealed class IsaTests
{
    [Fact]
    public void EveryForm_HasARowOrAFamilyThatSaysWhyNot()
    {
        IEnumerable<string> unexplained = InstructionForm.All
            .Where(static f => f.Row is null && f.Family.State == FamilyState.Complete)
            .Select(static f => f.Code.ToString());
        Assert.Equal("", string.Join(' ', unexplained));
    }

    [Fact]
    public void EveryFamily_IsWhatItSays()
    {
        Assert.Equal(InstructionFamilies.All.Length, InstructionFamilies.All.Select(static f => f.Id).Distinct(StringComparer.Ordinal).Count());
        foreach (InstructionFamily family in InstructionFamilies.All)
        {
            int forms = InstructionForm.All.Count(f => f.Family == family);
            int modelled = InstructionForm.All.Count(f => f.Family == family && f.Row is not null);
            Assert.True(forms != 0, $"{family.Id} has no forms");
            Assert.True(
                family.State switch
                {
                    FamilyState.Complete => modelled == forms,
                    FamilyState.Partial => modelled != 0 && modelled != forms,
                    _ => modelled == 0,
                },
                $"{family.Id} is said to be {family.State}, and {modelled} of {forms} forms are modelled");
        }
    }

    [Fact]
    public void EveryFeature_OfAFamily_IsNamedOnce()
    {
        foreach (CpuidFeature feature in Enum.GetValues<CpuidFeature>())
        {
            Assert.True(InstructionFamilies.All.Count(f => f.Features.Contains(feature)) <= 1, $"{feature}");
        }
    }

    [Fact]
    public void EveryRow_IsOfAFormThatTheDecoderGives()
    {
        foreach (InstructionRow row in InstructionTable.Default.Rows)
        {
            Assert.True(InstructionForm.All.Any(f => f.Row == row), $"{row.Mnemonic} {row.Form}");
        }
    }
}
