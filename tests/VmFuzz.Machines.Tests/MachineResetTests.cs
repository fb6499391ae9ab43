using VmFuzz.Arch;
using VmFuzz.Machines;

namespace VmFuzz.Machines.Tests;

/// <summary>Law 4: what an earlier run did shows in nothing after a reset.</summary>
public sealed class MachineResetTests
{
    [Fact]
    public void Reset_AfterOtherTimersWereUsedFirst_NumbersEventsLikeAFreshMachine()
    {
        using Machine used = Pc();
        PeriodicRtc(used);
        Assert.Contains(Image(used), static b => b != 0);
        used.Reset();
        using Machine fresh = Pc();
        Assert.Equal(Image(fresh), Image(used));
        Timer(fresh);
        Timer(used);
        PeriodicRtc(fresh);
        PeriodicRtc(used);
        Assert.Equal(Image(fresh), Image(used));
    }

    [Fact]
    public void Reset_WithAnAllocationFailureToCome_ForgetsIt()
    {
        using Machine machine = Machine.Create(Flat(Accelerator.Kvm, [0xF4]), new NoInputs());
        machine.Kvm!.Vcpu.Apply(new Input(InputKind.AllocationFailure));
        Assert.True(machine.Kvm.Vm.Mmu.FailNextLoad);
        machine.Reset();
        Assert.False(machine.Kvm.Vm.Mmu.FailNextLoad);
    }

    [Theory]
    [InlineData(MachineKind.Flat, Accelerator.Bare)]
    [InlineData(MachineKind.Flat, Accelerator.Kvm)]
    [InlineData(MachineKind.Pc, Accelerator.Kvm)]
    public void Reset_AfterEveryFieldWasChanged_PutsEveryFieldBack(MachineKind kind, Accelerator accelerator)
    {
        using Machine machine = Machine.Create(
            kind == MachineKind.Flat
                ? Flat(accelerator, [0xF4])
                : new MachineOptions { Kind = kind, Accelerator = accelerator, Images = [new MachineImage("bios", "rom", new byte[4096])] },
            new NoInputs());
        for (int round = 0; round < 3; round++)
        {
            List<byte[]> before = Fields(machine);
            int at = 0;
            foreach (IStateful component in machine.Components.Concat(machine.InnerComponents))
            {
                for (int i = 0; i < component.Fields.Length; i++, at++)
                {
                    byte[] other = [.. before[at].Select((b, n) => n == round ? (byte)(b ^ 1) : b)];
                    component.WriteField(i, other);
                }
            }

            Assert.NotEqual(before, Fields(machine));
            machine.Reset();
            Assert.Equal(before, Fields(machine));
        }
    }

    [Fact]
    public void Reset_InTheMiddleOfTheGuest_ClosesTheBrackets()
    {
        using Machine machine = Machine.Create(Flat(Accelerator.Kvm, [0xEB, 0xFE]), new NoInputs());
        machine.Run();
        Assert.Equal(1, machine.Kvm!.Vcpu.Host.PreemptCount);
        machine.Reset();
        Assert.Equal(0, machine.Kvm.Vcpu.Host.PreemptCount);
        Assert.Equal(0, machine.Kvm.Vcpu.Host.SrcuDepth);
        Assert.Equal(0, machine.Kvm.Vcpu.Host.LoadDepth);
        Assert.True(machine.Kvm.Vcpu.Host.InterruptsEnabled);
    }

    private static List<byte[]> Fields(Machine machine)
    {
        List<byte[]> fields = [];
        foreach (IStateful component in machine.Components.Concat(machine.InnerComponents))
        {
            for (int i = 0; i < component.Fields.Length; i++)
            {
                byte[] bytes = new byte[component.Fields[i].Width];
                component.ReadField(i, bytes);
                fields.Add(bytes);
            }
        }

        return fields;
    }

    private static Machine Pc() => Machine.Create(
        new MachineOptions { Kind = MachineKind.Pc, Images = [new MachineImage("bios", "rom", new byte[4096])] }, new NoInputs());

    internal static MachineOptions Flat(Accelerator accelerator, byte[] code) =>
        new() { Accelerator = accelerator, Images = [new MachineImage("code", "code", code)], MaxInstructions = 1000 };

    private static void PeriodicRtc(Machine machine)
    {
        machine.Bus.WritePort(0x70, 1, 0x0A);
        machine.Bus.WritePort(0x71, 1, 0x26);
        machine.Bus.WritePort(0x70, 1, 0x0B);
        machine.Bus.WritePort(0x71, 1, 0x42);
    }

    private static void Timer(Machine machine)
    {
        machine.Bus.WritePort(0x43, 1, 0x34);
        machine.Bus.WritePort(0x40, 1, 0x00);
        machine.Bus.WritePort(0x40, 1, 0x10);
    }

    private static byte[] Image(Machine machine)
    {
        byte[] image = new byte[VmFuzz.Devices.EventQueue.ImageSize];
        machine.Clock.Events.Save(image);
        return image;
    }
}
