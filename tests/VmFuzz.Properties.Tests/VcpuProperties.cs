using VmFuzz.Cpu;
using VmFuzz.Kvm;
using VmFuzz.Machines;
using VmFuzz.Testing;

namespace VmFuzz.Properties.Tests;

/// <summary>What userspace sets is what it gets.</summary>
public sealed class VcpuProperties
{
    [Fact]
    public void VcpuState_Set_IsGotAgain() =>
        Seeds.Check(Generators.VcpuStates(), 300, static state =>
        {
            using Machine machine = Run.Machine(new Case(new GuestProgram(FlatMode.Protected32, RegisterFile.Zero, []), Accelerator.Kvm, InputSchedule.Empty));
            Vcpu vcpu = machine.Kvm!.Vcpu;
            Assert.Equal(0, state.Set(vcpu));
            Assert.Equal(0, VcpuState.TryGet(vcpu, out VcpuState got));
            Assert.Equal(state, got);
        });

    // The processor model is a value: what is switched shows in the features and in CPUID, and nothing else moves.
    [Fact]
    public void CpuModel_WithFeaturesSwitched_AnswersEveryLeafAndGoesBack() =>
        Seeds.Check(Generators.CpuModels(), 200, static change =>
        {
            CpuModel model = change.Build();
            CpuModels.TryFind(change.Name, out CpuModel plain);
            Assert.All(change.Off, feature => Assert.False(model.Has(feature), feature.ToString()));
            Assert.All(change.On.Except(change.Off), feature => Assert.True(model.Has(feature), feature.ToString()));
            CpuModel back = CpuModels.With(model, plain.Features, ~plain.Features);
            foreach (uint range in (uint[])[0, 0x4000_0000, 0x8000_0000, 0xC000_0000])
            {
                for (uint leaf = range; leaf < range + 0x20; leaf++)
                {
                    Assert.Equal(plain.Lookup(leaf, 0), back.Lookup(leaf, 0));
                    Assert.Equal(model.Lookup(leaf, 1), model.Lookup(leaf, 1));
                }
            }
        });
}
