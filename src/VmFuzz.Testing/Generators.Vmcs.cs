using System.Collections.Immutable;
using FsCheck;
using FsCheck.Fluent;
using VmFuzz.Arch;
using VmFuzz.Fuzzing;
using VmFuzz.Vmx;

namespace VmFuzz.Testing;

// VMCS states and capabilities.
public static partial class Generators
{
    private const uint FirstCapability = 0x480;
    private const uint LastCapability = 0x493;

    /// <summary>Golden VMCSs with up to <paramref name="most"/> fields changed; shrinks by changing fewer.</summary>
    /// <param name="most">Most fields.</param>
    /// <param name="allCapabilities">Whether the golden VMCS under all capabilities is a base too.</param>
    public static Arbitrary<VmcsDifference> VmcsDifferences(int most = 3, bool allCapabilities = false)
    {
        Gen<bool> bases = allCapabilities ? Gen.Elements(false, true) : Gen.Constant(false);
        Gen<VmcsDifference> gen =
            from all in bases
            from count in Gen.Choose(0, most)
            from changes in Gen.ArrayOf(ChangeGen(all), count)
            select VmcsDifference.Of(changes, all);
        return Arb.From(gen, static difference => Without(difference.Fields).Select(difference.With));
    }

    /// <summary>VMCSs that pass the entry checks: <see cref="VmcsDifferences"/> rounded; shrinks by changing fewer fields.</summary>
    /// <param name="most">Most fields changed.</param>
    public static Arbitrary<RoundedVmcs> RoundedVmcss(int most = 8)
    {
        Arbitrary<VmcsDifference> any = VmcsDifferences(most, allCapabilities: true);
        return Arb.From(
            any.Generator.Select(static d => new RoundedVmcs(d.Round())),
            rounded => any.Shrinker(rounded.Difference).Where(static d => d.Round().Equals(d)).Select(static d => new RoundedVmcs(d)));
    }

    /// <summary>Capabilities near those of a base; shrinks by changing fewer MSRs.</summary>
    public static Arbitrary<CapabilityDifference> Capabilities()
    {
        Gen<CapabilityDifference> gen = Drawn(static (random, size) =>
        {
            var input = new FuzzInput { AllCapabilities = random.Below(2) == 0 };
            AddCapabilities(input, random, size / 8);
            input.Normalise(FuzzSections.Capabilities);
            return new CapabilityDifference(input.AllCapabilities, [.. input.Capabilities]);
        });
        return Arb.From(gen, static difference => Without(difference.Msrs).Select(msrs => difference with { Msrs = msrs }));
    }

    private static void AddCapabilities(FuzzInput input, Replay.SplitMix random, int count)
    {
        VmxCapabilities start = input.BuildCapabilities();
        for (int i = 0; i < count; i++)
        {
            uint msr = FirstCapability + (uint)random.Below(LastCapability - FirstCapability + 1);
            start.TryReadMsr(msr, out ulong value);
            input.Capabilities.Add(new CapabilityOverride(msr, value ^ (1UL << (int)random.Below(64))));
        }
    }

    private static Gen<FieldOverride> ChangeGen(bool allCapabilities)
    {
        VmcsField[] writable = [.. VmcsFieldInfo.All.Where(static f => f.Group != VmcsFieldGroup.ReadOnly).Select(static f => f.Field)];
        VmcsField[] checkedFields = [.. EntryChecks.Default.Rows.SelectMany(static r => r.Reads).Distinct().Order()];
        using Vmcs golden = GoldenVmcs.Create(allCapabilities ? VmxCapabilities.Everything : VmxCapabilities.Default);
        var values = writable.Concat(checkedFields).Distinct().ToDictionary(static f => f, f => golden[f]);
        return from field in Gen.Frequency((3, Gen.Elements(checkedFields)), (1, Gen.Elements(writable)))
               from bit in Gen.Choose(0, 63)
               from other in Gen.Choose(0, 63)
               from any in Interesting
               from how in Gen.Choose(0, 5)
               select new FieldOverride(field, how switch
               {
                   0 => any,
                   1 => values[field] ^ (1UL << bit) ^ (1UL << other),
                   2 => values[field] + any % 16,
                   _ => values[field] ^ (1UL << (bit & (how == 3 ? 15 : 63))),
               });
    }
}
