using Iced.Intel;
using VmFuzz.Cpu.Tests.Integer;
using static Iced.Intel.AssemblerRegisters;

namespace VmFuzz.Cpu.Tests.Regions;

/// <summary>A random program that comes back to its start a few times: branches of all kinds, calls, every form that is given.</summary>
internal static class RegionProgram
{
    public const ulong Start = 0x10000;
    public const ulong Counter = 0x4800;

    private const int Functions = 2;

    private static readonly Code[] JccCodes =
    [
        Code.Jo_rel32_64, Code.Jno_rel32_64, Code.Jb_rel32_64, Code.Jae_rel32_64, Code.Je_rel32_64, Code.Jne_rel32_64, Code.Jbe_rel32_64, Code.Ja_rel32_64,
        Code.Js_rel32_64, Code.Jns_rel32_64, Code.Jp_rel32_64, Code.Jnp_rel32_64, Code.Jl_rel32_64, Code.Jge_rel32_64, Code.Jle_rel32_64, Code.Jg_rel32_64,
    ];

    /// <summary>Makes one.</summary>
    /// <param name="bitness">32 or 64.</param>
    /// <param name="forms">Instructions to choose from.</param>
    /// <param name="length">About how many of them stand in the loop.</param>
    /// <param name="random">Chooses.</param>
    public static byte[] Make(int bitness, OpCodeInfo[] forms, int length, ref SplitMix64 random)
    {
        var a = new Assembler(bitness);
        Label loop = a.CreateLabel();
        Label[] functions = [.. Enumerable.Range(0, Functions).Select(_ => a.CreateLabel())];
        a.Label(ref loop);
        Base(a, bitness);
        for (int i = 0; i < length; i++)
        {
            Piece(a, bitness, forms, functions, ref random);
        }

        a.dec(bitness == 64 ? __dword_ptr[Counter] : __dword_ptr[(uint)Counter]);
        a.jne(loop);
        a.ud2();
        for (int i = 0; i < Functions; i++)
        {
            a.Label(ref functions[i]);
            for (int n = 1 + random.Below(3); n > 0; n--)
            {
                Form(a, bitness, forms, ref random);
            }

            a.ret();
        }

        using var stream = new MemoryStream();
        a.Assemble(new StreamCodeWriter(stream), Start);
        return stream.ToArray();
    }

    private static void Piece(Assembler a, int bitness, OpCodeInfo[] forms, Label[] functions, ref SplitMix64 random)
    {
        switch (random.Below(12))
        {
            case 0 or 1:
                // Jcc over an instruction or two; sometimes a second one reads the same flags.
                Label over = a.CreateLabel();
                a.AddInstruction(Instruction.CreateBranch(Jcc(random.Below(16), bitness), over.Id));
                if (random.Below(2) == 0)
                {
                    a.AddInstruction(Instruction.CreateBranch(Jcc(random.Below(16), bitness), over.Id));
                }

                Form(a, bitness, forms, ref random);
                a.Label(ref over);
                a.nop();
                break;
            case 2:
                a.call(functions[random.Below(functions.Length)]);
                break;
            case 3:
                Jump(a, bitness, functions, ref random);
                break;
            case 4:
                Base(a, bitness);
                break;
            case 5:
                Stack(a, bitness, ref random);
                break;
            default:
                Form(a, bitness, forms, ref random);
                break;
        }
    }

    private static void Base(Assembler a, int bitness)
    {
        // Near the end of a page too, so that accesses cross it.
        if (bitness == 64)
        {
            a.mov(rsi, NativeThunk.WindowAddress + 0xFE0);
        }
        else
        {
            a.mov(esi, (uint)NativeThunk.WindowAddress + 0xFE0);
        }
    }

    private static void Stack(Assembler a, int bitness, ref SplitMix64 random)
    {
        int from = RandomForms.NotStack(ref random, bitness);
        int to = RandomForms.NotStack(ref random, bitness);
        Register first = bitness == 64 ? Register.RAX : Register.EAX;
        a.AddInstruction(Instruction.Create(bitness == 64 ? Code.Push_r64 : Code.Push_r32, first + from));
        a.AddInstruction(Instruction.Create(bitness == 64 ? Code.Pop_r64 : Code.Pop_r32, first + to));
    }

    // A jump or a call to an address in a register.
    private static void Jump(Assembler a, int bitness, Label[] functions, ref SplitMix64 random)
    {
        Label next = a.CreateLabel();
        bool call = random.Below(2) == 0;
        Label target = call ? functions[random.Below(functions.Length)] : next;
        if (bitness == 64)
        {
            a.lea(rdi, __[target]);
            if (call)
            {
                a.call(rdi);
            }
            else
            {
                a.jmp(rdi);
            }
        }
        else
        {
            // The address of a label: by a call that is not returned from.
            Label here = a.CreateLabel();
            a.call(here);
            a.Label(ref here);
            a.pop(edi);
            a.lea(edi, __[edi + 6]);
            a.jmp(edi);
            a.nop();
        }

        a.Label(ref next);
        a.nop();
    }

    private static void Form(Assembler a, int bitness, OpCodeInfo[] forms, ref SplitMix64 random)
    {
        OpCodeInfo form = forms[random.Below(forms.Length)];
        Register based = random.Below(3) != 0 || !RandomForms.HasMemoryForm(form) ? Register.None : bitness == 64 ? Register.RSI : Register.ESI;
        if (RandomForms.TryEncode(form, ref random, out byte[] bytes, based, bitness))
        {
            var decoder = Decoder.Create(bitness, bytes);
            a.AddInstruction(decoder.Decode());
        }
    }

    private static Code Jcc(int condition, int bitness) =>
        bitness == 64 ? JccCodes[condition] : Enum.Parse<Code>(JccCodes[condition].ToString().Replace("_64", "_32", StringComparison.Ordinal));
}
