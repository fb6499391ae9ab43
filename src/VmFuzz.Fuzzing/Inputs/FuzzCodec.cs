using System.Collections.Immutable;
using System.Runtime.InteropServices;
using VmFuzz.Arch;
using VmFuzz.Machines;
using VmFuzz.Trace;
using VmFuzz.Vmx;

namespace VmFuzz.Fuzzing;

/// <summary>
/// Inputs as bytes: a MessagePack map from section number to content, sections in ascending order, empty ones absent.
/// </summary>
/// <remarks>
/// Decoding is total: what can be read is read, unknown sections are passed over, and from the first byte that makes
/// no sense the rest is raw material for the target's main section. Encoding a decoded input is stable.
/// </remarks>
public static class FuzzCodec
{
    private const int WordsOfExit = 10;
    private const int SkipDepth = 8;

    private enum Key : ulong
    {
        Target = 0,
        Mode = 1,
        AllCapabilities = 2,
        Registers = 3,
        Code = 4,
        Patches = 5,
        Events = 6,
        Answers = 7,
        Exits = 8,
        Vmcs = 9,
        Capabilities = 10,
    }

    /// <summary>Brings an input into its canonical form and writes it.</summary>
    /// <returns>At most <see cref="FuzzLimits.InputBytes"/> bytes.</returns>
    public static byte[] Encode(FuzzInput input)
    {
        byte[] buffer = new byte[FuzzLimits.InputBytes];
        return buffer.AsSpan(0, Encode(input, buffer)).ToArray();
    }

    /// <summary>Brings an input into its canonical form and writes it.</summary>
    /// <param name="input">The input.</param>
    /// <param name="buffer">At least <see cref="FuzzLimits.InputBytes"/> bytes.</param>
    /// <returns>Bytes written.</returns>
    public static int Encode(FuzzInput input, Span<byte> buffer)
    {
        ArgumentNullException.ThrowIfNull(input);
        ArgumentOutOfRangeException.ThrowIfLessThan(buffer.Length, FuzzLimits.InputBytes, nameof(buffer));
        input.Normalise();
        MsgPackWriter writer = new(buffer[..FuzzLimits.InputBytes]);
        int sections = 1 + (input.Mode != FlatMode.Long64 ? 1 : 0) + (input.AllCapabilities ? 1 : 0);
        foreach (FuzzSectionRow row in FuzzSectionRow.All)
        {
            sections += row.Count(input) != 0 ? 1 : 0;
        }

        writer.WriteMapHeader(sections);
        Pair(ref writer, (ulong)Key.Target, (ulong)input.Target);
        if (input.Mode != FlatMode.Long64)
        {
            Pair(ref writer, (ulong)Key.Mode, (ulong)input.Mode);
        }

        if (input.AllCapabilities)
        {
            Pair(ref writer, (ulong)Key.AllCapabilities, 1);
        }

        WriteStart(ref writer, input);
        WriteOutside(ref writer, input);
        if (input.Exits.Count != 0)
        {
            writer.WriteUInt((ulong)Key.Exits);
            writer.WriteArrayHeader(input.Exits.Count);
            foreach (MadeExit exit in input.Exits)
            {
                WriteExit(ref writer, exit);
            }
        }

        if (input.Vmcs.Count != 0)
        {
            writer.WriteUInt((ulong)Key.Vmcs);
            writer.WriteArrayHeader(2 * input.Vmcs.Count);
            foreach (FieldOverride field in input.Vmcs)
            {
                Pair(ref writer, (ulong)field.Field, field.Value);
            }
        }

        if (input.Capabilities.Count != 0)
        {
            writer.WriteUInt((ulong)Key.Capabilities);
            writer.WriteArrayHeader(2 * input.Capabilities.Count);
            foreach (CapabilityOverride capability in input.Capabilities)
            {
                Pair(ref writer, capability.Msr, capability.Value);
            }
        }

        // The limits leave room for everything at its largest.
        return writer.Failed ? throw new InvalidOperationException("an input within its limits is too long") : writer.Position;
    }

    /// <summary>Reads any bytes as an input.</summary>
    public static FuzzInput Decode(ReadOnlySpan<byte> bytes)
    {
        FuzzInput input = new();
        Decode(bytes, input);
        return input;
    }

    /// <summary>Reads any bytes as an input; of a longer file the first <see cref="FuzzLimits.InputBytes"/>.</summary>
    /// <param name="bytes">The bytes.</param>
    /// <param name="into">Becomes the input, in canonical form.</param>
    /// <param name="only">The target that the input is for, whatever the bytes say; null to believe them.</param>
    public static void Decode(ReadOnlySpan<byte> bytes, FuzzInput into, FuzzTarget? only = null)
    {
        ArgumentNullException.ThrowIfNull(into);
        into.Clear();
        bytes = bytes[..Math.Min(bytes.Length, FuzzLimits.InputBytes)];
        MsgPackReader reader = new(bytes);
        ReadOnlySpan<byte> rest;
        if (reader.TryReadMapHeader(int.MaxValue, out int pairs))
        {
            for (int i = 0; i < pairs && reader.TryReadUInt(out ulong key) && ReadSection(ref reader, key, into); i++)
            {
            }

            rest = bytes[reader.Position..];
        }
        else
        {
            into.Target = bytes.Length == 0 ? FuzzTarget.ExitHandlers : (FuzzTarget)(bytes[0] % 3);
            rest = bytes.Length == 0 ? bytes : bytes[1..];
        }

        into.Target = only ?? into.Target;
        into.Normalise();
        if (rest.Length != 0)
        {
            RawMaterial.Add(into, rest);
            into.Normalise();
        }
    }

    private static void WriteStart(ref MsgPackWriter writer, FuzzInput input)
    {
        if (input.Registers.Count != 0)
        {
            writer.WriteUInt((ulong)Key.Registers);
            WriteRegisters(ref writer, CollectionsMarshal.AsSpan(input.Registers));
        }

        if (input.Code.Count != 0)
        {
            writer.WriteUInt((ulong)Key.Code);
            writer.WriteBin(CollectionsMarshal.AsSpan(input.Code));
        }

        if (input.Patches.Count != 0)
        {
            writer.WriteUInt((ulong)Key.Patches);
            writer.WriteArrayHeader(2 * input.Patches.Count);
            foreach (MemoryPatch patch in input.Patches)
            {
                writer.WriteUInt(patch.Address);
                writer.WriteBin(patch.Bytes.AsSpan());
            }
        }
    }

    private static void WriteOutside(ref MsgPackWriter writer, FuzzInput input)
    {
        if (input.Events.Count != 0)
        {
            writer.WriteUInt((ulong)Key.Events);
            writer.WriteArrayHeader(4 * input.Events.Count);
            foreach (ScheduledEvent e in input.Events)
            {
                Pair(ref writer, e.At, (ulong)e.Point);
                Pair(ref writer, (ulong)e.Kind, e.Value);
            }
        }

        if (input.Answers.Count != 0)
        {
            writer.WriteUInt((ulong)Key.Answers);
            writer.WriteArrayHeader(input.Answers.Count);
            foreach (ulong answer in input.Answers)
            {
                writer.WriteUInt(answer);
            }
        }
    }

    private static void WriteExit(ref MsgPackWriter writer, MadeExit made)
    {
        VmExit exit = made.Exit;
        writer.WriteArrayHeader(WordsOfExit + 2);
        Pair(ref writer, exit.Reason, exit.Qualification);
        Pair(ref writer, exit.GuestLinear, exit.GuestPhysical);
        Pair(ref writer, exit.InterruptionInfo.Value, exit.InterruptionError);
        Pair(ref writer, exit.IdtVectoringInfo.Value, exit.IdtVectoringError);
        Pair(ref writer, exit.InstructionLength, exit.InstructionInfo);
        WriteRegisters(ref writer, made.Registers.AsSpan());
        writer.WriteArrayHeader(2 * made.GuestState.Length);
        foreach (FieldOverride field in made.GuestState)
        {
            Pair(ref writer, (ulong)field.Field, field.Value);
        }
    }

    private static void WriteRegisters(ref MsgPackWriter writer, ReadOnlySpan<RegisterOverride> registers)
    {
        writer.WriteArrayHeader(2 * registers.Length);
        foreach (RegisterOverride register in registers)
        {
            Pair(ref writer, register.Register, register.Value);
        }
    }

    private static void Pair(ref MsgPackWriter writer, ulong first, ulong second)
    {
        writer.WriteUInt(first);
        writer.WriteUInt(second);
    }

    private static bool ReadSection(ref MsgPackReader reader, ulong key, FuzzInput into)
    {
        switch ((Key)key)
        {
            case Key.Target:
                bool target = reader.TryReadUInt(out ulong number);
                into.Target = (FuzzTarget)(number % 3);
                return target;
            case Key.Mode:
                bool mode = reader.TryReadUInt(out number);
                into.Mode = mode ? (FlatMode)(number % 3) : FlatMode.Long64;
                return mode;
            case Key.AllCapabilities:
                bool all = reader.TryReadUInt(out number);
                into.AllCapabilities = (number & 1) != 0;
                return all;
            case Key.Registers:
                into.Registers.Clear();
                return ReadRegisters(ref reader, into.Registers);
            case Key.Code:
                into.Code.Clear();
                bool code = reader.TryReadBin(FuzzLimits.InputBytes, out ReadOnlySpan<byte> bytes);
                into.Code.AddRange(bytes);
                return code;
            case Key.Patches:
                into.Patches.Clear();
                return ReadPatches(ref reader, into.Patches);
            case Key.Events:
                into.Events.Clear();
                return ReadEvents(ref reader, into.Events);
            case Key.Answers:
                into.Answers.Clear();
                return ReadAnswers(ref reader, into.Answers);
            case Key.Exits:
                into.Exits.Clear();
                return ReadExits(ref reader, into.Exits);
            case Key.Vmcs:
                into.Vmcs.Clear();
                return ReadFields(ref reader, into.Vmcs);
            case Key.Capabilities:
                into.Capabilities.Clear();
                return ReadCapabilities(ref reader, into.Capabilities);
            default:
                return reader.TrySkip(SkipDepth);
        }
    }

    private static bool ReadRegisters(ref MsgPackReader reader, List<RegisterOverride> into)
    {
        PairReader pairs = new(ref reader);
        while (pairs.Next(ref reader, out ulong id, out ulong value))
        {
            if (into.Count < FuzzLimits.Items && id <= ushort.MaxValue)
            {
                into.Add(new RegisterOverride((ushort)id, value));
            }
        }

        return pairs.Whole;
    }

    private static bool ReadFields(ref MsgPackReader reader, List<FieldOverride> into)
    {
        PairReader pairs = new(ref reader);
        while (pairs.Next(ref reader, out ulong field, out ulong value))
        {
            if (into.Count < FuzzLimits.Items && field <= ushort.MaxValue)
            {
                into.Add(new FieldOverride((VmcsField)field, value));
            }
        }

        return pairs.Whole;
    }

    private static bool ReadCapabilities(ref MsgPackReader reader, List<CapabilityOverride> into)
    {
        PairReader pairs = new(ref reader);
        while (pairs.Next(ref reader, out ulong msr, out ulong value))
        {
            if (into.Count < FuzzLimits.Items && msr <= ushort.MaxValue)
            {
                into.Add(new CapabilityOverride((uint)msr, value));
            }
        }

        return pairs.Whole;
    }

    private static bool ReadEvents(ref MsgPackReader reader, List<ScheduledEvent> into)
    {
        PairReader pairs = new(ref reader);
        while (pairs.Next(ref reader, out ulong at, out ulong point))
        {
            if (pairs.Next(ref reader, out ulong kind, out ulong value) && into.Count < FuzzLimits.Items
                && point <= byte.MaxValue && kind <= byte.MaxValue)
            {
                into.Add(new ScheduledEvent(at, (InputPoint)point, (InputKind)kind, value));
            }
        }

        return pairs.Whole;
    }

    private static bool ReadAnswers(ref MsgPackReader reader, List<ulong> into)
    {
        if (!reader.TryReadArrayHeader(int.MaxValue, out int count))
        {
            return false;
        }

        for (int i = 0; i < count; i++)
        {
            if (!reader.TryReadUInt(out ulong answer))
            {
                return false;
            }

            if (into.Count < FuzzLimits.Items)
            {
                into.Add(answer);
            }
        }

        return true;
    }

    private static bool ReadPatches(ref MsgPackReader reader, List<MemoryPatch> into)
    {
        if (!reader.TryReadArrayHeader(int.MaxValue, out int count))
        {
            return false;
        }

        for (int i = 0; i + 1 < count; i += 2)
        {
            if (!reader.TryReadUInt(out ulong address) || !reader.TryReadBin(FuzzLimits.InputBytes, out ReadOnlySpan<byte> bytes))
            {
                return false;
            }

            if (into.Count < FuzzLimits.Items)
            {
                into.Add(new MemoryPatch(address, [.. bytes[..Math.Min(bytes.Length, FuzzLimits.PatchBytes)]]));
            }
        }

        return (count & 1) == 0 || reader.TrySkip(SkipDepth);
    }

    private static bool ReadExits(ref MsgPackReader reader, List<MadeExit> into)
    {
        if (!reader.TryReadArrayHeader(int.MaxValue, out int count))
        {
            return false;
        }

        List<RegisterOverride> registers = [];
        List<FieldOverride> fields = [];
        Span<ulong> words = stackalloc ulong[WordsOfExit];
        for (int i = 0; i < count; i++)
        {
            if (!reader.TryReadArrayHeader(int.MaxValue, out int parts))
            {
                return false;
            }

            registers.Clear();
            fields.Clear();
            words.Clear();
            for (int part = 0; part < parts; part++)
            {
                bool read = part switch
                {
                    < WordsOfExit => reader.TryReadUInt(out words[part]),
                    WordsOfExit => ReadRegisters(ref reader, registers),
                    WordsOfExit + 1 => ReadFields(ref reader, fields),
                    _ => reader.TrySkip(SkipDepth),
                };
                if (!read)
                {
                    return false;
                }
            }

            if (into.Count < FuzzLimits.Items)
            {
                VmExit exit = new(
                    (uint)words[0],
                    words[1],
                    words[2],
                    words[3],
                    new InterruptionInfo((uint)words[4]),
                    (uint)words[5],
                    new InterruptionInfo((uint)words[6]),
                    (uint)words[7],
                    (uint)words[8],
                    (uint)words[9]);
                into.Add(new MadeExit(exit, [.. registers], [.. fields]));
            }
        }

        return true;
    }

    /// <summary>An array of numbers, two by two; one that stands alone at the end is passed over.</summary>
    private struct PairReader
    {
        private int _left;

        public PairReader(ref MsgPackReader reader)
        {
            Whole = reader.TryReadArrayHeader(int.MaxValue, out _left);
        }

        /// <summary>Whether everything so far could be read.</summary>
        public bool Whole { get; private set; }

        public bool Next(ref MsgPackReader reader, out ulong first, out ulong second)
        {
            first = 0;
            second = 0;
            if (!Whole || _left < 2)
            {
                if (Whole && _left == 1)
                {
                    _left = 0;
                    Whole = reader.TrySkip(SkipDepth);
                }

                return false;
            }

            _left -= 2;
            Whole = reader.TryReadUInt(out first) && reader.TryReadUInt(out second);
            return Whole;
        }
    }
}
