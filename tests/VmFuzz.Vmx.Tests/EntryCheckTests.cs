using VmFuzz.Arch;
using VmFuzz.Memory;
using VmFuzz.Vmx;

namespace VmFuzz.Vmx.Tests;

public sealed class EntryCheckTests
{
    // Rows that need other capabilities than Everything to break; each has its own test below.
    private static readonly string[] NeedsOtherCapabilities =
    [
        "exec.secondary.required", "exec.ept.accessed-dirty", "entry.injection.other-needs-mtf", "entry.injection.length-zero",
        "guest.activity.supported",
    ];

    public static TheoryData<string> RowIds()
    {
        TheoryData<string> data = [];
        foreach (EntryCheck row in EntryChecks.Default.Rows)
        {
            if (!row.Violate.IsDefaultOrEmpty)
            {
                data.Add(row.Id);
            }
        }

        return data;
    }

    internal static GuestMemory Memory()
    {
        GuestMemory memory = new();
        memory.AddSlot(new Gpa(0), 16 << 20);
        return memory;
    }

    private static EntryContext Context(Vmcs vmcs, GuestMemory memory, VmxCapabilities? capabilities = null) =>
        new(vmcs, capabilities ?? VmxCapabilities.Everything, memory, GuestNonRegisterChecks.GoldenLink, null);

    private static List<string> Broken(in EntryContext context)
    {
        List<string> broken = [];
        foreach (EntryCheck row in EntryChecks.Default.Rows)
        {
            if (!row.Holds(context))
            {
                broken.Add(row.Id);
            }
        }

        return broken;
    }

    private static EntryCheck Find(string id) => EntryChecks.Default.Rows.Single(r => r.Id == id);

    [Fact]
    public void Rows_Table_HasUniqueIdsAndEnoughRules()
    {
        Assert.True(EntryChecks.Default.Rows.Length >= 180, $"{EntryChecks.Default.Rows.Length} rows");
        Assert.Equal(EntryChecks.Default.Rows.Length, EntryChecks.Default.Rows.Select(r => r.Id).Distinct(StringComparer.Ordinal).Count());
    }

    [Fact]
    public void Rows_WithoutViolation_AreTheDeclaredOnes() => Assert.Equal(
        NeedsOtherCapabilities.Order(StringComparer.Ordinal),
        EntryChecks.Default.Rows.Where(r => r.Violate.IsDefaultOrEmpty).Select(r => r.Id).Order(StringComparer.Ordinal));

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Golden_EveryCapabilitySet_Passes(bool everything)
    {
        VmxCapabilities capabilities = everything ? VmxCapabilities.Everything : VmxCapabilities.Default;
        using GuestMemory memory = Memory();
        using Vmcs vmcs = GoldenVmcs.Create(capabilities);
        Assert.Empty(Broken(Context(vmcs, memory, capabilities)));
    }

    [Theory]
    [MemberData(nameof(RowIds))]
    public void Row_Violated_BreaksExactlyTheDeclaredSet(string id)
    {
        EntryCheck row = Find(id);
        using GuestMemory memory = Memory();
        using Vmcs vmcs = GoldenVmcs.Create(VmxCapabilities.Everything);
        foreach (FieldChange change in row.Violate)
        {
            vmcs[change.Field] = change.Apply(vmcs[change.Field]);
        }

        List<string> expected = [id];
        if (!row.AlsoBreaks.IsDefault)
        {
            expected.AddRange(row.AlsoBreaks);
        }

        Assert.Equal(expected.Order(StringComparer.Ordinal), Broken(Context(vmcs, memory)).Order(StringComparer.Ordinal));
    }

    [Theory]
    [MemberData(nameof(RowIds))]
    public void Row_Removed_NoLongerRejects(string id)
    {
        EntryCheck row = Find(id);
        using GuestMemory memory = Memory();
        using Vmcs vmcs = GoldenVmcs.Create(VmxCapabilities.Everything);
        foreach (FieldChange change in row.Violate)
        {
            vmcs[change.Field] = change.Apply(vmcs[change.Field]);
        }

        EntryChecks without = EntryChecks.Default.Without(id);
        foreach (string also in row.AlsoBreaks.IsDefault ? [] : row.AlsoBreaks)
        {
            without = without.Without(also);
        }

        Assert.NotNull(EntryChecks.Default.FirstFailure(Context(vmcs, memory)));
        Assert.Null(without.FirstFailure(Context(vmcs, memory)));
    }

    [Fact]
    public void RequiredSecondary_Missing_Fails()
    {
        VmxCapabilities capabilities = VmxCapabilities.Everything;
        capabilities = capabilities with { ProcBasedCtls2 = capabilities.ProcBasedCtls2 | SecondaryControls.WbinvdExiting };
        Only("exec.secondary.required", capabilities);
    }

    [Fact]
    public void EptFlags_NotSupported_Fails()
    {
        VmxCapabilities capabilities = VmxCapabilities.Everything;
        capabilities = capabilities with { EptVpidCap = capabilities.EptVpidCap & ~(1UL << 21) };
        Only("exec.ept.accessed-dirty", capabilities, (VmcsField.EptPointer, 0x11_005E));
    }

    [Fact]
    public void OtherEvent_WithoutMtf_Fails() =>
        Only("entry.injection.other-needs-mtf", WithoutMtf, (VmcsField.EntryInterruptionInfo, 0x8000_0700));

    [Fact]
    public void ZeroLength_NotSupported_Fails()
    {
        VmxCapabilities capabilities = VmxCapabilities.Everything;
        capabilities = capabilities with { Misc = capabilities.Misc & ~(1UL << 30) };
        Only("entry.injection.length-zero", capabilities, (VmcsField.EntryInterruptionInfo, 0x8000_0480));
    }

    [Fact]
    public void Shutdown_NotSupported_Fails()
    {
        VmxCapabilities capabilities = VmxCapabilities.Everything;
        capabilities = capabilities with { Misc = capabilities.Misc & ~(1UL << 7) };
        Only("guest.activity.supported", capabilities, (VmcsField.GuestActivity, 2));
    }

    private static VmxCapabilities WithoutMtf => VmxCapabilities.Default with
    {
        TrueProcBasedCtls = VmxCapabilities.Default.TrueProcBasedCtls & ~((ulong)PrimaryControls.MonitorTrapFlag << 32),
    };

    private static void Only(string id, VmxCapabilities capabilities, params (VmcsField Field, ulong Value)[] changes)
    {
        using GuestMemory memory = Memory();
        using Vmcs vmcs = GoldenVmcs.Create(VmxCapabilities.Default);
        foreach ((VmcsField field, ulong value) in changes)
        {
            vmcs[field] = value;
        }

        Assert.Equal([id], Broken(Context(vmcs, memory, capabilities)));
    }

    // A row's predicate must not depend on a field it does not declare: otherwise incremental evaluation is wrong.
    [Fact]
    public void Reads_EveryRow_NameAllFieldsThatMatter()
    {
        using GuestMemory memory = Memory();
        using Vmcs vmcs = GoldenVmcs.Create(VmxCapabilities.Everything);
        foreach (EntryCheck row in EntryChecks.Default.Rows)
        {
            foreach (EntryCheck other in EntryChecks.Default.Rows)
            {
                if (other.Violate.IsDefaultOrEmpty || other.Violate.Any(c => row.Reads.Contains(c.Field)))
                {
                    continue;
                }

                GoldenVmcs.Fill(vmcs, VmxCapabilities.Everything);
                Apply(vmcs, row);
                bool before = row.Holds(Context(vmcs, memory));
                Apply(vmcs, other);
                Assert.True(before == row.Holds(Context(vmcs, memory)), $"{row.Id} depends on what {other.Id} changes");
            }
        }
    }

    [Fact]
    public void Rows_ThatReadOnlyTheVmFlag_DependOnNoOtherFlag()
    {
        using GuestMemory memory = Memory();
        using Vmcs vmcs = new();
        int rows = 0;
        foreach (EntryCheck row in EntryChecks.Default.Rows.Where(static r => r.OnlyVmFlag && r.Reads.Contains(VmcsField.GuestRflags)))
        {
            for (int broken = 0; broken < 2; broken++)
            {
                GoldenVmcs.Fill(vmcs, VmxCapabilities.Everything);
                if (broken != 0)
                {
                    Apply(vmcs, row);
                }

                bool before = row.Holds(Context(vmcs, memory));
                vmcs[VmcsField.GuestRflags] ^= ~RFlags.Vm;
                Assert.True(before == row.Holds(Context(vmcs, memory)), row.Id);
                rows++;
            }
        }

        Assert.True(rows > 100, $"{rows} rows");
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void Incremental_RandomWrites_AgreesWithFull(int seed)
    {
        using GuestMemory memory = Memory();
        using Vmcs vmcs = GoldenVmcs.Create(VmxCapabilities.Everything);
        EntryChecks checks = EntryChecks.Default;
        ulong state = (ulong)seed * 0x9E37_79B9_7F4A_7C15UL;
        int passed = 0;
        var copies = new (IStateCopy Copy, ulong[] Values)[3];
        Array.Fill(copies, (vmcs.CopyState(), Values(vmcs)));
        for (int i = 0; i < 4000; i++)
        {
            state = (state * 6364136223846793005UL) + 1442695040888963407UL;
            int pick = (int)(state >> 33);
            EntryCheck row = checks.Rows[pick % checks.Rows.Length];
            ref (IStateCopy Copy, ulong[] Values) copy = ref copies[pick % copies.Length];
            switch ((state >> 60) & 7)
            {
                case 0:
                    if (!row.Violate.IsDefaultOrEmpty)
                    {
                        FieldChange change = row.Violate[pick % row.Violate.Length];
                        vmcs[change.Field] = change.Apply(vmcs[change.Field]);
                    }

                    break;
                case 1:
                    vmcs[VmcsField.GuestRip] = state >> 20;
                    break;
                case 2:
                    copy = (vmcs.CopyState(), Values(vmcs));
                    break;
                case 3 or 4:
                    // The third is restored again and again, as the start state of a machine is.
                    copy = ref copies[(state & 0x700) == 0 ? pick % copies.Length : 2];
                    copy.Copy.Restore();
                    Assert.Equal(copy.Values, Values(vmcs));
                    break;
                default:
                    using (Vmcs golden = GoldenVmcs.Create(VmxCapabilities.Everything))
                    {
                        foreach (VmcsFieldInfo info in VmcsFieldInfo.All)
                        {
                            vmcs[info.Field] = golden[info.Field];
                        }
                    }

                    break;
            }

            EntryContext context = Context(vmcs, memory);
            EntryCheck? full = checks.FirstFailure(context);
            Assert.Equal(full?.Id, checks.FirstFailureIncremental(context)?.Id);
            passed += full is null ? 1 : 0;
        }

        Assert.InRange(passed, 100, 3900);
    }

    private static ulong[] Values(Vmcs vmcs) => [.. VmcsFieldInfo.All.Select(f => vmcs[f.Field])];

    private static void Apply(Vmcs vmcs, EntryCheck row)
    {
        foreach (FieldChange change in row.Violate.IsDefault ? [] : row.Violate)
        {
            vmcs[change.Field] = change.Apply(vmcs[change.Field]);
        }
    }
}
