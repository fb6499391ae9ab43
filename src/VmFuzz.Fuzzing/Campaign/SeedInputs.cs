using System.Collections.Immutable;
using VmFuzz.Arch;
using VmFuzz.Machines;
using VmFuzz.Vmx;

namespace VmFuzz.Fuzzing;

/// <summary>Inputs to start with when there are none.</summary>
public static class SeedInputs
{
    /// <summary>The smallest inputs of a target that do something, in a fixed order.</summary>
    public static ImmutableArray<FuzzInput> Of(FuzzTarget target) => target switch
    {
        FuzzTarget.ExitHandlers =>
        [
            Exits(new VmExit((uint)ExitReason.Cpuid, InstructionLength: 2)),
            Exits(new VmExit((uint)ExitReason.IoInstruction, 0x3F8_0000, InstructionLength: 1)),
            Exits(new VmExit((uint)ExitReason.EptViolation, 1, GuestPhysical: 0xFEE0_0020)),
            Exits(new VmExit((uint)ExitReason.Rdmsr, InstructionLength: 2), new VmExit((uint)ExitReason.Hlt, InstructionLength: 1)),
        ],
        FuzzTarget.VmcsEntry =>
        [
            Normal(new FuzzInput { Target = target }),
            Normal(new FuzzInput { Target = target, AllCapabilities = true }),
        ],
        _ =>
        [
            // xor eax, eax / cpuid / out 0x80, al / in al, 0x71 / hlt: the same bytes in every mode.
            Code(FlatMode.Long64, [0x31, 0xC0, 0x0F, 0xA2, 0xE6, 0x80, 0xE4, 0x71, 0xF4]),
            Code(FlatMode.Protected32, [0x31, 0xC0, 0x0F, 0xA2, 0xE6, 0x80, 0xE4, 0x71, 0xF4]),
            Code(FlatMode.Real16, [0x31, 0xC0, 0x0F, 0xA2, 0xE6, 0x80, 0xE4, 0x71, 0xF4]),
            // mov ecx, 0x10 / rdmsr / wrmsr / mov rax, cr0 / mov cr0, rax / hlt
            Code(FlatMode.Long64, [0xB9, 0x10, 0, 0, 0, 0x0F, 0x32, 0x0F, 0x30, 0x0F, 0x20, 0xC0, 0x0F, 0x22, 0xC0, 0xF4]),
        ],
    };

    private static FuzzInput Exits(params ReadOnlySpan<VmExit> exits)
    {
        FuzzInput input = new() { Target = FuzzTarget.ExitHandlers };
        foreach (VmExit exit in exits)
        {
            input.Exits.Add(new MadeExit(exit));
        }

        return Normal(input);
    }

    private static FuzzInput Code(FlatMode mode, ReadOnlySpan<byte> code)
    {
        FuzzInput input = new() { Target = FuzzTarget.GuestCode, Mode = mode };
        input.Code.AddRange(code);
        return Normal(input);
    }

    private static FuzzInput Normal(FuzzInput input)
    {
        input.Normalise();
        return input;
    }
}
