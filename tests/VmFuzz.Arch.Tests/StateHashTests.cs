using VmFuzz.Arch;

namespace VmFuzz.Arch.Tests;

public sealed class StateHashTests
{
    // Digests stand in traces: these values may never change without a new semantics version.
    [Theory]
    [InlineData(ComponentId.Processor, 0, 0UL)]
    [InlineData(ComponentId.Processor, 16, 0xFFF0UL)]
    [InlineData(ComponentId.Memory, 0, ulong.MaxValue)]
    public void Mix_OfWordAndOfItsBytes_IsTheSame(ComponentId component, ushort field, ulong value) =>
        Assert.Equal(StateHash.Mix(component, field, value), StateHash.Mix(component, field, BitConverter.GetBytes(value)));

    [Fact]
    public void Mix_KnownInputs_GivesKnownValues()
    {
        ulong[] values =
        [
            StateHash.Mix(ComponentId.Processor, 0, 0),
            StateHash.Mix(ComponentId.Vmcs, 0x681E, 0x1234),
            StateHash.Mix(ComponentId.Serial0, 1, [1, 2, 3, 4, 5, 6, 7, 8, 9]),
            StateHash.Step(0, 1),
            StateHash.Step(StateHash.Step(0, 1), 2),
        ];
        Assert.Equal(Known, values);
    }

    [Fact]
    public void Mix_OfAnyOneDifferentPart_Differs()
    {
        ulong mix = StateHash.Mix(ComponentId.Processor, 3, 77);
        Assert.NotEqual(mix, StateHash.Mix(ComponentId.Vmcs, 3, 77));
        Assert.NotEqual(mix, StateHash.Mix(ComponentId.Processor, 4, 77));
        Assert.NotEqual(mix, StateHash.Mix(ComponentId.Processor, 3, 78));
    }

    [Fact]
    public void Step_OfTwoWords_DependsOnTheirOrder() =>
        Assert.NotEqual(StateHash.Step(StateHash.Step(0, 1), 2), StateHash.Step(StateHash.Step(0, 2), 1));

    private static readonly ulong[] Known = [9654363164371030241, 11666654346569809116, 12332423598578144462, 4131309420608887598, 7124251170481258179];
}
