using System.Collections.Immutable;
using System.Globalization;
using System.Text;
using Iced.Intel;
using VmFuzz.Machines;

namespace VmFuzz.Testing;

/// <summary>
/// A guest for machine <c>flat</c>: interrupt table with a counting handler for NMIs and vectors from 0x20 (exceptions end the run),
/// registers set, the atoms run in rounds, registers stored, and an end through port 0xf4.
/// </summary>
/// <param name="Mode">Mode in which it starts.</param>
/// <param name="Registers">Start values.</param>
/// <param name="Atoms">The body.</param>
/// <param name="Rounds">How often the body runs, from 1.</param>
/// <param name="InterruptsOn">Whether IF is set before the body and again after it.</param>
/// <param name="Tail">Iterations of an empty loop after the body, for events that are still to come; 0 for none.</param>
public sealed record GuestProgram(
    FlatMode Mode, RegisterFile Registers, ImmutableArray<GuestAtom> Atoms, int Rounds = 1, bool InterruptsOn = false, int Tail = 0)
{
    /// <summary>Memory of the machine it runs on.</summary>
    public const ulong MemorySize = 4UL << 20;

    /// <summary>Address at which it is loaded.</summary>
    public const uint Origin = 0x1_0000;

    private const int TableAt = 32;
    private const int StubSize = 24;

    /// <summary>What its atoms involve.</summary>
    public AtomTraits Traits
    {
        get
        {
            AtomTraits traits = AtomTraits.None;
            foreach (GuestAtom atom in Atoms)
            {
                traits |= atom.Traits;
            }

            return traits;
        }
    }

    /// <summary>Machine options that run it.</summary>
    public MachineOptions Options(Accelerator accelerator) => new()
    {
        Kind = MachineKind.Flat,
        Accelerator = accelerator,
        Memory = MemorySize,
        FlatMode = Mode,
        LoadAddress = Origin,
        MaxInstructions = 200_000,
        Images = [new MachineImage("code", "program", Assemble())],
    };

    /// <summary>Whether two programs are the same.</summary>
    public bool Equals(GuestProgram? other) => other is not null && Assemble().AsSpan().SequenceEqual(other.Assemble());

    /// <inheritdoc/>
    public override int GetHashCode() => Atoms.Length;

    /// <summary>The image: loaded at <see cref="Origin"/>, starts at its first byte.</summary>
    public byte[] Assemble()
    {
        GuestLayout at = GuestLayout.Of(Mode);
        var image = new ImageWriter(Mode);
        int entrySize = Mode switch { FlatMode.Long64 => 16, FlatMode.Protected32 => 8, _ => 4 };
        int stubs = TableAt + (256 * entrySize);
        int code = stubs + (256 * StubSize);

        // LIDT first: a guest can take an NMI at every boundary but the very first.
        image.Bytes(Mode switch
        {
            FlatMode.Long64 => [0x0F, 0x01, 0x1C, 0x25, .. Word(Origin + 16)],
            FlatMode.Protected32 => [0x0F, 0x01, 0x1D, .. Word(Origin + 16)],
            _ => [0x2E, 0x66, 0x0F, 0x01, 0x1E, 16, 0],
        });
        image.JumpTo(code);
        image.FillTo(16);
        image.Bytes([.. Half((ushort)((256 * entrySize) - 1)), .. Word(Origin + TableAt), 0, 0, 0, 0]);
        image.FillTo(TableAt);
        for (int vector = 0; vector < 256; vector++)
        {
            uint stub = (uint)(stubs + (vector * StubSize));
            uint linear = Origin + stub;
            image.Bytes(Mode switch
            {
                FlatMode.Long64 => [.. Half((ushort)linear), 8, 0, 0, 0x8E, .. Half((ushort)(linear >> 16)), 0, 0, 0, 0, 0, 0, 0, 0],
                FlatMode.Protected32 => [.. Half((ushort)linear), 8, 0, 0, 0x8E, .. Half((ushort)(linear >> 16))],
                _ => [.. Half((ushort)stub), .. Half((ushort)(Origin >> 4))],
            });
        }

        for (int vector = 0; vector < 256; vector++)
        {
            image.FillTo(stubs + (vector * StubSize));
            image.Increment(at.Counters + (8 * (uint)vector));
            image.Bytes(vector is 2 or >= 32 ? image.Return : [0xB0, (byte)vector, 0xE6, 0xF4, 0xF4, 0xEB, 0xFD]);
        }

        image.FillTo(code);
        for (int register = 0; register < (Mode == FlatMode.Long64 ? 16 : 8); register++)
        {
            if (register != 4)
            {
                image.Load(register, Registers.Values[register]);
            }
        }

        image.StoreWord(at.Rounds, (uint)Math.Max(1, Rounds));
        image.Bytes(InterruptsOn ? [0xFB] : []);
        int body = image.Length;
        foreach (GuestAtom atom in Atoms)
        {
            image.Bytes(atom.Code.AsSpan());
        }

        image.DecrementAndLoop(at.Rounds, body);
        image.Bytes(InterruptsOn ? [0xFB] : []);
        for (int register = 0; register < (Mode == FlatMode.Long64 ? 16 : 8); register++)
        {
            image.Store(register, at.Registers + (8 * (uint)register));
        }

        // Flags without IF, which may wait for an interrupt window.
        image.Bytes([0x9C, 0x58]);
        image.Store(0, at.Registers + (8 * 16));
        if (Tail > 0)
        {
            image.Load(1, (uint)Math.Min(Tail, 0xFFFF));
            image.Bytes([0xE2, 0xFE]);
        }

        image.Bytes([0x31, 0xC0, 0xE7, 0xF4, 0xF4, 0xEB, 0xFD]);
        return image.ToArray();
    }

    /// <inheritdoc/>
    public override string ToString()
    {
        var text = new StringBuilder();
        text.Append(CultureInfo.InvariantCulture, $"{Mode}, rounds {Rounds}, interrupts {(InterruptsOn ? "on" : "off")}, tail {Tail}, registers {Registers}");
        int bits = Mode == FlatMode.Long64 ? 64 : Mode == FlatMode.Protected32 ? 32 : 16;
        var formatter = new NasmFormatter();
        var output = new StringOutput();
        foreach (GuestAtom atom in Atoms)
        {
            text.Append("\n    ");
            byte[] bytes = [.. atom.Code];
            var decoder = Iced.Intel.Decoder.Create(bits, bytes);
            while (decoder.IP < (ulong)bytes.Length)
            {
                Instruction instruction = decoder.Decode();
                formatter.Format(instruction, output);
                text.Append(output.ToStringAndReset()).Append("; ");
            }

            text.Append("  ").Append(Convert.ToHexStringLower(bytes));
        }

        return text.ToString();
    }

    internal static byte[] Word(uint value) => [(byte)value, (byte)(value >> 8), (byte)(value >> 16), (byte)(value >> 24)];

    internal static byte[] Half(ushort value) => [(byte)value, (byte)(value >> 8)];

    // Writes the few instructions around the body, in the encoding of a mode.
    private sealed class ImageWriter(FlatMode mode)
    {
        private readonly List<byte> _bytes = [];

        public int Length => _bytes.Count;

        public byte[] Return => mode == FlatMode.Long64 ? [0x48, 0xCF] : [0xCF];

        public void Bytes(ReadOnlySpan<byte> bytes) => _bytes.AddRange(bytes);

        public void FillTo(int length)
        {
            if (_bytes.Count > length)
            {
                throw new InvalidOperationException($"the image is {_bytes.Count} bytes long where it should be at most {length}");
            }

            while (_bytes.Count < length)
            {
                _bytes.Add(0x90);
            }
        }

        public void JumpTo(int target)
        {
            int size = mode == FlatMode.Real16 ? 3 : 5;
            uint distance = unchecked((uint)(target - Length - size));
            Bytes([0xE9]);
            Bytes(mode == FlatMode.Real16 ? Half((ushort)distance) : Word(distance));
        }

        public void Increment(uint address) => Memory([0xFF], 0, address, wide: true);

        public void StoreWord(uint address, uint value)
        {
            Memory([0xC7], 0, address, wide: false);
            Bytes(Word(value));
        }

        public void DecrementAndLoop(uint address, int target)
        {
            Memory([0xFF], 1, address, wide: false);
            int size = mode == FlatMode.Real16 ? 4 : 6;
            uint distance = unchecked((uint)(target - Length - size));
            Bytes([0x0F, 0x85]);
            Bytes(mode == FlatMode.Real16 ? Half((ushort)distance) : Word(distance));
        }

        public void Load(int register, ulong value)
        {
            switch (mode)
            {
                case FlatMode.Long64:
                    Bytes([(byte)(0x48 | (register >> 3)), (byte)(0xB8 | (register & 7)), .. Word((uint)value), .. Word((uint)(value >> 32))]);
                    break;
                case FlatMode.Protected32:
                    Bytes([(byte)(0xB8 | register), .. Word((uint)value)]);
                    break;
                default:
                    Bytes([0x66, (byte)(0xB8 | register), .. Word((uint)value)]);
                    break;
            }
        }

        public void Store(int register, uint address) => Memory([0x89], register, address, wide: true);

        // An instruction with an absolute memory operand; wide is the mode's largest size, otherwise 32 bits.
        private void Memory(ReadOnlySpan<byte> opcode, int reg, uint address, bool wide)
        {
            byte modrm = (byte)((reg & 7) << 3);
            switch (mode)
            {
                case FlatMode.Long64:
                    if (wide || reg > 7)
                    {
                        Bytes([(byte)(0x40 | (wide ? 8 : 0) | (reg > 7 ? 4 : 0))]);
                    }

                    Bytes(opcode);
                    Bytes([(byte)(modrm | 4), 0x25, .. Word(address)]);
                    break;
                case FlatMode.Protected32:
                    Bytes(opcode);
                    Bytes([(byte)(modrm | 5), .. Word(address)]);
                    break;
                default:
                    Bytes([0x66]);
                    Bytes(opcode);
                    Bytes([(byte)(modrm | 6), .. Half((ushort)address)]);
                    break;
            }
        }

        public byte[] ToArray() => [.. _bytes];
    }
}
