using Iced.Intel;
using VmFuzz.Cpu.Tests.Integer;

namespace VmFuzz.Cpu.Tests.Events;

/// <summary>A random program with interrupts off and on, and loads of SS, between its instructions.</summary>
/// <param name="Code">The program; it ends with interrupts on and UD2.</param>
/// <param name="Shadowed">Offsets at which nothing may be delivered: behind STI and behind a load of SS.</param>
internal sealed record EventProgram(byte[] Code, int[] Shadowed)
{
    private const byte Cli = 0xFA;
    private const byte Sti = 0xFB;
    private const byte Nop = 0x90;

    public static EventProgram Make(int bitness, OpCodeInfo[] forms, ref SplitMix64 random)
    {
        var code = new List<byte>();
        var shadowed = new List<int>();
        int length = 4 + random.Below(6);
        for (int i = 0; i < length; i++)
        {
            switch (random.Below(4))
            {
                case 0:
                    code.AddRange([Cli, Sti]);
                    shadowed.Add(code.Count);
                    break;
                case 1:
                    // mov eax, data selector; mov ss, eax
                    code.AddRange(bitness == 16 ? [0xB8, 0x10, 0] : [0xB8, 0x10, 0, 0, 0]);
                    code.AddRange([0x8E, 0xD0]);
                    shadowed.Add(code.Count);
                    break;
                default:
                    break;
            }

            code.AddRange(RandomPrograms.Instruction(bitness, forms, ref random));
        }

        code.AddRange([Cli, Sti]);
        shadowed.Add(code.Count);
        return new EventProgram([.. code, Nop, Nop, 0x0F, 0x0B], [.. shadowed]);
    }
}
