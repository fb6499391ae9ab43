using System.Collections.Immutable;
using Iced.Intel;
using VmFuzz.Machines;
using VmFuzz.Replay;

namespace VmFuzz.Testing;

/// <summary>Makes atoms of one mode from random numbers.</summary>
internal sealed class AtomMaker
{
    private readonly FlatMode _mode;
    private readonly int _bits;
    private readonly GuestLayout _layout;
    private readonly InstructionMaker _maker;
    private readonly ImmutableArray<Special> _specials;

    private AtomMaker(FlatMode mode)
    {
        _mode = mode;
        _bits = mode switch { FlatMode.Long64 => 64, FlatMode.Protected32 => 32, _ => 16 };
        _layout = GuestLayout.Of(mode);
        _maker = new InstructionMaker(mode, Mnemonics);
        _specials = [.. Specials().Where(s => (s.Modes & (1 << (int)mode)) != 0)];
    }

    private static ImmutableArray<Mnemonic> Mnemonics { get; } =
    [
        Mnemonic.Mov, Mnemonic.Add, Mnemonic.Adc, Mnemonic.Sub, Mnemonic.Sbb, Mnemonic.And, Mnemonic.Or, Mnemonic.Xor, Mnemonic.Cmp,
        Mnemonic.Test, Mnemonic.Inc, Mnemonic.Dec, Mnemonic.Neg, Mnemonic.Not, Mnemonic.Mul, Mnemonic.Imul, Mnemonic.Shl, Mnemonic.Shr,
        Mnemonic.Sar, Mnemonic.Rol, Mnemonic.Ror, Mnemonic.Rcl, Mnemonic.Rcr, Mnemonic.Shld, Mnemonic.Shrd, Mnemonic.Movzx, Mnemonic.Movsx,
        Mnemonic.Movsxd, Mnemonic.Xchg, Mnemonic.Cmpxchg, Mnemonic.Xadd, Mnemonic.Bswap, Mnemonic.Bt, Mnemonic.Bts, Mnemonic.Btr,
        Mnemonic.Btc, Mnemonic.Bsf, Mnemonic.Bsr, Mnemonic.Popcnt, Mnemonic.Lzcnt, Mnemonic.Tzcnt, Mnemonic.Cbw, Mnemonic.Cwde,
        Mnemonic.Cdqe, Mnemonic.Cwd, Mnemonic.Cdq, Mnemonic.Cqo, Mnemonic.Lahf, Mnemonic.Sahf, Mnemonic.Cmc, Mnemonic.Clc, Mnemonic.Stc,
        Mnemonic.Andn, Mnemonic.Bextr, Mnemonic.Pdep, Mnemonic.Pext, Mnemonic.Rorx, Mnemonic.Shlx, Mnemonic.Shrx, Mnemonic.Sarx,
        Mnemonic.Bzhi, Mnemonic.Blsr, Mnemonic.Blsi, Mnemonic.Blsmsk, Mnemonic.Nop,
        Mnemonic.Seta, Mnemonic.Setae, Mnemonic.Setb, Mnemonic.Setbe, Mnemonic.Sete, Mnemonic.Setne, Mnemonic.Setg, Mnemonic.Setge,
        Mnemonic.Setl, Mnemonic.Setle, Mnemonic.Seto, Mnemonic.Setno, Mnemonic.Setp, Mnemonic.Setnp, Mnemonic.Sets, Mnemonic.Setns,
        Mnemonic.Cmova, Mnemonic.Cmovae, Mnemonic.Cmovb, Mnemonic.Cmovbe, Mnemonic.Cmove, Mnemonic.Cmovne, Mnemonic.Cmovg, Mnemonic.Cmovge,
        Mnemonic.Cmovl, Mnemonic.Cmovle, Mnemonic.Cmovo, Mnemonic.Cmovno, Mnemonic.Cmovp, Mnemonic.Cmovnp, Mnemonic.Cmovs, Mnemonic.Cmovns,
    ];

    // After the tables above, which its constructor reads.
    private static ImmutableArray<AtomMaker> Makers { get; } = [new(FlatMode.Real16), new(FlatMode.Protected32), new(FlatMode.Long64)];

    public static AtomMaker Of(FlatMode mode) => Makers[(int)mode];

    /// <summary>Makes an atom whose traits are all allowed.</summary>
    public GuestAtom Make(ulong seed, AtomTraits allowed)
    {
        var random = new SplitMix(seed);
        if (random.Below(3) == 0)
        {
            for (int attempt = 0; attempt < 16; attempt++)
            {
                Special special = _specials[(int)random.Below((ulong)_specials.Length)];
                if ((special.Traits & ~allowed) == 0)
                {
                    return new GuestAtom([.. special.Make(this, random)], special.Traits);
                }
            }
        }

        return new GuestAtom([.. Plain(random)], AtomTraits.None);
    }

    /// <summary>One valid instruction on registers and the data area; never the stack pointer, never a fault.</summary>
    public byte[] Plain(SplitMix random)
    {
        for (; ; )
        {
            OpCodeInfo info = _maker.Choose(random);
            // A bit offset in a register would reach beyond the data area.
            bool memory = random.Below(3) == 0 && info.Code.Mnemonic() is not (Mnemonic.Bt or Mnemonic.Bts or Mnemonic.Btr or Mnemonic.Btc);
            if (_maker.TryMake(info, random, memory ? SetAddress : null, out byte[] bytes))
            {
                return bytes;
            }
        }
    }

    public static ulong Value(SplitMix random) => InstructionMaker.Value(random);

    private void SetAddress(ref Instruction instruction, SplitMix random)
    {
        instruction.MemoryDisplacement64 = _layout.Data + random.Below(GuestLayout.DataSize - 8);
        instruction.MemoryDisplSize = _bits == 16 ? 2 : 4;
    }

    // Loads a register with a constant; 32 bits are enough for addresses and counts.
    private byte[] Set(int register, uint value) => _bits switch
    {
        16 => [(byte)(0xB8 | register), .. GuestProgram.Half((ushort)value)],
        _ => [(byte)(0xB8 | register), .. GuestProgram.Word(value)],
    };

    private byte[] String(byte opcode, SplitMix random, bool rep)
    {
        uint from = _layout.Data + (uint)random.Below(0x400);
        uint to = _layout.Data + 0x800 + (uint)random.Below(0x400);
        byte[] wide = _bits == 64 && (opcode & 1) != 0 && random.Below(2) == 0 ? [0x48] : [];
        byte[] prefix = rep ? [random.Below(2) == 0 && opcode is 0xA6 or 0xA7 or 0xAE or 0xAF ? (byte)0xF2 : (byte)0xF3] : [];
        return [0xFC, .. Set(6, from), .. Set(7, to), .. Set(1, (uint)random.Below(40)), .. prefix, .. wide, opcode];
    }

    private byte[] Skip(SplitMix random)
    {
        byte[] inner = Plain(random);
        return [(byte)(0x70 | (int)random.Below(16)), (byte)inner.Length, .. inner];
    }

    private byte[] Loop(SplitMix random)
    {
        uint at = _layout.Data + (uint)random.Below(GuestLayout.DataSize - 8);
        byte[] address = _bits switch
        {
            64 => [0x04, 0x25, .. GuestProgram.Word(at)],
            32 => [0x05, .. GuestProgram.Word(at)],
            _ => [0x06, .. GuestProgram.Half((ushort)at)],
        };
        byte[] inner = [0xFF, .. address, 0x01, 0xD8, 0x19, 0xF2];
        return [.. Set(1, 1 + (uint)random.Below(60)), .. inner, 0xE2, (byte)(-inner.Length - 2)];
    }

    private byte[] Divide(SplitMix random)
    {
        byte[] set = Set(1, (uint)Value(random) | 1);
        return random.Below(2) == 0
            ? [.. set, 0x31, 0xD2, 0xF7, 0xF1]
            : [.. set, 0x31, 0xD2, 0x83, 0xE0, 0x7F, 0xF7, 0xF9];
    }

    // A store into the immediate of the next instruction, or of the one after a jump.
    private static byte[] Patch64(SplitMix random)
    {
        byte value = (byte)random.Next();
        byte[] between = random.Below(3) switch { 0 => [], 1 => [0xEB, 0x00], _ => [0xEB, 0x01, 0xF4] };
        // mov byte [rip + between + 1], value ; between ; mov al, old
        return [0xC6, 0x05, .. GuestProgram.Word((uint)between.Length + 1), value, .. between, 0xB0, (byte)random.Next()];
    }

    // Adds to the immediate of an instruction in every pass of a small loop, and runs it.
    private static byte[] PatchLoop64(SplitMix random)
    {
        // mov ecx, n ; L: inc byte [rip + 1 + gap] ; gap ; mov bl, imm ; add dl, bl ; loop L
        byte[] gap = random.Below(2) == 0 ? [] : [0xEB, 0x00];
        byte[] inner = [0xFE, 0x05, .. GuestProgram.Word((uint)gap.Length + 1), .. gap, 0xB3, (byte)random.Next(), 0x00, 0xDA];
        return [0xB9, .. GuestProgram.Word(2 + (uint)random.Below(30)), .. inner, 0xE2, (byte)(-inner.Length - 2)];
    }

    private static byte[] Patch(AtomMaker maker, SplitMix random)
    {
        // call next ; next: pop bx ; then a store relative to it.
        byte value = (byte)random.Next();
        return maker._bits == 32
            ? [0xE8, 0, 0, 0, 0, 0x5B, 0xC6, 0x43, 6, value, 0xB0, (byte)random.Next()]
            : [0xE8, 0, 0, 0x5B, 0x2E, 0xC6, 0x47, 9, value, 0xEB, 0x00, 0xB0, (byte)random.Next()];
    }

    private static IEnumerable<Special> Specials()
    {
        const int All = 7, Only64 = 4, Only32 = 2, Not64 = 3, Not16 = 6;
        yield return new(AtomTraits.None, All, static (m, r) => m.Loop(r));
        yield return new(AtomTraits.None, All, static (m, r) => m.Skip(r));
        yield return new(AtomTraits.None, All, static (m, r) => m.Divide(r));
        yield return new(AtomTraits.None, All, static (m, r) => [(byte)(0x50 | m.NotStackLow(r)), (byte)(0x58 | m.NotStackLow(r))]);
        yield return new(AtomTraits.None, All, static (m, r) => [0x9C, (byte)(0x58 | m.NotStackLow(r))]);
        yield return new(AtomTraits.None, Not16, static (_, _) => [0xE8, 2, 0, 0, 0, 0xEB, 1, 0xC3]);
        yield return new(AtomTraits.None, 1, static (_, _) => [0xE8, 2, 0, 0xEB, 1, 0xC3]);
        foreach (byte opcode in (byte[])[0xA4, 0xA5, 0xA6, 0xA7, 0xAA, 0xAB, 0xAC, 0xAD, 0xAE, 0xAF])
        {
            yield return new(AtomTraits.None, All, (m, r) => m.String(opcode, r, rep: r.Below(3) != 0));
        }

        yield return new(AtomTraits.Console, All, static (_, _) => [0xE6, 0xE9]);
        yield return new(AtomTraits.Console, All, static (m, r) => [0xFC, .. m.Set(6, m._layout.Data), .. m.Set(1, (uint)r.Below(20)), .. m.Set(2, 0xE9), 0xF3, 0x6E]);
        yield return new(AtomTraits.Console | AtomTraits.Ports, All, static (m, r) => [.. m.Set(2, 0x3F8), 0xB0, (byte)r.Next(), 0xEE]);
        yield return new(AtomTraits.Ports, All, static (m, r) => [.. m.Set(2, 0x3F8 + (uint)r.Below(8)), 0xEC]);
        yield return new(AtomTraits.Ports, All, static (m, _) => [.. m.Set(2, 0x3FC), 0xB0, 0x0B, 0xEE, .. m.Set(2, 0x3F9), 0xB0, 1, 0xEE]);
        yield return new(AtomTraits.Ports, All, static (m, r) => [.. m.Set(2, 0x3FF), 0xB0, (byte)r.Next(), 0xEE]);
        yield return new(AtomTraits.Ports, All, static (m, r) => [.. m.Set(2, 0x1000 + (uint)r.Below(0x1000)), 0xED]);
        yield return new(AtomTraits.Ports, All, static (m, r) => [0xFC, .. m.Set(7, m._layout.Data), .. m.Set(1, (uint)r.Below(12)), .. m.Set(2, 0x3FF), 0xF3, 0x6C]);
        yield return new(AtomTraits.Time, All, static (_, _) => [0x0F, 0x31]);
        yield return new(AtomTraits.Random, Not16, static (m, r) => [0x0F, 0xC7, (byte)(0xF0 | m.NotStackLow(r))]);
        yield return new(AtomTraits.Random, Only64, static (m, r) => [0x48, 0x0F, 0xC7, (byte)(0xF8 | m.NotStackLow(r))]);
        yield return new(AtomTraits.Halts, All, static (_, _) => [0xF4]);
        yield return new(AtomTraits.Halts | AtomTraits.InterruptFlag, All, static (_, _) => [0xFA, 0xFB, 0xF4]);
        yield return new(AtomTraits.Faults, All, static (_, _) => [0x0F, 0x0B]);
        yield return new(AtomTraits.Faults, All, static (m, _) => [.. m.Set(1, 0), 0xF7, 0xF1]);
        yield return new(AtomTraits.Identity, All, static (m, r) => [.. m.Set(0, (uint)r.Below(8)), 0x31, 0xC9, 0x0F, 0xA2]);
        yield return new(AtomTraits.InterruptFlag, All, static (_, _) => [0xFA]);
        yield return new(AtomTraits.InterruptFlag, All, static (_, _) => [0xFB]);
        yield return new(AtomTraits.InterruptFlag, All, static (_, _) => [0xFA, 0x90, 0xFB, 0x90]);
        yield return new(AtomTraits.InterruptFlag, All, static (_, _) => [0x9C, 0xFA, 0x9D]);
        yield return new(AtomTraits.Interrupts, All, static (_, r) => [0xCD, (byte)(0x20 + r.Below(0xE0))]);
        yield return new(AtomTraits.None, All, static (_, _) => [0xF3, 0x90]);
        yield return new(AtomTraits.Privileged, All, static (_, _) => [0x0F, 0x09]);
        yield return new(AtomTraits.Privileged, All, static (_, _) => [0x0F, 0x06]);
        yield return new(AtomTraits.Privileged, Only64, static (_, _) => [0x0F, 0x20, 0xD8, 0x0F, 0x22, 0xD8]);
        yield return new(AtomTraits.Privileged, Only64, static (_, _) => [0x0F, 0x20, 0xE0, 0x48, 0x83, 0xF0, 0x80, 0x48, 0x25, 0xA0, 0, 0, 0, 0x0F, 0x22, 0xE0]);
        yield return new(AtomTraits.Privileged, Not64, static (_, _) => [0x0F, 0x20, 0xC0, 0x0F, 0x22, 0xC0]);
        yield return new(AtomTraits.Privileged, Only64, static (m, r) => [0x0F, 0x01, 0x3C, 0x25, .. GuestProgram.Word(m._layout.Data + (uint)r.Below(0x1000))]);
        yield return new(AtomTraits.Privileged, All, static (_, _) => [0x0F, 0x01, 0xE0]);
        yield return new(AtomTraits.Privileged, Not16, static (m, _) => [.. m.Set(1, 0xC000_0080), 0x0F, 0x32, 0x0F, 0x30]);
        yield return new(AtomTraits.Mmio, Not16, static (m, r) => [.. m.Set(3, 0xFED0_0000 + (uint)r.Below(0x1000)), 0x8B, 0x03]);
        yield return new(AtomTraits.Mmio, Not16, static (m, r) => [.. m.Set(3, 0xFED0_0000 + (uint)r.Below(0x1000)), 0x89, 0x03, 0x0F, 0xB6, 0x43, 4]);
        yield return new(AtomTraits.ModifiesCode, Only64, static (_, r) => Patch64(r));
        yield return new(AtomTraits.ModifiesCode, Only64, static (_, r) => PatchLoop64(r));
        yield return new(AtomTraits.ModifiesCode, Only32 | 1, Patch);
    }

    private int NotStackLow(SplitMix random)
    {
        int register = (int)random.Below(7);
        return register >= 4 ? register + 1 : register;
    }

    private sealed record Special(AtomTraits Traits, int Modes, Func<AtomMaker, SplitMix, byte[]> Make);
}
