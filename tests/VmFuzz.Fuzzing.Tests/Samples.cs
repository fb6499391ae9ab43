using VmFuzz.Arch;
using VmFuzz.Replay;
using VmFuzz.Vmx;

namespace VmFuzz.Fuzzing.Tests;

/// <summary>Inputs to start from.</summary>
internal static class Samples
{
    /// <summary>Something in every section; the code is mov eax, [rbx+8]; add rcx, rdx; cpuid; lock inc dword [rax]; jz; hlt.</summary>
    public static FuzzInput Rich(FuzzTarget target)
    {
        FuzzInput input = new() { Target = target };
        input.Registers.AddRange([new(0, 5), new(3, 0x1000), new(17, 2)]);
        input.Code.AddRange(
        [
            0x8B, 0x43, 0x08, 0x48, 0x01, 0xD1, 0x0F, 0xA2, 0xF0, 0xFF, 0x00, 0x74, 0x02, 0xB8, 0x78, 0x56, 0x34, 0x12, 0xF4,
        ]);
        input.Patches.AddRange([new MemoryPatch(0x2000, [1, 2, 3]), new MemoryPatch(0x3000, [4])]);
        input.Events.AddRange([new(3, InputKind.Nmi), new(9, InputKind.Interrupt, 0x20), new(9, InputPoint.AfterRequests, InputKind.Kick, 0)]);
        input.Answers.AddRange([1, 2, 3]);
        input.Exits.Add(new MadeExit(new VmExit((uint)ExitReason.Cpuid, InstructionLength: 2), [new(0, 1), new(1, 0)], [new(VmcsField.GuestRip, 0x1000)]));
        input.Exits.Add(new MadeExit(new VmExit((uint)ExitReason.IoInstruction, 0x3F8_0000, InstructionLength: 1)));
        input.Exits.Add(new MadeExit(new VmExit((uint)ExitReason.Hlt, InstructionLength: 1)));
        input.Vmcs.AddRange([new(VmcsField.GuestRip, 0x5000), new(VmcsField.GuestCr0, 1), new(VmcsField.GuestActivity, 1)]);
        input.Capabilities.Add(new(0x485, 0));
        input.Normalise();
        return input;
    }

    /// <summary>Random bytes, or a mutilated encoding.</summary>
    public static byte[] Bytes(SplitMix random, byte[] encoding)
    {
        if (random.Below(2) == 0)
        {
            byte[] any = new byte[random.Below(random.Below(16) == 0 ? 2000UL : 64)];
            foreach (ref byte value in any.AsSpan())
            {
                value = (byte)random.Next();
            }

            return any;
        }

        byte[] bytes = encoding[..(int)random.Below((ulong)encoding.Length + 1)];
        for (ulong left = random.Below(8); left > 0 && bytes.Length > 0; left--)
        {
            bytes[random.Below((ulong)bytes.Length)] = (byte)random.Next();
        }

        return bytes;
    }

    /// <summary>Every section at its bound with the longest values.</summary>
    public static FuzzInput Full()
    {
        FuzzInput input = new() { Target = FuzzTarget.VmcsEntry, Mode = Machines.FlatMode.Real16, AllCapabilities = true };
        for (ushort i = 0; i < 256; i++)
        {
            input.Registers.Add(new(i, ulong.MaxValue));
        }

        input.Code.AddRange(new byte[FuzzLimits.CodeBytes + 1]);
        for (int i = 0; i < 300; i++)
        {
            input.Patches.Add(new MemoryPatch(ulong.MaxValue, [.. new byte[1 + i]]));
            input.Events.Add(new(ulong.MaxValue, InputPoint.Boundary, InputKind.Stop, ulong.MaxValue));
            input.Answers.Add(ulong.MaxValue);
            input.Exits.Add(new MadeExit(
                new VmExit(
                    uint.MaxValue, ulong.MaxValue, ulong.MaxValue, ulong.MaxValue, new InterruptionInfo(uint.MaxValue), uint.MaxValue,
                    new InterruptionInfo(uint.MaxValue), uint.MaxValue, uint.MaxValue, uint.MaxValue),
                [.. Enumerable.Range(0, i % 40).Select(static r => new RegisterOverride((ushort)r, ulong.MaxValue))],
                [.. FuzzTables.GuestFields.Take(i % 50).Select(static f => new FieldOverride(f, ulong.MaxValue))]));
        }

        input.Vmcs.AddRange(VmcsFieldInfo.All.Select(static f => new FieldOverride(f.Field, 0xFEDC_BA98_7654_3210)));
        input.Capabilities.AddRange(Enumerable.Range(0x470, 0x40).Select(static m => new CapabilityOverride((uint)m, 0xFEDC_BA98_7654_3210)));
        return input;
    }
}
