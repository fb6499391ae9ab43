using System.Collections.Immutable;
using VmFuzz.Arch;
using VmFuzz.Machines;
using VmFuzz.Vmx;

namespace VmFuzz.Fuzzing;

/// <summary>Fields that make sense together only: a privilege level, a single step, a shadow. One at a time no entry would accept them.</summary>
/// <param name="Id">Unique id.</param>
/// <param name="Fields">The fields with their values.</param>
internal sealed record GuestStates(string Id, ImmutableArray<FieldOverride> Fields)
{
    private const ulong Flags = RFlags.Reserved1;

    public static readonly ImmutableArray<GuestStates> All =
    [
        new("user-64", Segments(FuzzLayout.UserCode, 0xA0FB, FuzzLayout.UserData, 0xC0F3)),
        new("user-32", Segments(FuzzLayout.UserCode, 0xC0FB, FuzzLayout.UserData, 0xC0F3)),
        new("kernel-64", Segments(8, 0xA09B, 16, 0xC093)),
        new("kernel-32", Segments(8, 0xC09B, 16, 0xC093)),
        new("step", [new(VmcsField.GuestRflags, Flags | RFlags.Tf)]),
        new("resume", [new(VmcsField.GuestRflags, Flags | RFlags.Rf)]),
        new("interrupts", [new(VmcsField.GuestRflags, Flags | RFlags.If)]),
        new("behind-sti", [new(VmcsField.GuestRflags, Flags | RFlags.If), new(VmcsField.GuestInterruptibility, InterruptibilityState.BlockingBySti)]),
        new("behind-mov-ss", [new(VmcsField.GuestInterruptibility, InterruptibilityState.BlockingByMovSs)]),
        new("step-behind-sti",
        [
            new(VmcsField.GuestRflags, Flags | RFlags.If | RFlags.Tf), new(VmcsField.GuestInterruptibility, InterruptibilityState.BlockingBySti),
            new(VmcsField.GuestPendingDebug, PendingDebugExceptions.Bs),
        ]),
        new("step-behind-mov-ss",
        [
            new(VmcsField.GuestRflags, Flags | RFlags.Tf), new(VmcsField.GuestInterruptibility, InterruptibilityState.BlockingByMovSs),
            new(VmcsField.GuestPendingDebug, PendingDebugExceptions.Bs),
        ]),
        new("start", [new(VmcsField.GuestRip, FuzzLayout.Code)]),
        new("stack", [new(VmcsField.GuestRsp, FuzzLayout.Stack)]),
    ];

    /// <summary>Those in which a single step may trap.</summary>
    public static readonly ImmutableArray<GuestStates> Steps = [.. All.Where(static s => s.Id.StartsWith("step", StringComparison.Ordinal))];

    /// <summary>CPL 3, in the wider code of a mode.</summary>
    public static GuestStates User(FlatMode mode) => All[mode == FlatMode.Long64 ? 0 : 1];

    private static ImmutableArray<FieldOverride> Segments(ulong code, ulong codeRights, ulong stack, ulong stackRights) =>
    [
        new(VmcsField.GuestCsSelector, code), new(VmcsField.GuestCsAccessRights, codeRights),
        new(VmcsField.GuestSsSelector, stack), new(VmcsField.GuestSsAccessRights, stackRights),
    ];
}
