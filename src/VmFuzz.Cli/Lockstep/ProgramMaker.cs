using System.Collections.Immutable;
using Iced.Intel;
using VmFuzz.Machines;
using VmFuzz.Replay;
using VmFuzz.Testing;

namespace VmFuzz.Cli.Lockstep;

/// <summary>
/// Makes random programs of user-level integer instructions: registers and memory, branches, loops, calls, strings. A few end in
/// an exception; none leaves its data, its stack or its code.
/// </summary>
internal sealed class ProgramMaker
{
    private const int MostAtoms = 24;

    // Those that need no care but for their memory operand.
    private static readonly ImmutableArray<Mnemonic> Mnemonics =
    [
        Mnemonic.Mov, Mnemonic.Add, Mnemonic.Adc, Mnemonic.Sub, Mnemonic.Sbb, Mnemonic.And, Mnemonic.Or, Mnemonic.Xor, Mnemonic.Cmp,
        Mnemonic.Test, Mnemonic.Inc, Mnemonic.Dec, Mnemonic.Neg, Mnemonic.Not, Mnemonic.Mul, Mnemonic.Imul, Mnemonic.Div, Mnemonic.Idiv,
        Mnemonic.Shl, Mnemonic.Shr, Mnemonic.Sar, Mnemonic.Rol, Mnemonic.Ror, Mnemonic.Rcl, Mnemonic.Rcr, Mnemonic.Shld, Mnemonic.Shrd,
        Mnemonic.Movzx, Mnemonic.Movsx, Mnemonic.Movsxd, Mnemonic.Xchg, Mnemonic.Cmpxchg, Mnemonic.Xadd,
        Mnemonic.Cmpxchg8b, Mnemonic.Cmpxchg16b, Mnemonic.Bsf, Mnemonic.Bsr, Mnemonic.Lzcnt, Mnemonic.Tzcnt,
        Mnemonic.Adcx, Mnemonic.Adox, Mnemonic.Mulx, Mnemonic.Andn, Mnemonic.Bextr, Mnemonic.Pdep, Mnemonic.Pext,
        Mnemonic.Rorx, Mnemonic.Shlx, Mnemonic.Shrx, Mnemonic.Sarx, Mnemonic.Bzhi, Mnemonic.Blsr, Mnemonic.Blsi, Mnemonic.Blsmsk,
        Mnemonic.Daa, Mnemonic.Das, Mnemonic.Aaa, Mnemonic.Aas, Mnemonic.Aam, Mnemonic.Aad, Mnemonic.Lahf, Mnemonic.Sahf, Mnemonic.Lea,
        Mnemonic.Seta, Mnemonic.Setb, Mnemonic.Sete, Mnemonic.Setl, Mnemonic.Setle, Mnemonic.Seto, Mnemonic.Setp, Mnemonic.Sets,
        Mnemonic.Cmova, Mnemonic.Cmovb, Mnemonic.Cmove, Mnemonic.Cmovl, Mnemonic.Cmovle, Mnemonic.Cmovo, Mnemonic.Cmovp, Mnemonic.Cmovs,
    ];

    // Features that no processor model of Unicorn 2.0.1 shows: there they are #UD.
    private static readonly ImmutableArray<Mnemonic> Missing = [Mnemonic.Popcnt, Mnemonic.Movbe];

    private readonly FlatMode _mode;
    private readonly int _bits;
    private readonly ulong _data;
    private readonly InstructionMaker _maker;
    private readonly List<byte> _code = [];

    /// <summary>Makes programs of a mode.</summary>
    public ProgramMaker(FlatMode mode)
    {
        _mode = mode;
        _bits = mode switch { FlatMode.Long64 => 64, FlatMode.Protected32 => 32, _ => 16 };
        _data = LockstepMemory.Of(mode).Data;
        _maker = new InstructionMaker(mode, Mnemonics);
    }

    /// <summary>Makes the program of a seed.</summary>
    public byte[] Make(SplitMix random)
    {
        _code.Clear();
        int atoms = 4 + (int)random.Below(MostAtoms - 3);
        for (int i = 0; i < atoms; i++)
        {
            Add(random);
        }

        return [.. _code];
    }

    private void Add(SplitMix random)
    {
        switch (random.Below(17))
        {
            case < 5:
                AddAtom(random);
                break;
            case < 8:
                _code.AddRange(Register(random));
                break;
            case < 12:
                AddMemory(random);
                break;
            case 12:
                AddBitTest(random);
                break;
            case 13:
                AddString(random);
                break;
            case 14:
                AddStack(random);
                break;
            case 15:
                AddSystem(random);
                break;
            default:
                AddFlow(random);
                break;
        }
    }

    private void AddAtom(SplitMix random)
    {
        byte[] code = [.. GuestAtom.Make(_mode, random.Next(), AtomTraits.None).Code];
        foreach (Instruction instruction in Decoder.Create(_bits, code))
        {
            if (Missing.Contains(instruction.Mnemonic))
            {
                return;
            }
        }

        _code.AddRange(code);
    }

    private byte[] Register(SplitMix random)
    {
        for (; ; )
        {
            if (_maker.TryMake(_maker.Choose(random), random, null, out byte[] bytes))
            {
                return bytes;
            }
        }
    }

    // Loads base and index so that the address is one in the data, often across the middle, where a page ends.
    private void AddMemory(SplitMix random)
    {
        OpCodeInfo form;
        do
        {
            form = _maker.Choose(random);
        }
        while (!InstructionMaker.TakesMemory(form));

        ulong target = Target(random);
        Address address = _bits == 16 ? Address16(random) : Address32(random);
        target -= _bits != 64 ? 0
            : address.Segment == Iced.Intel.Register.FS ? LockstepMemory.FsBase
            : address.Segment == Iced.Intel.Register.GS ? LockstepMemory.GsBase : 0;
        ulong mask = _bits == 64 && !address.Small ? ulong.MaxValue : _bits == 16 && !address.Wide ? 0xFFFF : uint.MaxValue;
        ulong index = address.Index == Iced.Intel.Register.None ? 0 : Index(random) & mask;

        // Without a base the displacement is all there is.
        ulong displacement = address.Base == Iced.Intel.Register.None ? target
            : random.Below(2) == 0 ? (ulong)(sbyte)random.Next() & mask : (ulong)(int)random.Next() & mask;
        bool made = _maker.TryMake(form, random, (ref Instruction instruction, SplitMix _) =>
        {
            instruction.MemoryBase = address.Base;
            instruction.MemoryIndex = address.Index;
            instruction.MemoryIndexScale = address.Scale;
            instruction.MemoryDisplacement64 = displacement;
            instruction.MemoryDisplSize = mask == 0xFFFF ? 2 : mask == ulong.MaxValue ? 8 : 4;
            instruction.SegmentPrefix = address.Segment;
        }, out byte[] bytes);
        if (!made)
        {
            return;
        }

        if (address.Base != Iced.Intel.Register.None)
        {
            ulong @base = target - displacement - (index * (ulong)address.Scale);
            Load(address.Base, @base & mask);
        }

        if (address.Index != Iced.Intel.Register.None)
        {
            Load(address.Index, index);
        }

        _code.AddRange(bytes);
    }

    private Address Address32(SplitMix random)
    {
        bool small = _bits == 64 && random.Below(6) == 0;
        Register first = _bits == 64 && !small ? Iced.Intel.Register.RAX : Iced.Intel.Register.EAX;
        int count = _bits == 64 ? 16 : 8;
        int @base = NotStack(random, count);
        int index = NotStack(random, count);
        bool hasIndex = index != @base && random.Below(2) == 0;
        Register segment = random.Below(8) != 0 ? Iced.Intel.Register.None
            : _bits == 64 && random.Below(2) == 0 ? Iced.Intel.Register.GS : Iced.Intel.Register.FS;
        return new Address(
            random.Below(8) == 0 && !hasIndex ? Iced.Intel.Register.None : first + @base,
            hasIndex ? first + index : Iced.Intel.Register.None,
            hasIndex ? 1 << (int)random.Below(4) : 1,
            segment,
            Small: small,
            Wide: false);
    }

    // SDM "16-Bit Addressing Forms with the ModR/M Byte"; BP takes the stack's segment, whose base is the same.
    private static Address Address16(SplitMix random)
    {
        if (random.Below(5) == 0)
        {
            return new Address(Iced.Intel.Register.EAX + NotStack(random, 8), Iced.Intel.Register.None, 1, Iced.Intel.Register.None, Small: false, Wide: true);
        }

        (Register Base, Register Index)[] forms =
        [
            (Iced.Intel.Register.BX, Iced.Intel.Register.SI), (Iced.Intel.Register.BX, Iced.Intel.Register.DI),
            (Iced.Intel.Register.BP, Iced.Intel.Register.SI), (Iced.Intel.Register.BP, Iced.Intel.Register.DI),
            (Iced.Intel.Register.SI, Iced.Intel.Register.None), (Iced.Intel.Register.DI, Iced.Intel.Register.None),
            (Iced.Intel.Register.BP, Iced.Intel.Register.None), (Iced.Intel.Register.BX, Iced.Intel.Register.None),
        ];
        (Register @base, Register index) = forms[(int)random.Below((ulong)forms.Length)];
        return new Address(@base, index, 1, random.Below(8) == 0 ? Iced.Intel.Register.FS : Iced.Intel.Register.None, Small: false, Wide: false);
    }

    // BT and its like with an offset in a register, which reaches beyond the operand: a small one, here.
    private void AddBitTest(SplitMix random)
    {
        bool wide = _bits == 64 && random.Below(2) == 0;
        Load(_bits == 16 ? Iced.Intel.Register.DI : _bits == 32 ? Iced.Intel.Register.EDI : Iced.Intel.Register.RDI, _data + 0x1000);
        Load(_bits == 16 ? Iced.Intel.Register.DX : _bits == 32 ? Iced.Intel.Register.EDX : Iced.Intel.Register.RDX, (ulong)((long)random.Below(0x4000) - 0x2000));
        byte[] opcodes = [0xA3, 0xAB, 0xB3, 0xBB];
        if (wide)
        {
            _code.Add(0x48);
        }
        else if (random.Below(3) == 0)
        {
            _code.Add(0x66);
            if (_bits == 16)
            {
                // The offset has 32 bits then.
                _code.AddRange([0x0F, 0xBF, 0xD2, 0x66]);
            }
        }

        // ModR/M: [rdi] or [di], register DX.
        _code.AddRange([0x0F, opcodes[random.Below(4)], _bits == 16 ? (byte)0x15 : (byte)0x17]);
    }

    // Strings in either direction, sometimes with the other address size.
    private void AddString(SplitMix random)
    {
        byte[] opcodes = [0xA4, 0xA6, 0xAA, 0xAC, 0xAE];
        byte opcode = (byte)(opcodes[random.Below(5)] | random.Below(2));
        _code.Add(random.Below(3) == 0 ? (byte)0xFD : (byte)0xFC);
        Load(Full(6), _data + 0x800 + random.Below(0x1000));
        Load(Full(7), _data + 0x800 + random.Below(0x1000));
        Load(Full(1), random.Below(24));
        if (_bits == 64 && random.Below(6) == 0)
        {
            _code.Add(0x67);
        }

        switch (random.Below(4))
        {
            case 0:
                _code.Add(0xF3);
                break;
            case 1:
                _code.Add(0xF2);
                break;
            default:
                break;
        }

        if ((opcode & 1) != 0 && random.Below(3) == 0)
        {
            _code.Add(0x66);
        }

        if (_bits == 64 && (opcode & 1) != 0 && random.Below(2) == 0)
        {
            _code.Add(0x48);
        }

        _code.Add(opcode);
        _code.Add(0xFC);
    }

    // Pushes and pops that leave the stack as it was.
    private void AddStack(SplitMix random)
    {
        byte register = (byte)NotStack(random, 8);
        byte other = (byte)NotStack(random, 8);
        switch (random.Below(_bits == 64 ? 6UL : 8))
        {
            case 0: // push imm8; pop
                _code.AddRange([0x6A, (byte)random.Next(), (byte)(0x58 | register)]);
                break;
            case 1: // push imm16 or imm32; pop
                _code.Add(0x68);
                _code.AddRange(Bytes(random.Next(), _bits == 16 ? 2 : 4));
                _code.Add((byte)(0x58 | register));
                break;
            case 2: // push imm16 with the other operand size; add to the stack pointer what it took
                _code.AddRange([0x66, (byte)(0x50 | register), 0x66, (byte)(0x58 | other)]);
                break;
            case 3: // push; popf with the flags that programs may change
                Load(Full(0), 2 | (random.Next() & 0x24_0CD5));
                _code.AddRange([0x50, 0x9D]);
                break;
            case 4: // enter; leave
                _code.AddRange([0xC8, (byte)random.Below(32), 0, (byte)random.Below(2), 0xC9]);
                break;
            case 5: // push [sp]; pop [sp + n], whose address counts from the pointer behind the pop
                _code.AddRange(_bits == 16
                    ? [0x67, 0xFF, 0x34, 0x24, 0x67, 0x8F, 0x44, 0x24, 0xF0]
                    : [0xFF, 0x34, 0x24, 0x8F, 0x44, 0x24, 0xF0]);
                break;
            case 6: // pusha; popa
                _code.AddRange([0x60, (byte)(0x40 | register), 0x61]);
                break;
            default: // pushad or pushaw with the other operand size
                _code.AddRange([0x66, 0x60, (byte)(0x48 | register), 0x66, 0x61]);
                break;
        }
    }

    // What privileged code does beside its work, and segment registers that no operand uses.
    private void AddSystem(SplitMix random)
    {
        byte register = (byte)NotStack(random, 8);
        bool long64 = _mode == FlatMode.Long64;
        switch (random.Below(10))
        {
            case 0: // cli or sti, and an instruction behind it
                _code.AddRange([(byte)(0xFA | random.Below(2)), 0x90]);
                break;
            case 1: // smsw
                _code.AddRange([.. random.Below(2) == 0 ? (byte[])[] : [0x66], 0x0F, 0x01, (byte)(0xE0 | register)]);
                break;
            case 2: // mov from cr0, cr2, cr3 or cr4
                byte[] numbers = [0, 2, 3, 4];
                _code.AddRange([0x0F, 0x20, (byte)(0xC0 | (numbers[random.Below(4)] << 3) | register)]);
                break;
            case 3: // clts or wbinvd
                _code.AddRange([0x0F, random.Below(2) == 0 ? (byte)0x06 : (byte)0x09]);
                break;
            case 4: // push cs; call; retf
                _code.AddRange(long64 ? [0x90] : [0x0E, 0xE8, .. Bytes(2, _bits / 8), 0xEB, 1, 0xCB]);
                break;
            case 5: // pushf; push cs; call; iret
                _code.AddRange(long64 ? [0x90] : [0x9C, 0x0E, 0xE8, .. Bytes(2, _bits / 8), 0xEB, 1, 0xCF]);
                break;
            case 6: // lar, lsl, verr or verw, which real mode has not
                if (_mode != FlatMode.Real16)
                {
                    Load(Full(1), Selector(random));
                    byte[][] looks = [[0x0F, 0x02, (byte)(0xC1 | (register << 3))], [0x0F, 0x03, (byte)(0xC1 | (register << 3))], [0x0F, 0x00, 0xE1], [0x0F, 0x00, 0xE9]];
                    _code.AddRange(looks[random.Below(4)]);
                }

                break;
            case 7: // a segment register loaded and read
                Load(Full(1), Selector(random));
                byte segment = long64 ? (byte)(3 * random.Below(2)) : (byte)5;
                _code.AddRange([0x8E, (byte)(0xC1 | (segment << 3)), 0x8C, (byte)(0xC0 | (segment << 3) | register)]);
                break;
            case 8: // push fs; pop reg; push gs; pop reg
                _code.AddRange([0x0F, 0xA0, (byte)(0x58 | register), 0x0F, 0xA8, (byte)(0x58 | register)]);
                break;
            default: // sgdt
                if (_mode != FlatMode.Real16)
                {
                    _code.AddRange([0x0F, 0x01, .. long64 ? (byte[])[0x04, 0x25] : [0x05], .. Bytes(Target(random), 4)]);
                }

                break;
        }
    }

    // Null, code, data, an empty descriptor, one past the table; in real mode any.
    private ulong Selector(SplitMix random) => _mode == FlatMode.Real16 ? random.Next() & 0xFFFF : random.Below(5) * 8;

    // Branches, forwards, over at most one instruction; loops; calls of all kinds.
    private void AddFlow(SplitMix random)
    {
        byte[] inner = Register(random);
        switch (random.Below(8))
        {
            case 0: // LOOPNE, LOOPE, LOOP, JCXZ forwards
                _code.AddRange([(byte)(0xE0 | random.Below(4)), (byte)inner.Length, .. inner]);
                break;
            case 1: // Jcc with the long displacement
                _code.AddRange([0x0F, (byte)(0x80 | random.Below(16)), .. Bytes((ulong)inner.Length, _bits == 16 ? 2 : 4), .. inner]);
                break;
            case 2: // a loop of a few rounds that ends by the flags too
                Load(Full(1), 1 + random.Below(12));
                _code.AddRange([0xFF, 0xC2, (byte)(0xE0 | random.Below(2)), 0xFC]); // again: inc edx; loopne or loope again
                break;
            case 3: // call to a function with its instruction and RET n, after a push that it takes
                AddCall(random, inner);
                break;
            case 4: // call through a register
                AddIndirect(random, call: true);
                break;
            case 5:
                AddIndirect(random, call: false);
                break;
            case 6: // a jump over bytes that are no program
                _code.AddRange([0xEB, 2, 0x0F, 0x0B]);
                break;
            default: // ends the program, seldom
                if (random.Below(16) == 0)
                {
                    AddException(random);
                }

                break;
        }
    }

    private void AddException(SplitMix random)
    {
        switch (random.Below(_mode == FlatMode.Long64 ? 4UL : 2))
        {
            case 0: // ud2
                _code.AddRange([0x0F, 0x0B]);
                break;
            case 1: // lock nop
                _code.AddRange([0xF0, 0x90]);
                break;
            default: // a load or store behind what the page tables map
                Load(Iced.Intel.Register.R10, 0x1_0000_0000 + random.Below(0x1_0000));
                _code.AddRange([0x4D, random.Below(2) == 0 ? (byte)0x89 : (byte)0x8B, 0x9A, .. Bytes(0x10 * random.Below(0x1000), 4)]);
                break;
        }
    }

    private void AddCall(SplitMix random, byte[] inner)
    {
        int wide = _bits / 8;
        byte[] function = [.. inner, 0xC2, (byte)wide, 0];
        _code.AddRange([(byte)(0x50 | NotStack(random, 8)), 0xE8, .. Bytes(2, _bits == 16 ? 2 : 4), 0xEB, (byte)function.Length, .. function]);
    }

    // The address is taken from a call's return address.
    private void AddIndirect(SplitMix random, bool call)
    {
        byte register = (byte)NotStack(random, 8);
        byte modRm = (byte)((call ? 0xD0 : 0xE0) | register);
        int add = _bits == 64 ? 4 : 3;

        // call next; next: pop reg; add reg, n; (call or jmp) reg; then jmp over the function, the function: ret
        _code.AddRange([0xE8, .. Bytes(0, _bits == 16 ? 2 : 4), (byte)(0x58 | register)]);
        byte distance = (byte)(1 + add + 2 + 2);
        _code.AddRange([.. _bits == 64 ? (byte[])[0x48] : [], 0x83, (byte)(0xC0 | register), distance, 0xFF, modRm]);
        _code.AddRange([0xEB, 1, call ? (byte)0xC3 : (byte)0x90]);
    }

    private ulong Target(SplitMix random) =>
        _data + (random.Below(3) == 0 ? 0xFF0 + random.Below(0x20) : 0x40 + random.Below(LockstepMemory.DataBytes - 0x80));

    private void Load(Register register, ulong value)
    {
        int number = register.GetFullRegister() - Iced.Intel.Register.RAX;
        int size = register.GetSize();
        if (size == 2)
        {
            _code.AddRange([(byte)(0xB8 | number), .. Bytes(value, 2)]);
        }
        else if (_bits == 16)
        {
            _code.AddRange([0x66, (byte)(0xB8 | number), .. Bytes(value, 4)]);
        }
        else if (size == 4 || value <= uint.MaxValue)
        {
            _code.AddRange([.. number > 7 ? (byte[])[0x41] : [], (byte)(0xB8 | (number & 7)), .. Bytes(value, 4)]);
        }
        else
        {
            _code.AddRange([(byte)(0x48 | (number >> 3)), (byte)(0xB8 | (number & 7)), .. Bytes(value, 8)]);
        }
    }

    private Register Full(int number) =>
        (_bits switch { 64 => Iced.Intel.Register.RAX, 32 => Iced.Intel.Register.EAX, _ => Iced.Intel.Register.AX }) + number;

    private static ulong Index(SplitMix random) => random.Below(3) == 0 ? random.Below(0x100) : random.Next() >> (int)random.Below(64);

    private static int NotStack(SplitMix random, int count)
    {
        int register = (int)random.Below((ulong)count - 1);
        return register >= 4 ? register + 1 : register;
    }

    private static byte[] Bytes(ulong value, int count) => BitConverter.GetBytes(value)[..count];

    private readonly record struct Address(Register Base, Register Index, int Scale, Register Segment, bool Small, bool Wide);
}
