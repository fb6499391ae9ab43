using Iced.Intel;
using VmFuzz.Cpu.Blocks;

namespace VmFuzz.Cpu.Fast;

// String instructions that are repeated.
internal static unsafe partial class Forms<TThread>
{
    private static delegate* managed<CpuState*, Op*, Op*> SelectRepeat(in Instruction instruction, ulong mode)
    {
        // A step at a time, every iteration is a boundary.
        if ((mode & BlockMode.Single) != 0 || (mode & BlockMode.Flat) == 0)
        {
            return null;
        }

        bool store = instruction.Mnemonic is Mnemonic.Stosb or Mnemonic.Stosw or Mnemonic.Stosd or Mnemonic.Stosq;
        if (!store && (instruction.Code is not (Code.Movsb_m8_m8 or Code.Movsw_m16_m16 or Code.Movsd_m32_m32 or Code.Movsq_m64_m64)
            || !IsFlatSource(instruction, mode)))
        {
            return null;
        }

        int size = instruction.MemorySize.GetSize();
        return (mode & BlockMode.Code64) != 0 && instruction.Op0Kind == OpKind.MemoryESRDI ? RepeatOf<ulong>(store, size)
            : (mode & BlockMode.Code64) == 0 && instruction.Op0Kind == OpKind.MemoryESEDI ? RepeatOf<uint>(store, size)
            : null;
    }

    private static bool IsFlatSource(in Instruction instruction, ulong mode) => instruction.MemorySegment switch
    {
        Register.FS or Register.GS => false,
        Register.CS => (mode & BlockMode.Code64) != 0,
        _ => true,
    };

    private static delegate* managed<CpuState*, Op*, Op*> RepeatOf<TMask>(bool store, int size)
        where TMask : unmanaged
    {
        return size switch
        {
            1 => store ? &Repeat<TThread, byte, TMask>.Store : &Repeat<TThread, byte, TMask>.Move,
            2 => store ? &Repeat<TThread, ushort, TMask>.Store : &Repeat<TThread, ushort, TMask>.Move,
            4 => store ? &Repeat<TThread, uint, TMask>.Store : &Repeat<TThread, uint, TMask>.Move,
            _ => store ? &Repeat<TThread, ulong, TMask>.Store : &Repeat<TThread, ulong, TMask>.Move,
        };
    }
}
