using Iced.Intel;
using VmFuzz.Cpu.Tests.Integer;

namespace VmFuzz.Cpu.Tests.Silicon;

/// <summary>Makes corpus/vectors on this host, where asked.</summary>
public sealed class MakeVectorTests
{
    private const string MakeVariable = "VMFUZZ_MAKE_VECTORS";

    [Fact]
    public void Make_WhereAsked_WritesTheVectors()
    {
        string? path = Environment.GetEnvironmentVariable(MakeVariable);
        Assert.SkipWhen(path is null, $"set {MakeVariable} to the directory to make them in, as .ci/make-vectors does");
        using NativeSandbox? host = NativeSandbox.TryCreate();
        Assert.True(host is not null, NativeSandbox.Needs);
        foreach (VectorFile file in VectorFile.All)
        {
            VectorMaker.WriteFile(Path.Combine(path!, file.Name + ".jsonl.gz"), Lines(host!, file));
        }
    }

    private static List<string> Lines(NativeSandbox host, VectorFile file)
    {
        var lines = new List<string>();
        var random = new SplitMix64(file.Seed);
        foreach (int bitness in (int[])[64, 32, 16])
        {
            foreach (OpCodeInfo form in SiliconForms.Of(bitness, file))
            {
                int cases = new InstructionForm(form.Code, InstructionFamilies.Of(form.Code), null).FlagsRead != 0 ? file.CasesWithFlagsRead : file.Cases;
                for (int i = 0; i < cases; i++)
                {
                    if (SiliconForms.TryMake(form, bitness, file.IsPacked, ref random) is { } made && VectorMaker.Line(host, made) is { } line)
                    {
                        lines.Add(line);
                    }
                }
            }
        }

        return lines;
    }
}
