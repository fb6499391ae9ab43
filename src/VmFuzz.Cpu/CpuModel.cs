using System.Collections.Immutable;
using VmFuzz.Arch;

namespace VmFuzz.Cpu;

/// <summary>Features a processor model can have. What is off gives #UD and is absent from CPUID.</summary>
[Flags]
public enum CpuFeatures : ulong
{
    /// <summary>Nothing.</summary>
    None = 0,
    /// <summary>CMOVcc.</summary>
    Cmov = 1 << 0,
    /// <summary>CMPXCHG8B.</summary>
    Cx8 = 1 << 1,
    /// <summary>CMPXCHG16B.</summary>
    Cx16 = 1 << 2,
    /// <summary>SYSENTER and SYSEXIT.</summary>
    Sep = 1 << 3,
    /// <summary>MSRs.</summary>
    Msr = 1 << 4,
    /// <summary>TSC.</summary>
    Tsc = 1 << 5,
    /// <summary>RDTSCP.</summary>
    Rdtscp = 1 << 6,
    /// <summary>PAE.</summary>
    Pae = 1 << 7,
    /// <summary>4 MiB pages.</summary>
    Pse = 1 << 8,
    /// <summary>Global pages.</summary>
    Pge = 1 << 9,
    /// <summary>Execute disable.</summary>
    Nx = 1 << 10,
    /// <summary>Long mode.</summary>
    LongMode = 1 << 11,
    /// <summary>SYSCALL in 64-bit mode.</summary>
    Syscall = 1 << 12,
    /// <summary>1 GiB pages.</summary>
    Page1G = 1 << 13,
    /// <summary>LAHF and SAHF in 64-bit mode.</summary>
    Lahf64 = 1 << 14,
    /// <summary>PCIDs and INVPCID.</summary>
    Pcid = 1 << 15,
    /// <summary>SMEP.</summary>
    Smep = 1 << 16,
    /// <summary>SMAP.</summary>
    Smap = 1 << 17,
    /// <summary>UMIP.</summary>
    Umip = 1 << 18,
    /// <summary>FSGSBASE.</summary>
    Fsgsbase = 1 << 19,
    /// <summary>MOVBE.</summary>
    Movbe = 1 << 20,
    /// <summary>POPCNT.</summary>
    Popcnt = 1 << 21,
    /// <summary>LZCNT.</summary>
    Lzcnt = 1 << 22,
    /// <summary>BMI1.</summary>
    Bmi1 = 1 << 23,
    /// <summary>BMI2.</summary>
    Bmi2 = 1 << 24,
    /// <summary>ADX.</summary>
    Adx = 1 << 25,
    /// <summary>RDRAND.</summary>
    Rdrand = 1 << 26,
    /// <summary>RDSEED.</summary>
    Rdseed = 1 << 27,
    /// <summary>CLFLUSH.</summary>
    Clflush = 1 << 28,
    /// <summary>x87.</summary>
    Fpu = 1 << 29,
    /// <summary>FXSAVE and FXRSTOR.</summary>
    Fxsr = 1 << 30,
    /// <summary>SSE.</summary>
    Sse = 1UL << 31,
    /// <summary>SSE2.</summary>
    Sse2 = 1UL << 32,
    /// <summary>VMX.</summary>
    Vmx = 1UL << 33,
    /// <summary>Machine-check architecture.</summary>
    Mca = 1UL << 34,
    /// <summary>MTRRs.</summary>
    Mtrr = 1UL << 35,
    /// <summary>PAT.</summary>
    Pat = 1UL << 36,
    /// <summary>Local APIC.</summary>
    Apic = 1UL << 37,
    /// <summary>Virtual-8086 extensions.</summary>
    Vme = 1UL << 38,
    /// <summary>Debugging extensions.</summary>
    De = 1UL << 39,
    /// <summary>MONITOR and MWAIT.</summary>
    Monitor = 1UL << 40,
    /// <summary>XSAVE.</summary>
    Xsave = 1UL << 41,
    /// <summary>Five-level paging.</summary>
    La57 = 1UL << 42,
    /// <summary>MMX.</summary>
    Mmx = 1UL << 43,
    /// <summary>Protection keys for user pages.</summary>
    Pku = 1UL << 44,
    /// <summary>Protection keys for supervisor pages.</summary>
    Pks = 1UL << 45,
    /// <summary>x2APIC mode of the local APIC.</summary>
    X2Apic = 1UL << 46,
    /// <summary>TSC-deadline mode of the local APIC's timer.</summary>
    TscDeadline = 1UL << 47,
    /// <summary>SSE3.</summary>
    Sse3 = 1UL << 48,
    /// <summary>SSSE3.</summary>
    Ssse3 = 1UL << 49,
    /// <summary>SSE4.1.</summary>
    Sse41 = 1UL << 50,
    /// <summary>SSE4.2.</summary>
    Sse42 = 1UL << 51,
    /// <summary>PCLMULQDQ.</summary>
    Pclmulqdq = 1UL << 52,
    /// <summary>AES instructions.</summary>
    Aes = 1UL << 53,
    /// <summary>SHA instructions.</summary>
    Sha = 1UL << 54,
    /// <summary>AVX, and the state component of the upper halves of YMM registers.</summary>
    Avx = 1UL << 55,
    /// <summary>AVX2.</summary>
    Avx2 = 1UL << 56,
}

/// <summary>One CPUID leaf.</summary>
/// <param name="Leaf">EAX on input.</param>
/// <param name="Subleaf">ECX on input; ignored unless <paramref name="HasSubleaf"/>.</param>
/// <param name="HasSubleaf">Whether the sub-leaf matters.</param>
/// <param name="Eax">Result.</param>
/// <param name="Ebx">Result.</param>
/// <param name="Ecx">Result.</param>
/// <param name="Edx">Result.</param>
public readonly record struct CpuidLeaf(uint Leaf, uint Subleaf, bool HasSubleaf, uint Eax, uint Ebx, uint Ecx, uint Edx);

/// <summary>A processor model: a name, features, CPUID leaves and address widths. A value.</summary>
/// <param name="Name">Name as given to <c>-cpu</c>.</param>
/// <param name="Features">What is implemented and shown.</param>
/// <param name="PhysicalBits">Physical-address width, 36 to 52.</param>
/// <param name="Leaves">The CPUID table; derived bits (OSXSAVE, APIC id) are filled in at execution.</param>
public sealed record CpuModel(string Name, CpuFeatures Features, int PhysicalBits, ImmutableArray<CpuidLeaf> Leaves)
{
    /// <summary>Whether a feature is on.</summary>
    public bool Has(CpuFeatures feature) => (Features & feature) == feature;

    /// <summary>Looks a leaf up with the rule of Intel processors: a leaf above its range gives the highest basic leaf.</summary>
    public CpuidLeaf Lookup(uint leaf, uint subleaf) => CpuidTable.Lookup(Leaves, leaf, subleaf);
}
