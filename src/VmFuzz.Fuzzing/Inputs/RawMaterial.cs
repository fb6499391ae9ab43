using System.Collections.Immutable;
using VmFuzz.Arch;
using VmFuzz.Vmx;

namespace VmFuzz.Fuzzing;

/// <summary>
/// Bytes without structure, made into items of the target's main section. Every byte counts and nearby bytes stay
/// nearby, so that fuzzers that know only bytes get on.
/// </summary>
internal static class RawMaterial
{
    private const int Reasons = (int)ExitReason.Wrmsrlist + 1;

    public static void Add(FuzzInput input, ReadOnlySpan<byte> bytes)
    {
        switch (input.Target)
        {
            case FuzzTarget.ExitHandlers:
                AddExits(input, bytes);
                break;
            case FuzzTarget.VmcsEntry:
                AddFields(input, bytes);
                break;
            default:
                AddCode(input, bytes);
                break;
        }
    }

    private static void AddCode(FuzzInput input, ReadOnlySpan<byte> bytes)
    {
        int room = Math.Max(0, FuzzLimits.CodeBytes - input.Code.Count);
        input.Code.AddRange(bytes[..Math.Min(room, bytes.Length)]);
    }

    // Reason, or how an entry fails, then a byte that says which fields follow.
    private static void AddExits(FuzzInput input, ReadOnlySpan<byte> bytes)
    {
        Tap tap = new(bytes);
        while (tap.Any && input.Exits.Count < FuzzLimits.Items)
        {
            uint reason = ReasonOf((byte)tap.Take(1));
            uint shape = (uint)tap.Take(1);
            ulong qualification = (shape & 1) != 0 ? tap.Take(2) : 0;
            qualification |= (shape & 2) != 0 ? tap.Take(4) << 16 : 0;
            uint interruption = (shape & 4) != 0 ? (uint)tap.Take(2) & 0xFFF | InterruptionInfo.ValidBit : 0;
            ulong physical = (shape & 8) != 0 ? tap.Take(4) : 0;
            uint information = (shape & 0x10) != 0 ? (uint)tap.Take(4) : 0;
            uint vectoring = (shape & 0x20) != 0 ? (uint)tap.Take(2) & 0xFFF | InterruptionInfo.ValidBit : 0;
            ImmutableArray<RegisterOverride> registers = [];
            if ((shape & 0x40) != 0)
            {
                registers = [new((ushort)Gpr.Rax, tap.Take(4)), new((ushort)Gpr.Rcx, tap.Take(4)), new((ushort)Gpr.Rdx, tap.Take(4))];
            }

            ImmutableArray<FieldOverride> fields = [];
            if ((shape & 0x80) != 0)
            {
                fields = [GuestField(ref tap)];
            }

            VmExit exit = new(
                reason,
                qualification,
                physical,
                physical,
                new InterruptionInfo(interruption),
                0,
                new InterruptionInfo(vectoring),
                0,
                2,
                information);
            input.Exits.Add(new MadeExit(exit, registers, fields));
        }
    }

    // The last bytes are entry failures.
    private static uint ReasonOf(byte value)
    {
        int failure = value - (byte.MaxValue + 1 - MadeExitPlayer.EntryFailures.Length);
        return failure < 0 ? (uint)(value % Reasons) : VmExit.EntryFailureBit | (uint)MadeExitPlayer.EntryFailures[failure];
    }

    private static FieldOverride GuestField(ref Tap tap)
    {
        VmcsField field = FuzzTables.GuestFields[(int)(tap.Take(1) % (ulong)FuzzTables.GuestFields.Length)];
        return new FieldOverride(field, tap.Take(VmcsFieldInfo.Of(field).Bytes));
    }

    // Field, then how it changes: one bit, a low byte, or the whole value.
    private static void AddFields(FuzzInput input, ReadOnlySpan<byte> bytes)
    {
        Tap tap = new(bytes);
        ImmutableArray<ulong> golden = GoldenValues.Of(input.AllCapabilities);
        while (tap.Any && input.Vmcs.Count < FuzzLimits.Items)
        {
            VmcsFieldInfo info = VmcsFieldInfo.All[(int)(tap.Take(1) % (ulong)VmcsFieldInfo.All.Length)];
            ulong how = tap.Take(1);
            ulong value = golden[info.Index];
            value = (how & 0xC0) switch
            {
                0x00 or 0x40 => value ^ (1UL << (int)(how & 63)),
                0x80 => value ^ tap.Take(1),
                _ => tap.Take(info.Bytes),
            };
            input.Vmcs.Add(new FieldOverride(info.Field, value));
        }
    }

    /// <summary>Little-endian numbers from bytes; zeros behind the end.</summary>
    private ref struct Tap(ReadOnlySpan<byte> bytes)
    {
        private ReadOnlySpan<byte> _left = bytes;

        public readonly bool Any => _left.Length != 0;

        public ulong Take(int count)
        {
            ulong value = 0;
            int there = Math.Min(count, _left.Length);
            for (int i = 0; i < there; i++)
            {
                value |= (ulong)_left[i] << (8 * i);
            }

            _left = _left[there..];
            return value;
        }
    }
}
