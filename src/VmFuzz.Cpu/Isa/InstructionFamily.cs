using System.Collections.Immutable;
using Iced.Intel;

namespace VmFuzz.Cpu;

/// <summary>What becomes of the forms of a family.</summary>
public enum FamilyState : byte
{
    /// <summary>Every form has a row of the instruction table.</summary>
    Complete,

    /// <summary>Some forms have a row. The others stop the machine, which says so, when CPUID shows their features; else they are #UD.</summary>
    Partial,

    /// <summary>No form is modelled, and no processor model shows the feature: they are #UD.</summary>
    Absent,
}

/// <summary>Instruction forms that go together.</summary>
/// <param name="Id">Unique id.</param>
/// <param name="State">What becomes of them.</param>
/// <param name="Reason">What the family is; for one that is not complete, why.</param>
/// <param name="Features">Iced's CPUID features of its forms: a form belongs to the first family with one of its features.</param>
public sealed record InstructionFamily(string Id, FamilyState State, string Reason, ImmutableArray<CpuidFeature> Features);

/// <summary>The families. Together with the instruction table they say of every form what becomes of it.</summary>
public static class InstructionFamilies
{
    /// <summary>The family of forms that decode only with an option of the decoder, which this processor never sets.</summary>
    public static InstructionFamily Undecoded { get; } = new(
        "other-processors", FamilyState.Absent, "encodings that mean something else here: of other makers, of older processors, and of MPX, whose encodings are hints without it", []);

    /// <summary>All families, special ones before general ones.</summary>
    public static ImmutableArray<InstructionFamily> All { get; } =
    [
        Undecoded,
        new("avx512", FamilyState.Absent, "512-bit registers and masks",
        [
            .. Named("AVX512"), CpuidFeature.KNC,
        ]),
        new("amx", FamilyState.Absent, "tile registers", [.. Named("AMX_")]),
        new("key-locker", FamilyState.Absent, "wrapped keys need a secret of the platform", [CpuidFeature.AESKLE, CpuidFeature.WIDE_KL, CpuidFeature.KL]),
        new("amd", FamilyState.Absent, "instructions of AMD's processors alone: SVM, XOP, FMA4, TBM, LWP, 3DNow!, SSE4a and small ones",
        [
            .. Named("SEV_"), CpuidFeature.SVM, CpuidFeature.SKINIT, CpuidFeature.SKINIT_or_SVM, CpuidFeature.XOP, CpuidFeature.FMA4, CpuidFeature.TBM,
            CpuidFeature.LWP, CpuidFeature.D3NOW, CpuidFeature.D3NOWEXT, CpuidFeature.SSE4A, CpuidFeature.CLZERO, CpuidFeature.MONITORX,
            CpuidFeature.INVLPGB, CpuidFeature.MCOMMIT, CpuidFeature.RDPRU, CpuidFeature.RMPQUERY,
        ]),
        new("via", FamilyState.Absent, "instructions of VIA's, Centaur's and Cyrix' processors",
        [
            .. Named("PADLOCK_"), .. Named("CYRIX_"), CpuidFeature.CENTAUR_AIS,
        ]),
        new("sgx", FamilyState.Absent, "enclaves", [CpuidFeature.SGX1, CpuidFeature.OSS]),
        new("tdx", FamilyState.Absent, "trust domains and the module's instructions", [CpuidFeature.TDX, CpuidFeature.PCONFIG, CpuidFeature.TSE]),
        new("tsx", FamilyState.Absent, "transactions, which processors have taken back; XACQUIRE and XRELEASE are hints",
        [
            CpuidFeature.RTM, CpuidFeature.HLE_or_RTM, CpuidFeature.TSXLDTRK,
        ]),
        new("fred", FamilyState.Absent, "event delivery by FRED", [CpuidFeature.FRED, CpuidFeature.LKGS]),
        new("uintr", FamilyState.Absent, "user interrupts", [CpuidFeature.UINTR]),
        new("cet", FamilyState.Partial, "shadow stacks are not modelled; ENDBR and RDSSP are hints without them", [CpuidFeature.CET_SS, CpuidFeature.CET_IBT]),
        new("newer", FamilyState.Absent, "small extensions that came after what a stock distribution uses",
        [
            CpuidFeature.CL1INVMB, CpuidFeature.CMPCCXADD, CpuidFeature.ENQCMD, CpuidFeature.HRESET, CpuidFeature.IA64, CpuidFeature.MOVDIR64B,
            CpuidFeature.MOVDIRI, CpuidFeature.MSRLIST, CpuidFeature.PCOMMIT, CpuidFeature.PTWRITE, CpuidFeature.RAO_INT, CpuidFeature.SERIALIZE,
            CpuidFeature.UDBG, CpuidFeature.WAITPKG, CpuidFeature.WRMSRNS,
        ]),
        new("smx", FamilyState.Partial, "GETSEC has leaves only where there is measured launch; without SMXE it is #UD", [CpuidFeature.SMX]),
        new("x87", FamilyState.Partial, "floating point is not modelled yet; the control instructions that kernels use are",
        [
            CpuidFeature.FPU, CpuidFeature.FPU287, CpuidFeature.FPU287XL_ONLY, CpuidFeature.FPU387, CpuidFeature.FPU387SL_ONLY,
        ]),
        new("vectors", FamilyState.Partial, "arithmetic on floating point and gathers are not modelled yet; packed integers, moves, bitwise logic, AES, SHA and state are",
        [
            .. Named("AVX").Except(Named("AVX512")), CpuidFeature.MMX, CpuidFeature.SSE, CpuidFeature.SSE2, CpuidFeature.SSE3, CpuidFeature.SSSE3, CpuidFeature.SSE4_1,
            CpuidFeature.SSE4_2, CpuidFeature.AES, CpuidFeature.VAES, CpuidFeature.PCLMULQDQ, CpuidFeature.VPCLMULQDQ, CpuidFeature.SHA,
            CpuidFeature.SHA512, CpuidFeature.SM3, CpuidFeature.SM4, CpuidFeature.GFNI, CpuidFeature.F16C, CpuidFeature.FMA,
        ]),
        new("xsave", FamilyState.Partial, "the standard form is there, with x87 and SSE state; the compacted form comes with the vectors",
        [
            CpuidFeature.XSAVE, CpuidFeature.XSAVEC, CpuidFeature.XSAVEOPT, CpuidFeature.XSAVES,
        ]),
        new("user-system", FamilyState.Partial, "protection keys, RDPID and flushes to memory are not modelled yet",
        [
            CpuidFeature.PKU, CpuidFeature.RDPID, CpuidFeature.CLFLUSHOPT, CpuidFeature.CLWB, CpuidFeature.CLFSH, CpuidFeature.CLDEMOTE,
            CpuidFeature.FSGSBASE, CpuidFeature.RDTSCP, CpuidFeature.RDRAND, CpuidFeature.RDSEED, CpuidFeature.MONITOR, CpuidFeature.WBNOINVD,
        ]),
        new("vmx", FamilyState.Complete, "VT-x", [CpuidFeature.VMX, CpuidFeature.INVEPT, CpuidFeature.INVVPID]),
        new("bits", FamilyState.Complete, "BMI, ADX, MOVBE, POPCNT, LZCNT",
        [
            CpuidFeature.BMI1, CpuidFeature.BMI2, CpuidFeature.ADX, CpuidFeature.MOVBE, CpuidFeature.POPCNT, CpuidFeature.LZCNT,
        ]),
        new("base", FamilyState.Complete, "integer and system instructions", []),
    ];

    // Places in All, by feature: the first of those of a form's features is its family's.
    private static readonly ImmutableArray<int> ByFeature = Index();

    /// <summary>The family of a form.</summary>
    public static InstructionFamily Of(Code form) => form.ToOpCode().DecoderOption != DecoderOptions.None ? Undecoded : OfDecoded(form);

    /// <summary>The family of a form that the decoder gives.</summary>
    internal static InstructionFamily OfDecoded(Code form)
    {
        int first = All.Length - 1;
        foreach (CpuidFeature feature in form.CpuidFeatures())
        {
            first = Math.Min(first, ByFeature[(int)feature]);
        }

        return All[first];
    }

    private static ImmutableArray<int> Index()
    {
        int[] index = new int[Enum.GetValues<CpuidFeature>().Length];
        Array.Fill(index, All.Length - 1);
        for (int i = 0; i < All.Length; i++)
        {
            foreach (CpuidFeature feature in All[i].Features)
            {
                index[(int)feature] = i;
            }
        }

        return [.. index];
    }

    private static IEnumerable<CpuidFeature> Named(string prefix)
    {
        foreach (CpuidFeature feature in Enum.GetValues<CpuidFeature>())
        {
            if (feature.ToString().StartsWith(prefix, StringComparison.Ordinal))
            {
                yield return feature;
            }
        }
    }
}
