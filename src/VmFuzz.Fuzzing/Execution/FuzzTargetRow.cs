using System.Collections.Immutable;
using VmFuzz.Machines;

namespace VmFuzz.Fuzzing;

/// <summary>A target: what inputs are fed to. A user's own handlers are a row with variants of their own.</summary>
/// <param name="Name">Name on the command line, such as <c>exit-handlers</c>.</param>
/// <param name="Kind">The kind of inputs.</param>
/// <param name="Text">One line for people.</param>
/// <param name="Variants">Replaced rows: the handlers under test.</param>
public sealed record FuzzTargetRow(string Name, FuzzTarget Kind, string Text, MachineVariants Variants)
{
    /// <summary>The targets of this build.</summary>
    public static ImmutableArray<FuzzTargetRow> BuiltIn { get; } =
    [
        new("exit-handlers", FuzzTarget.ExitHandlers, "made exits against handlers, injection, requests and the emulator", MachineVariants.None),
        new("vmcs-entry", FuzzTarget.VmcsEntry, "VMCS states against entry checks, loading and injection on entry", MachineVariants.None),
        new("guest-code", FuzzTarget.GuestCode, "guest programs with events against the whole path", MachineVariants.None),
    ];

    /// <summary>An executor of the target. Disposing it frees its machines.</summary>
    public IFuzzExecutor CreateExecutor() => Kind switch
    {
        FuzzTarget.ExitHandlers => new ExitHandlersExecutor(Variants),
        FuzzTarget.GuestCode => new GuestCodeExecutor(Variants),
        FuzzTarget.VmcsEntry => new VmcsEntryExecutor(Variants.Checks),
        _ => throw new NotSupportedException($"Target {Kind} has no executor yet."),
    };
}

/// <summary>
/// What an assembly given with <c>--plugin</c> offers. A public class with a constructor without parameters implements it.
/// </summary>
public interface IFuzzPlugin
{
    /// <summary>Name and version, for the identity of the engine in traces and campaigns.</summary>
    string Identity { get; }

    /// <summary>Targets that it adds.</summary>
    ImmutableArray<FuzzTargetRow> Targets { get; }
}
