using System.Collections.Immutable;
using System.Runtime.InteropServices;
using Iced.Intel;
using VmFuzz.Machines;
using VmFuzz.Replay;

namespace VmFuzz.Fuzzing;

/// <summary>Mutators of guest code. Exit handlers fetch code too, where they emulate.</summary>
internal static class CodeMutators
{
    private const FuzzTargets Targets = FuzzTargets.GuestCode | FuzzTargets.ExitHandlers;

    private static readonly ImmutableArray<byte> Prefixes = [0x66, 0x67, 0xF0, 0xF2, 0xF3, 0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65];

    public static readonly ImmutableArray<Mutator> Rows =
    [
        Row("code.insert", 30, static (ref MutationContext c) => Insert(ref c, InstructionChoices.Any(c.Input.Mode))),
        Row("code.insert-sensitive", 40, static (ref MutationContext c) => Insert(ref c, InstructionChoices.Sensitive(c.Input.Mode))),
        Row("code.replace", 30, static (ref MutationContext c) => Replace(ref c, c.OneIn(2)
            ? InstructionChoices.Any(c.Input.Mode)
            : InstructionChoices.Sensitive(c.Input.Mode))),
        Row("code.delete", 20, Delete),
        Row("code.duplicate", 20, Duplicate),
        Row("code.swap", 10, Swap),
        Row("code.splice", 20, Splice),
        Row("code.register", 25, ChangeRegister),
        Row("code.memory", 25, ChangeMemory),
        Row("code.immediate", 30, ChangeImmediate),
        Row("code.prefix-add", 15, AddPrefix),
        Row("code.prefix-remove", 10, RemovePrefix),
        Row("code.rex", 15, ChangeRex),
        Row("code.raw", 10, InsertRaw),
        Row("code.bit", 15, FlipBit),
        new("code.mode", Targets, 3, FuzzSections.Setup, ChangeMode),
    ];

    private static Mutator Row(string id, int weight, MutatorApply apply) => new(id, Targets, weight, FuzzSections.Code, apply);

    // A boundary of an instruction, the end of the code included.
    internal static int Boundary(ref MutationContext c)
    {
        List<byte> code = c.Input.Code;
        int target = c.Pick(code.Count + 1);
        if (target == code.Count)
        {
            return target;
        }

        c.Forge.Find(code, target, c.Input.Mode, out int at, out _);
        return at;
    }

    private static int Any(ref MutationContext c, out int at, out Instruction instruction) =>
        c.Forge.Find(c.Input.Code, c.Pick(c.Input.Code.Count), c.Input.Mode, out at, out instruction);

    private static MutationResult Insert(ref MutationContext c, ImmutableArray<Code> choices)
    {
        int at = Boundary(ref c);
        ReadOnlySpan<byte> made = c.Forge.Invent(c.Pick(choices), c.Input.Mode, c.Random);
        c.Input.Code.InsertRange(at, made);
        return made.Length == 0 ? MutationResult.Skipped : MutationResult.Mutated;
    }

    private static MutationResult Replace(ref MutationContext c, ImmutableArray<Code> choices)
    {
        if (c.Input.Code.Count == 0)
        {
            return MutationResult.Skipped;
        }

        int length = Any(ref c, out int at, out _);
        ReadOnlySpan<byte> made = c.Forge.Invent(c.Pick(choices), c.Input.Mode, c.Random);
        return made.Length == 0 ? MutationResult.Skipped : Put(ref c, at, length, made);
    }

    private static MutationResult Delete(ref MutationContext c)
    {
        List<byte> code = c.Input.Code;
        if (code.Count == 0)
        {
            return MutationResult.Skipped;
        }

        Any(ref c, out int at, out _);
        for (int left = 1 + c.Pick(4); left > 0 && at < code.Count; left--)
        {
            code.RemoveRange(at, Math.Min(c.Forge.Decode(code, at, c.Input.Mode, out _), code.Count - at));
        }

        return MutationResult.Mutated;
    }

    private static MutationResult Duplicate(ref MutationContext c)
    {
        List<byte> code = c.Input.Code;
        if (code.Count == 0)
        {
            return MutationResult.Skipped;
        }

        int length = Run(ref c, code, c.Input.Mode, 1 + c.Pick(4), out int at);
        List<byte> copy = code.GetRange(at, length);
        code.InsertRange(Boundary(ref c), copy);
        return MutationResult.Mutated;
    }

    private static MutationResult Swap(ref MutationContext c)
    {
        List<byte> code = c.Input.Code;
        if (code.Count < 2)
        {
            return MutationResult.Skipped;
        }

        int length = Any(ref c, out int at, out _);
        int next = at + length;
        if (next >= code.Count)
        {
            return MutationResult.Skipped;
        }

        int second = Math.Min(c.Forge.Decode(code, next, c.Input.Mode, out _), code.Count - next);
        CollectionsMarshal.AsSpan(code).Slice(at, length).Reverse();
        CollectionsMarshal.AsSpan(code).Slice(next, second).Reverse();
        CollectionsMarshal.AsSpan(code).Slice(at, length + second).Reverse();
        return MutationResult.Mutated;
    }

    private static MutationResult Splice(ref MutationContext c)
    {
        List<byte> other = c.Other.Code;
        if (other.Count == 0)
        {
            return MutationResult.Skipped;
        }

        int length = Run(ref c, other, c.Other.Mode, 1 + c.Pick(16), out int at);
        List<byte> copy = other.GetRange(at, length);
        int place = Boundary(ref c);
        if (c.OneIn(2))
        {
            c.Input.Code.RemoveRange(place, Math.Min(length, c.Input.Code.Count - place));
        }

        c.Input.Code.InsertRange(place, copy);
        return MutationResult.Mutated;
    }

    // Some instructions in a row.
    private static int Run(ref MutationContext c, List<byte> code, FlatMode mode, int count, out int at)
    {
        c.Forge.Find(code, c.Pick(code.Count), mode, out at, out _);
        int end = at;
        for (; count > 0 && end < code.Count; count--)
        {
            end = Math.Min(code.Count, end + c.Forge.Decode(code, end, mode, out _));
        }

        return end - at;
    }

    private static MutationResult ChangeRegister(ref MutationContext c)
    {
        if (c.Input.Code.Count == 0)
        {
            return MutationResult.Skipped;
        }

        int length = Any(ref c, out int at, out Instruction instruction);
        int operand = OperandOf(ref c, instruction, static kind => kind == OpKind.Register);
        if (operand < 0)
        {
            return MutationResult.Skipped;
        }

        Register old = instruction.GetOpRegister(operand);
        int most = old.IsSegmentRegister() ? 6 : c.Input.Mode == FlatMode.Long64 && !old.IsST() && !old.IsMM() ? 16 : 8;
        for (int attempt = 0; attempt < 4; attempt++)
        {
            Instruction changed = instruction;
            changed.SetOpRegister(operand, old.GetBaseRegister() + c.Pick(most));
            ReadOnlySpan<byte> made = c.Forge.Encode(changed, at, c.Input.Mode);
            if (made.Length != 0 && changed.GetOpRegister(operand) != old)
            {
                return Put(ref c, at, length, made);
            }
        }

        return MutationResult.Skipped;
    }

    private static MutationResult ChangeMemory(ref MutationContext c)
    {
        if (c.Input.Code.Count == 0)
        {
            return MutationResult.Skipped;
        }

        int length = Any(ref c, out int at, out Instruction instruction);
        if (OperandOf(ref c, instruction, static kind => kind == OpKind.Memory) < 0)
        {
            return MutationResult.Skipped;
        }

        for (int attempt = 0; attempt < 4; attempt++)
        {
            Instruction changed = instruction;
            ChangeMemory(ref c, ref changed);
            ReadOnlySpan<byte> made = c.Forge.Encode(changed, at, c.Input.Mode);
            if (made.Length != 0)
            {
                return Put(ref c, at, length, made);
            }
        }

        return MutationResult.Skipped;
    }

    private static void ChangeMemory(ref MutationContext c, ref Instruction changed)
    {
        FlatMode mode = c.Input.Mode;
        switch (c.Pick(5))
        {
            case 0:
                changed.MemoryBase = c.OneIn(4) ? Register.None : AddressRegister(ref c, mode, index: false);
                break;
            case 1:
                changed.MemoryIndex = c.OneIn(4) ? Register.None : AddressRegister(ref c, mode, index: true);
                break;
            case 2:
                changed.MemoryIndexScale = 1 << c.Pick(4);
                break;
            case 3:
                changed.SegmentPrefix = c.OneIn(4) ? Register.None : Register.ES + c.Pick(6);
                break;
            default:
                ulong displacement = c.OneIn(2) ? c.Word() : c.Near(changed.MemoryDisplacement64);
                bool small = (ulong)(sbyte)displacement == displacement && changed.MemoryBase != Register.None && !changed.IsIPRelativeMemoryOperand;
                changed.MemoryDisplacement64 = mode == FlatMode.Long64 ? (ulong)(int)displacement : mode == FlatMode.Real16 ? (ushort)displacement : (uint)displacement;
                changed.MemoryDisplSize = small ? 1 : mode == FlatMode.Long64 ? 8 : mode == FlatMode.Real16 ? 2 : 4;
                break;
        }
    }

    private static Register AddressRegister(ref MutationContext c, FlatMode mode, bool index) => mode switch
    {
        FlatMode.Real16 when index => c.OneIn(2) ? Register.SI : Register.DI,
        FlatMode.Real16 => c.OneIn(2) ? Register.BX : Register.BP,
        FlatMode.Protected32 => Register.EAX + c.Pick(8),
        _ => Register.RAX + c.Pick(16),
    };

    private static MutationResult ChangeImmediate(ref MutationContext c)
    {
        if (c.Input.Code.Count == 0)
        {
            return MutationResult.Skipped;
        }

        int length = Any(ref c, out int at, out Instruction instruction);
        int operand = OperandOf(ref c, instruction, IsConstant);
        if (operand < 0)
        {
            return MutationResult.Skipped;
        }

        for (int attempt = 0; attempt < 4; attempt++)
        {
            Instruction changed = instruction;
            ulong word = c.Word();
            switch (changed.GetOpKind(operand))
            {
                case OpKind.NearBranch16:
                case OpKind.NearBranch32:
                case OpKind.NearBranch64:
                    // To an instruction of the code, or a little way off.
                    ulong target = c.OneIn(4) ? (ulong)at + (word & 0xFF) - 0x80 : (ulong)Boundary(ref c);
                    Branch(ref changed, operand, target);
                    break;
                case OpKind.Immediate8:
                    changed.Immediate8 = (byte)word;
                    break;
                case OpKind.Immediate8_2nd:
                    changed.Immediate8_2nd = (byte)word;
                    break;
                case OpKind.Immediate16:
                    changed.Immediate16 = (ushort)word;
                    break;
                case OpKind.Immediate32:
                    changed.Immediate32 = (uint)word;
                    break;
                case OpKind.Immediate64:
                    changed.Immediate64 = word;
                    break;
                case OpKind.Immediate8to16:
                    changed.Immediate8to16 = (sbyte)word;
                    break;
                case OpKind.Immediate8to32:
                    changed.Immediate8to32 = (sbyte)word;
                    break;
                case OpKind.Immediate8to64:
                    changed.Immediate8to64 = (sbyte)word;
                    break;
                default:
                    changed.Immediate32to64 = (int)word;
                    break;
            }

            ReadOnlySpan<byte> made = c.Forge.Encode(changed, at, c.Input.Mode);
            if (made.Length != 0)
            {
                return Put(ref c, at, length, made);
            }
        }

        return MutationResult.Skipped;
    }

    private static bool IsConstant(OpKind kind) => kind is OpKind.NearBranch16 or OpKind.NearBranch32 or OpKind.NearBranch64
        or OpKind.Immediate8 or OpKind.Immediate8_2nd or OpKind.Immediate16 or OpKind.Immediate32 or OpKind.Immediate64
        or OpKind.Immediate8to16 or OpKind.Immediate8to32 or OpKind.Immediate8to64 or OpKind.Immediate32to64;

    private static void Branch(ref Instruction instruction, int operand, ulong target)
    {
        switch (instruction.GetOpKind(operand))
        {
            case OpKind.NearBranch16:
                instruction.NearBranch16 = (ushort)target;
                break;
            case OpKind.NearBranch32:
                instruction.NearBranch32 = (uint)target;
                break;
            default:
                instruction.NearBranch64 = target;
                break;
        }
    }

    private static MutationResult AddPrefix(ref MutationContext c)
    {
        c.Input.Code.Insert(c.Input.Code.Count == 0 ? 0 : Boundary(ref c), c.Pick(Prefixes));
        return MutationResult.Mutated;
    }

    private static MutationResult RemovePrefix(ref MutationContext c)
    {
        List<byte> code = c.Input.Code;
        if (code.Count == 0)
        {
            return MutationResult.Skipped;
        }

        // From a random place on, the first instruction with a prefix.
        Any(ref c, out int at, out _);
        while (at < code.Count)
        {
            bool rex = c.Input.Mode == FlatMode.Long64 && (code[at] & 0xF0) == 0x40;
            if (rex || Prefixes.Contains(code[at]))
            {
                code.RemoveAt(at);
                return MutationResult.Mutated;
            }

            at += c.Forge.Decode(code, at, c.Input.Mode, out _);
        }

        return MutationResult.Skipped;
    }

    private static MutationResult ChangeRex(ref MutationContext c)
    {
        List<byte> code = c.Input.Code;
        if (code.Count == 0 || c.Input.Mode != FlatMode.Long64)
        {
            return MutationResult.Skipped;
        }

        int length = Any(ref c, out int at, out _);
        for (int i = at; i < at + length; i++)
        {
            if ((code[i] & 0xF0) == 0x40)
            {
                code[i] ^= (byte)(1 << c.Pick(4));
                return MutationResult.Mutated;
            }

            if (!Prefixes.Contains(code[i]))
            {
                code.Insert(i, (byte)(0x40 | c.Pick(16)));
                return MutationResult.Mutated;
            }
        }

        return MutationResult.Skipped;
    }

    private static MutationResult InsertRaw(ref MutationContext c)
    {
        Span<byte> raw = stackalloc byte[1 + c.Pick(16)];
        SplitMix random = c.Random;
        foreach (ref byte value in raw)
        {
            value = (byte)random.Next();
        }

        int at = Boundary(ref c);
        c.Input.Code.InsertRange(at, raw);
        return MutationResult.Mutated;
    }

    private static MutationResult FlipBit(ref MutationContext c)
    {
        if (c.Input.Code.Count == 0)
        {
            return MutationResult.Skipped;
        }

        c.Input.Code[c.Pick(c.Input.Code.Count)] ^= (byte)(1 << c.Pick(8));
        return MutationResult.Mutated;
    }

    private static MutationResult ChangeMode(ref MutationContext c)
    {
        c.Input.Mode = (FlatMode)(((int)c.Input.Mode + 1 + c.Pick(2)) % 3);
        return MutationResult.Mutated;
    }

    private static MutationResult Put(ref MutationContext c, int at, int length, scoped ReadOnlySpan<byte> made)
    {
        List<byte> code = c.Input.Code;
        code.RemoveRange(at, Math.Min(length, code.Count - at));
        code.InsertRange(at, made);
        return MutationResult.Mutated;
    }

    private static int OperandOf(ref MutationContext c, in Instruction instruction, Func<OpKind, bool> wanted)
    {
        int count = instruction.IsInvalid ? 0 : instruction.OpCount;
        int start = c.Pick(count);
        for (int i = 0; i < count; i++)
        {
            int operand = (start + i) % count;
            if (wanted(instruction.GetOpKind(operand)))
            {
                return operand;
            }
        }

        return -1;
    }
}
