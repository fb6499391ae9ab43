using System.Collections.Immutable;
using Iced.Intel;
using VmFuzz.Kvm;
using VmFuzz.Machines;
using VmFuzz.Replay;

namespace VmFuzz.Fuzzing;

/// <summary>Decodes and encodes single instructions without allocating for each.</summary>
internal sealed class InstructionForge
{
    private const int Longest = 15;
    private const int Resynchronise = 64;

    private readonly Reader _reader = new();
    private readonly Writer _writer = new();
    private readonly Decoder[] _decoders;
    private readonly Encoder[] _encoders;
    private readonly List<byte> _draft = [];

    public InstructionForge()
    {
        _decoders = [Decoder.Create(16, _reader), Decoder.Create(32, _reader), Decoder.Create(64, _reader)];
        _encoders = [Encoder.Create(16, _writer), Encoder.Create(32, _writer), Encoder.Create(64, _writer)];
    }

    public static int Bitness(FlatMode mode) => mode switch { FlatMode.Real16 => 16, FlatMode.Protected32 => 32, _ => 64 };

    /// <summary>Length of what starts here: an instruction's, or 1 for a byte that starts none.</summary>
    public int Decode(List<byte> code, int at, FlatMode mode, out Instruction instruction)
    {
        Decoder decoder = _decoders[(int)mode];
        _reader.Start(code, at);
        decoder.IP = (ulong)at;
        decoder.Decode(out instruction);
        return instruction.IsInvalid ? 1 : instruction.Length;
    }

    /// <summary>The instruction over a byte; in long code the scan starts shortly before it.</summary>
    public int Find(List<byte> code, int target, FlatMode mode, out int at, out Instruction instruction)
    {
        at = Math.Max(0, target - Resynchronise);
        while (true)
        {
            int length = Decode(code, at, mode, out instruction);
            if (at + length > target)
            {
                return length;
            }

            at += length;
        }
    }

    /// <summary>Encodes; empty when the instruction has no encoding.</summary>
    public ReadOnlySpan<byte> Encode(in Instruction instruction, int at, FlatMode mode)
    {
        _writer.Count = 0;
        return _encoders[(int)mode].TryEncode(instruction, (ulong)at, out _, out _) ? _writer.Written : default;
    }

    /// <summary>A valid encoding with random operands of some kind of instruction; empty when none came out.</summary>
    public ReadOnlySpan<byte> Invent(Code code, FlatMode mode, SplitMix random)
    {
        for (int attempt = 0; attempt < 4; attempt++)
        {
            Draft(code.ToOpCode(), Bitness(mode), random);
            int length = Decode(_draft, 0, mode, out Instruction made);
            if (!made.IsInvalid)
            {
                return System.Runtime.InteropServices.CollectionsMarshal.AsSpan(_draft)[..length];
            }
        }

        return default;
    }

    // Prefixes and opcode by the table, everything behind it at random: the decoder says how long it is.
    private void Draft(OpCodeInfo op, int bitness, SplitMix random)
    {
        _draft.Clear();
        ulong bits = random.Next();
        if (op.Encoding == EncodingKind.VEX)
        {
            DraftVex(op, bitness, bits);
        }
        else
        {
            DraftLegacy(op, bitness, bits);
        }

        ulong operands = random.Next();
        byte modRm = (byte)operands;
        modRm |= (operands & 0x100) != 0 ? (byte)0xC0 : (byte)0;
        if (op.IsGroup)
        {
            modRm = (byte)((modRm & 0xC7) | (op.GroupIndex << 3));
        }

        if (op.IsRmGroup)
        {
            modRm = (byte)((modRm & 0x38) | 0xC0 | op.RmGroupIndex);
        }

        _draft.Add(modRm);
        ulong tail = random.Next();
        while (_draft.Count < Longest + 5)
        {
            _draft.Add((byte)tail);
            tail = (tail >> 8) | (tail << 56);
        }
    }

    private void DraftLegacy(OpCodeInfo op, int bitness, ulong bits)
    {
        if (op.Fwait)
        {
            _draft.Add(0x9B);
        }

        if (op.AddressSize != 0 && op.AddressSize != bitness)
        {
            _draft.Add(0x67);
        }

        if ((op.OperandSize == 16 && bitness != 16) || (op.OperandSize == 32 && bitness == 16) || op.MandatoryPrefix == MandatoryPrefix.P66)
        {
            _draft.Add(0x66);
        }

        if (op.MandatoryPrefix is MandatoryPrefix.PF2 or MandatoryPrefix.PF3)
        {
            _draft.Add(op.MandatoryPrefix == MandatoryPrefix.PF2 ? (byte)0xF2 : (byte)0xF3);
        }

        if (bitness == 64)
        {
            byte rex = (bits & 8) != 0 ? (byte)(bits & 7) : (byte)0;
            rex |= op.OperandSize == 64 && !op.DefaultOpSize64 ? (byte)8 : (byte)0;
            if (rex != 0)
            {
                _draft.Add((byte)(0x40 | rex));
            }
        }

        switch (op.Table)
        {
            case OpCodeTableKind.T0F:
                _draft.Add(0x0F);
                break;
            case OpCodeTableKind.T0F38:
                _draft.AddRange([0x0F, 0x38]);
                break;
            case OpCodeTableKind.T0F3A:
                _draft.AddRange([0x0F, 0x3A]);
                break;
            default:
                break;
        }

        if (op.OpCodeLength == 2)
        {
            _draft.Add((byte)(op.OpCode >> 8));
        }

        bool inOpcode = false;
        for (int i = 0; i < op.OpCount; i++)
        {
            inOpcode |= op.GetOpKind(i) is OpCodeOperandKind.r8_opcode or OpCodeOperandKind.r16_opcode or OpCodeOperandKind.r32_opcode
                or OpCodeOperandKind.r64_opcode or OpCodeOperandKind.sti_opcode;
        }

        _draft.Add((byte)(op.OpCode | (inOpcode ? (uint)(bits >> 8) & 7 : 0)));
    }

    private void DraftVex(OpCodeInfo op, int bitness, ulong bits)
    {
        byte map = op.Table switch { OpCodeTableKind.T0F38 => 2, OpCodeTableKind.T0F3A => 3, _ => 1 };
        byte pp = op.MandatoryPrefix switch { MandatoryPrefix.P66 => 1, MandatoryPrefix.PF3 => 2, MandatoryPrefix.PF2 => 3, _ => 0 };
        byte registers = bitness == 64 && (bits & 8) != 0 ? (byte)(bits & 0xE0) : (byte)0xE0;
        byte third = (byte)((op.W != 0 ? 0x80 : 0) | (op.L != 0 ? 4 : 0) | pp);
        third |= (bits & 0x10) != 0 ? (byte)0x78 : (byte)((bits >> 8) & 0x38 | 0x40);
        _draft.AddRange([0xC4, (byte)(registers | map), third, (byte)op.OpCode]);
    }

    private sealed class Reader : CodeReader
    {
        private List<byte> _bytes = [];
        private int _at;

        public void Start(List<byte> bytes, int at)
        {
            _bytes = bytes;
            _at = at;
        }

        public override int ReadByte() => _at < _bytes.Count ? _bytes[_at++] : -1;
    }

    private sealed class Writer : CodeWriter
    {
        private readonly byte[] _bytes = new byte[32];

        public int Count { get; set; }

        public ReadOnlySpan<byte> Written => _bytes.AsSpan(0, Count);

        public override void WriteByte(byte value)
        {
            if (Count < _bytes.Length)
            {
                _bytes[Count++] = value;
            }
        }
    }
}

/// <summary>Kinds of instructions to choose from, for each mode.</summary>
internal static class InstructionChoices
{
    private static readonly ImmutableArray<Code> Encodable = [.. Enum.GetValues<Code>().Where(static c => IsEncodable(c.ToOpCode()))];

    private static readonly ImmutableArray<ImmutableArray<Code>> All = [Of(16, false), Of(32, false), Of(64, false)];

    private static readonly ImmutableArray<ImmutableArray<Code>> Exiting = [Of(16, true), Of(32, true), Of(64, true)];

    /// <summary>Every kind that exists in a mode, EVEX and vendors' own encodings apart.</summary>
    public static ImmutableArray<Code> Any(FlatMode mode) => All[(int)mode];

    /// <summary>Those that may cause a VM exit, or that only the most privileged level may execute.</summary>
    public static ImmutableArray<Code> Sensitive(FlatMode mode) => Exiting[(int)mode];

    // By mnemonic, loads of segment registers apart, so that one with many forms does not hide the others.
    private static readonly ImmutableArray<ImmutableArray<ImmutableArray<Code>>> Known = [OfEmulator(16), OfEmulator(32), OfEmulator(64)];

    /// <summary>Those that the hypervisor's emulator knows, by mnemonic.</summary>
    public static ImmutableArray<ImmutableArray<Code>> Emulated(FlatMode mode) => Known[(int)mode];

    private static ImmutableArray<ImmutableArray<Code>> OfEmulator(int bitness) =>
    [
        .. EmulatorTable.Default.Mnemonics
            .SelectMany(m => Encodable.Where(c => c.Mnemonic() == m && c.ToOpCode().IsAvailableInMode(bitness)).GroupBy(static c => c.ToOpCode().GetOpKind(0) == OpCodeOperandKind.seg_reg))
            .Select(static codes => codes.ToImmutableArray()),
    ];

    private static bool IsEncodable(OpCodeInfo op) => op.IsInstruction && op.Encoding is EncodingKind.Legacy or EncodingKind.VEX;

    private static ImmutableArray<Code> Of(int bitness, bool sensitive) =>
    [
        .. Encodable.Where(c => c.ToOpCode() is var op && op.IsInstruction && op.IsAvailableInMode(bitness)
            && (!sensitive || op.IntelVmExit || op.IntelMayVmExit || op.IsPrivileged || op.IsInputOutput)),
    ];
}
