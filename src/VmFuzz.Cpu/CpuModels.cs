using System.Collections.Immutable;
using System.Text;

namespace VmFuzz.Cpu;

/// <summary>Registers that CPUID returns.</summary>
internal enum CpuidRegister : byte
{
    Eax,
    Ebx,
    Ecx,
    Edx,
}

/// <summary>Where CPUID shows a feature. A feature can have several rows.</summary>
/// <param name="Feature">The feature.</param>
/// <param name="Leaf">Leaf; sub-leaf 0.</param>
/// <param name="Register">Which result.</param>
/// <param name="Bit">Bit number, 0 to 31.</param>
internal readonly record struct FeatureBit(CpuFeatures Feature, uint Leaf, CpuidRegister Register, int Bit);

/// <summary>The processor models. CPUID of each is worked out from its features by one table, so it shows exactly those.</summary>
public static class CpuModels
{
    /// <summary>Name of the default model.</summary>
    public const string DefaultName = "vmfuzz64";

    private const uint Intel0 = 0x756E_6547; // "Genu"
    private const uint Intel1 = 0x4965_6E69; // "ineI"
    private const uint Intel2 = 0x6C65_746E; // "ntel"

    /// <summary>SDM "CPUID - CPU Identification", feature information tables.</summary>
    internal static readonly ImmutableArray<FeatureBit> FeatureBits =
    [
        new(CpuFeatures.Fpu, 1, CpuidRegister.Edx, 0),
        new(CpuFeatures.Vme, 1, CpuidRegister.Edx, 1),
        new(CpuFeatures.De, 1, CpuidRegister.Edx, 2),
        new(CpuFeatures.Pse, 1, CpuidRegister.Edx, 3),
        new(CpuFeatures.Tsc, 1, CpuidRegister.Edx, 4),
        new(CpuFeatures.Msr, 1, CpuidRegister.Edx, 5),
        new(CpuFeatures.Pae, 1, CpuidRegister.Edx, 6),
        new(CpuFeatures.Mca, 1, CpuidRegister.Edx, 7),
        new(CpuFeatures.Cx8, 1, CpuidRegister.Edx, 8),
        new(CpuFeatures.Apic, 1, CpuidRegister.Edx, 9),
        new(CpuFeatures.Sep, 1, CpuidRegister.Edx, 11),
        new(CpuFeatures.Mtrr, 1, CpuidRegister.Edx, 12),
        new(CpuFeatures.Pge, 1, CpuidRegister.Edx, 13),
        new(CpuFeatures.Mca, 1, CpuidRegister.Edx, 14),
        new(CpuFeatures.Cmov, 1, CpuidRegister.Edx, 15),
        new(CpuFeatures.Pat, 1, CpuidRegister.Edx, 16),
        new(CpuFeatures.Pse, 1, CpuidRegister.Edx, 17), // PSE-36: the walker takes bits 13 to 20 of large entries.
        new(CpuFeatures.Clflush, 1, CpuidRegister.Edx, 19),
        new(CpuFeatures.Mmx, 1, CpuidRegister.Edx, 23),
        new(CpuFeatures.Fxsr, 1, CpuidRegister.Edx, 24),
        new(CpuFeatures.Sse, 1, CpuidRegister.Edx, 25),
        new(CpuFeatures.Sse2, 1, CpuidRegister.Edx, 26),
        new(CpuFeatures.Sse3, 1, CpuidRegister.Ecx, 0),
        new(CpuFeatures.Pclmulqdq, 1, CpuidRegister.Ecx, 1),
        new(CpuFeatures.Monitor, 1, CpuidRegister.Ecx, 3),
        new(CpuFeatures.Vmx, 1, CpuidRegister.Ecx, 5),
        new(CpuFeatures.Ssse3, 1, CpuidRegister.Ecx, 9),
        new(CpuFeatures.Cx16, 1, CpuidRegister.Ecx, 13),
        new(CpuFeatures.Pcid, 1, CpuidRegister.Ecx, 17),
        new(CpuFeatures.Sse41, 1, CpuidRegister.Ecx, 19),
        new(CpuFeatures.Sse42, 1, CpuidRegister.Ecx, 20),
        new(CpuFeatures.X2Apic, 1, CpuidRegister.Ecx, 21),
        new(CpuFeatures.Movbe, 1, CpuidRegister.Ecx, 22),
        new(CpuFeatures.Popcnt, 1, CpuidRegister.Ecx, 23),
        new(CpuFeatures.TscDeadline, 1, CpuidRegister.Ecx, 24),
        new(CpuFeatures.Aes, 1, CpuidRegister.Ecx, 25),
        new(CpuFeatures.Xsave, 1, CpuidRegister.Ecx, 26),
        new(CpuFeatures.Avx, 1, CpuidRegister.Ecx, 28),
        new(CpuFeatures.Rdrand, 1, CpuidRegister.Ecx, 30),
        new(CpuFeatures.Fsgsbase, 7, CpuidRegister.Ebx, 0),
        new(CpuFeatures.Bmi1, 7, CpuidRegister.Ebx, 3),
        new(CpuFeatures.Avx2, 7, CpuidRegister.Ebx, 5),
        new(CpuFeatures.Smep, 7, CpuidRegister.Ebx, 7),
        new(CpuFeatures.Bmi2, 7, CpuidRegister.Ebx, 8),
        new(CpuFeatures.Pcid, 7, CpuidRegister.Ebx, 10),
        new(CpuFeatures.Rdseed, 7, CpuidRegister.Ebx, 18),
        new(CpuFeatures.Adx, 7, CpuidRegister.Ebx, 19),
        new(CpuFeatures.Smap, 7, CpuidRegister.Ebx, 20),
        new(CpuFeatures.Sha, 7, CpuidRegister.Ebx, 29),
        new(CpuFeatures.Umip, 7, CpuidRegister.Ecx, 2),
        new(CpuFeatures.Pku, 7, CpuidRegister.Ecx, 3), // OSPKE, bit 4, comes in at execution.
        new(CpuFeatures.La57, 7, CpuidRegister.Ecx, 16),
        new(CpuFeatures.Pks, 7, CpuidRegister.Ecx, 31),
        new(CpuFeatures.Lahf64, 0x8000_0001, CpuidRegister.Ecx, 0),
        new(CpuFeatures.Lzcnt, 0x8000_0001, CpuidRegister.Ecx, 5),
        new(CpuFeatures.Syscall, 0x8000_0001, CpuidRegister.Edx, 11),
        new(CpuFeatures.Nx, 0x8000_0001, CpuidRegister.Edx, 20),
        new(CpuFeatures.Page1G, 0x8000_0001, CpuidRegister.Edx, 26),
        new(CpuFeatures.Rdtscp, 0x8000_0001, CpuidRegister.Edx, 27),
        new(CpuFeatures.LongMode, 0x8000_0001, CpuidRegister.Edx, 29),
    ];

    private const CpuFeatures Common = CpuFeatures.Fpu | CpuFeatures.Vme | CpuFeatures.De | CpuFeatures.Pse | CpuFeatures.Tsc
        | CpuFeatures.Msr | CpuFeatures.Pae | CpuFeatures.Mca | CpuFeatures.Cx8 | CpuFeatures.Apic | CpuFeatures.Sep
        | CpuFeatures.Mtrr | CpuFeatures.Pge | CpuFeatures.Cmov | CpuFeatures.Pat | CpuFeatures.Clflush
        | CpuFeatures.Fxsr | CpuFeatures.Sse | CpuFeatures.Sse2;

    // All of their instructions are modelled, and the models do not show them.
    private const CpuFeatures Optional = CpuFeatures.Mmx | CpuFeatures.Ssse3 | CpuFeatures.Sse42 | CpuFeatures.Pclmulqdq | CpuFeatures.Aes | CpuFeatures.Sha;

    /// <summary>The default: a 64-bit processor with everything that a stock kernel asks for.</summary>
    public static CpuModel VmFuzz64 { get; } = Create(
        DefaultName,
        Common | CpuFeatures.Cx16 | CpuFeatures.Rdtscp | CpuFeatures.Nx | CpuFeatures.LongMode | CpuFeatures.Syscall
            | CpuFeatures.Page1G | CpuFeatures.Lahf64 | CpuFeatures.Pcid | CpuFeatures.Smep | CpuFeatures.Smap
            | CpuFeatures.Umip | CpuFeatures.Fsgsbase | CpuFeatures.Movbe | CpuFeatures.Popcnt | CpuFeatures.Lzcnt
            | CpuFeatures.Bmi1 | CpuFeatures.Bmi2 | CpuFeatures.Adx | CpuFeatures.Rdrand | CpuFeatures.Rdseed | CpuFeatures.Xsave
            | CpuFeatures.X2Apic | CpuFeatures.TscDeadline,
        physicalBits: 40,
        signature: 0x0005_06E3,
        maxBasicLeaf: 0x16,
        "VmFuzz Virtual CPU");

    /// <summary>Every feature that can be switched on.</summary>
    public static CpuFeatures Implemented => VmFuzz64.Features | Optional;

    /// <summary>A 32-bit processor with PAE and without long mode.</summary>
    public static CpuModel VmFuzz32 { get; } = Create(
        "vmfuzz32",
        Common,
        physicalBits: 36,
        signature: 0x0000_0663,
        maxBasicLeaf: 4,
        "VmFuzz Virtual CPU (32-bit)");

    private static readonly ImmutableArray<(string Name, CpuModel Model)> Table =
    [
        (VmFuzz64.Name, VmFuzz64),
        (VmFuzz32.Name, VmFuzz32),
        ("qemu64", VmFuzz64),
        ("qemu32", VmFuzz32),
        ("max", VmFuzz64),
    ];

    /// <summary>The names that <see cref="TryFind"/> takes, aliases included.</summary>
    public static ImmutableArray<string> Names { get; } = [.. Table.Select(static row => row.Name)];

    /// <summary>Finds a model by its name.</summary>
    public static bool TryFind(string name, out CpuModel model)
    {
        foreach ((string Name, CpuModel Model) row in Table)
        {
            if (string.Equals(row.Name, name, StringComparison.Ordinal))
            {
                model = row.Model;
                return true;
            }
        }

        model = VmFuzz64;
        return false;
    }

    /// <summary>Reads what <c>-cpu</c> takes: a model, then features switched on and off in order, as in <c>max,-smep,+la57</c>.</summary>
    /// <param name="text">The text; names of features are those of <see cref="CpuFeatureNames"/>.</param>
    /// <param name="model">The model, when the result is null.</param>
    /// <returns>What is wrong with the text, in one line that says what to do; null when nothing is.</returns>
    public static string? TryParse(string text, out CpuModel model)
    {
        ArgumentNullException.ThrowIfNull(text);
        string[] parts = text.Split(',');
        if (!TryFind(parts[0], out model))
        {
            return $"there is no processor model '{parts[0]}'; use {string.Join(" or ", Names)}";
        }

        foreach (string part in parts.AsSpan(1))
        {
            if (part is not ['+' or '-', .. string name] || !CpuFeatureNames.TryFind(name, out CpuFeatures feature))
            {
                return $"'{part}' does not switch a feature; write + or - and a name that vmfuzz isa --features lists";
            }

            bool on = part[0] == '+';
            if (on && (Implemented & feature) == 0)
            {
                return $"{name} is not implemented; leave '{part}' out";
            }

            model = With(model, on ? feature : CpuFeatures.None, on ? CpuFeatures.None : feature);
        }

        model = model with { Name = text };
        return null;
    }

    /// <summary>A copy of a model with features switched on and off; CPUID follows.</summary>
    /// <param name="model">The model to start from.</param>
    /// <param name="on">Features to add.</param>
    /// <param name="off">Features to remove; wins over <paramref name="on"/>.</param>
    public static CpuModel With(CpuModel model, CpuFeatures on, CpuFeatures off = CpuFeatures.None)
    {
        CpuFeatures features = (model.Features | on) & ~off;
        CpuidLeaf identification = model.Lookup(1, 0);
        CpuidLeaf brand0 = model.Lookup(0x8000_0002, 0);
        CpuidLeaf brand1 = model.Lookup(0x8000_0003, 0);
        CpuidLeaf brand2 = model.Lookup(0x8000_0004, 0);
        return new CpuModel(
            model.Name,
            features,
            model.PhysicalBits,
            Leaves(features, model.PhysicalBits, identification.Eax, model.Lookup(0, 0).Eax, [brand0, brand1, brand2]));
    }

    private static CpuModel Create(string name, CpuFeatures features, int physicalBits, uint signature, uint maxBasicLeaf, string brand) =>
        new(name, features, physicalBits, Leaves(features, physicalBits, signature, maxBasicLeaf, Brand(brand)));

    private static CpuidLeaf[] Brand(string text)
    {
        byte[] bytes = new byte[48];
        Encoding.ASCII.GetBytes(text, bytes);
        var leaves = new CpuidLeaf[3];
        for (int i = 0; i < 3; i++)
        {
            leaves[i] = new CpuidLeaf(
                0x8000_0002 + (uint)i,
                0,
                false,
                Word(bytes, i * 16),
                Word(bytes, (i * 16) + 4),
                Word(bytes, (i * 16) + 8),
                Word(bytes, (i * 16) + 12));
        }

        return leaves;

        static uint Word(byte[] bytes, int at) => System.Buffers.Binary.BinaryPrimitives.ReadUInt32LittleEndian(bytes.AsSpan(at));
    }

    private static ImmutableArray<CpuidLeaf> Leaves(CpuFeatures features, int physicalBits, uint signature, uint maxBasicLeaf, CpuidLeaf[] brand)
    {
        bool longMode = (features & CpuFeatures.LongMode) != 0;
        uint linearBits = (features & CpuFeatures.La57) != 0 ? 57U : longMode ? 48U : 32U;
        uint tscInvariant = (features & CpuFeatures.Tsc) != 0 ? 1U << 8 : 0;
        var rows = new List<CpuidLeaf>
        {
            new(0, 0, false, maxBasicLeaf, Intel0, Intel2, Intel1),

            // EBX: CLFLUSH line of 64 bytes, one logical processor; the APIC id comes in at execution.
            new(1, 0, false, signature, (1U << 16) | (8U << 8), 0, 0),

            // Descriptor 0xFF: caches are described by leaf 4.
            new(2, 0, false, 0x0000_FF01, 0, 0, 0),
            new(3, 0, false, 0, 0, 0, 0),

            // L1 data 32 KiB 8-way, L1 instruction 32 KiB 8-way, L2 1 MiB 16-way, lines of 64 bytes.
            new(4, 0, true, 0x0000_0121, (7U << 22) | 63, 63, 0),
            new(4, 1, true, 0x0000_0122, (7U << 22) | 63, 63, 0),
            new(4, 2, true, 0x0000_0143, (15U << 22) | 63, 1023, 0),
        };
        if (maxBasicLeaf >= 0xB)
        {
            rows.Add(new(7, 0, true, 0, 0, 0, 0));

            // One thread a core, one core: EBX counts logical processors at the level. EDX (x2APIC id) comes in at execution.
            rows.Add(new(0xB, 0, true, 0, 1, 0x100, 0));
            rows.Add(new(0xB, 1, true, 0, 1, 0x201, 0));
        }

        if ((features & CpuFeatures.Xsave) != 0 && maxBasicLeaf >= 0xD)
        {
            // x87 and SSE state in the legacy area and the header: 576 bytes, then the upper halves of YMM registers. What EBX
            // says at execution follows XCR0.
            bool avx = (features & CpuFeatures.Avx) != 0;
            rows.Add(new(0xD, 0, true, avx ? 7U : 3U, 576, avx ? 832U : 576U, 0));
            rows.Add(new(0xD, 1, true, 1, 0, 0, 0)); // XSAVEOPT
            if (avx)
            {
                rows.Add(new(0xD, 2, true, 256, 576, 0, 0));
            }
        }

        if (maxBasicLeaf >= 0x16)
        {
            // The TSC runs at 1 GHz, as fast as its crystal.
            rows.Add(new(0x15, 0, false, 1, 1, 1_000_000_000, 0));
            rows.Add(new(0x16, 0, false, 1000, 1000, 1000, 0));
        }

        rows.Add(new(0x8000_0000, 0, false, 0x8000_0008, 0, 0, 0));
        rows.Add(new(0x8000_0001, 0, false, 0, 0, 0, 0));
        rows.AddRange(brand);
        rows.Add(new(0x8000_0005, 0, false, 0, 0, 0, 0));

        // L2: 1 MiB, 16-way, lines of 64 bytes.
        rows.Add(new(0x8000_0006, 0, false, 0, 0, (1024U << 16) | (8U << 12) | 64, 0));
        rows.Add(new(0x8000_0007, 0, false, 0, 0, 0, tscInvariant));
        rows.Add(new(0x8000_0008, 0, false, (uint)physicalBits | (linearBits << 8), 0, 0, 0));
        foreach (FeatureBit bit in FeatureBits)
        {
            if ((features & bit.Feature) != 0)
            {
                Show(rows, bit);
            }
        }

        return [.. rows];
    }

    private static void Show(List<CpuidLeaf> rows, in FeatureBit bit)
    {
        uint mask = 1U << bit.Bit;
        for (int i = 0; i < rows.Count; i++)
        {
            CpuidLeaf row = rows[i];
            if (row.Leaf != bit.Leaf || (row.HasSubleaf && row.Subleaf != 0))
            {
                continue;
            }

            rows[i] = bit.Register switch
            {
                CpuidRegister.Eax => row with { Eax = row.Eax | mask },
                CpuidRegister.Ebx => row with { Ebx = row.Ebx | mask },
                CpuidRegister.Ecx => row with { Ecx = row.Ecx | mask },
                _ => row with { Edx = row.Edx | mask },
            };
        }
    }
}
