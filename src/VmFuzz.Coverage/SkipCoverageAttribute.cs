namespace VmFuzz.Coverage;

/// <summary>
/// The instrumenter leaves what carries this alone: a method, everything in a type, everything in an assembly. Only the
/// attribute's simple name counts, so an assembly may declare its own; <c>ExcludeFromCodeCoverage</c> has the same effect.
/// </summary>
[AttributeUsage(
    AttributeTargets.Assembly | AttributeTargets.Class | AttributeTargets.Struct | AttributeTargets.Interface
    | AttributeTargets.Method | AttributeTargets.Constructor | AttributeTargets.Property)]
public sealed class SkipCoverageAttribute : Attribute;
