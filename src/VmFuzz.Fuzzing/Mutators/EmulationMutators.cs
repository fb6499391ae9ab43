using System.Collections.Immutable;
using Iced.Intel;
using VmFuzz.Arch;
using VmFuzz.Machines;
using VmFuzz.Vmx;

namespace VmFuzz.Fuzzing;

/// <summary>Mutators that bring the emulator of the hypervisor to work: instructions that it knows, on devices or behind an exit.</summary>
internal static class EmulationMutators
{
    private const int Attempts = 8;
    private const int LongestInstruction = 15;

    // The first address behind the memory of the fuzzer's machines; near enough for a displacement in 64-bit code.
    private const ulong Devices = FuzzLayout.MemorySize;

    // Null ones by level, those of the descriptor table, of a local table, beyond the end.
    private static readonly ImmutableArray<ulong> Selectors =
        [0, 1, 2, 3, 0, 3, 0, 3, 8, 0x10, FuzzLayout.UserCode, FuzzLayout.UserData, 0x13, 0x28, 0x2B, 4, 0x40, 0xFFF8];

    private static readonly ImmutableArray<ulong> CodeSelectors = [8, 8, FuzzLayout.UserCode, 0x10];

    // On both sides of where addresses stop being canonical.
    private static readonly ImmutableArray<ulong> Edges = [0x7FFF_FFFF_FFFF, 0x8000_0000_0000, 0xFFFF_7FFF_FFFF_FFFF, 0xFFFF_8000_0000_0000, 1UL << 63];

    public static readonly ImmutableArray<Mutator> Rows =
    [
        new("exits.emulate", FuzzTargets.ExitHandlers, 120, FuzzSections.Exits | FuzzSections.Code | FuzzSections.Patches, Emulate),
        new("code.device", FuzzTargets.GuestCode, 40, FuzzSections.Code, InsertDeviceAccess),
        new("patches.frame", FuzzTargets.GuestCode | FuzzTargets.ExitHandlers, 15, FuzzSections.Patches, static (ref MutationContext c) => AddFrame(ref c, 2 << c.Pick(3))),
    ];

    // An instruction behind the code, operands that suit it, and an exit that has the hypervisor execute it.
    private static MutationResult Emulate(ref MutationContext c)
    {
        FuzzInput input = c.Input;
        int at = input.Code.Count;
        ReadOnlySpan<byte> made = Invent(ref c);
        if (made.Length == 0 || input.Exits.Count >= FuzzLimits.Items || at + LongestInstruction > FuzzLimits.CodeBytes)
        {
            return MutationResult.Skipped;
        }

        input.Code.AddRange(made);
        c.Forge.Decode(input.Code, at, input.Mode, out Instruction instruction);
        ulong start = input.Mode == FlatMode.Real16 ? FuzzLayout.Code & 0xFFFF : FuzzLayout.Code;
        var fields = ImmutableArray.CreateBuilder<FieldOverride>();
        switch (c.Pick(6))
        {
            case 0 or 1:
                fields.AddRange(GuestStates.User(input.Mode).Fields);
                break;
            case 2:
                fields.AddRange(c.Pick(GuestStates.All).Fields);
                break;
        }

        fields.Add(new FieldOverride(VmcsField.GuestRip, start + (ulong)at));
        if (IsFar(instruction))
        {
            AddFrame(ref c, instruction.Code.ToOpCode().OperandSize is > 0 and int size ? size / 8 : InstructionForge.Bitness(input.Mode) / 8);
            fields.Add(new FieldOverride(VmcsField.GuestRsp, FuzzLayout.Stack));
        }

        VmExit exit = new((uint)ExitReason.EptMisconfiguration, GuestPhysical: Devices + (ulong)c.Pick(0x1000));
        input.Exits.Insert(c.Pick(input.Exits.Count + 1), new MadeExit(exit, Operands(ref c, instruction), fields.ToImmutable()));
        return MutationResult.Mutated;
    }

    // Transfers that take offset and selector from memory.
    private static bool IsFar(in Instruction instruction) =>
        instruction.FlowControl is FlowControl.Return or FlowControl.IndirectBranch or FlowControl.IndirectCall;

    private static ImmutableArray<RegisterOverride> Operands(ref MutationContext c, in Instruction instruction)
    {
        var registers = ImmutableArray.CreateBuilder<RegisterOverride>();
        bool selector = instruction.Op0Kind == OpKind.Register && instruction.Op0Register.IsSegmentRegister();
        for (int i = 0; i < instruction.OpCount; i++)
        {
            if (instruction.GetOpKind(i) == OpKind.Register)
            {
                Set(registers, instruction.GetOpRegister(i), selector ? c.Pick(Selectors) : Operand(ref c));
            }
        }

        Set(registers, instruction.MemoryBase, IsFar(instruction) ? FuzzLayout.Stack - instruction.MemoryDisplacement64 : Operand(ref c));
        return registers.ToImmutable();
    }

    // RSP is where the stack is.
    private static void Set(ImmutableArray<RegisterOverride>.Builder registers, Register register, ulong value)
    {
        if (register.IsGPR() && register.GetFullRegister() is not Register.RSP and Register full)
        {
            registers.Add(new RegisterOverride((ushort)(full - Register.RAX), value));
        }
    }

    // An address in memory or of a device, a selector, or any word.
    private static ulong Operand(ref MutationContext c) => c.Pick(4) switch
    {
        0 => c.Pick(Selectors),
        1 => FuzzLayout.Stack + (8 * (ulong)c.Pick(16)),
        2 => Devices + (ulong)c.Pick(0x1000),
        _ => c.Word(),
    };

    private static ReadOnlySpan<byte> Invent(ref MutationContext c)
    {
        ImmutableArray<ImmutableArray<Code>> known = InstructionChoices.Emulated(c.Input.Mode);
        return c.Forge.Invent(c.OneIn(8) ? c.Pick(InstructionChoices.Any(c.Input.Mode)) : c.Pick(c.Pick(known)), c.Input.Mode, c.Random);
    }

    // In real mode all addresses are memory.
    private static MutationResult InsertDeviceAccess(ref MutationContext c)
    {
        FlatMode mode = c.Input.Mode;
        for (int attempt = 0; mode != FlatMode.Real16 && attempt < Attempts; attempt++)
        {
            c.Forge.Decode([.. Invent(ref c)], 0, mode, out Instruction instruction);
            if (instruction.IsInvalid || (instruction.Op0Kind != OpKind.Memory && instruction.Op1Kind != OpKind.Memory))
            {
                continue;
            }

            instruction.MemoryBase = Register.None;
            instruction.MemoryIndex = Register.None;
            instruction.MemoryIndexScale = 1;
            instruction.MemoryDisplacement64 = Devices + (ulong)c.Pick(0x2000);
            instruction.MemoryDisplSize = mode == FlatMode.Long64 ? 8 : 4;
            int at = CodeMutators.Boundary(ref c);
            ReadOnlySpan<byte> made = c.Forge.Encode(instruction, at, mode);
            if (made.Length != 0)
            {
                c.Input.Code.InsertRange(at, made);
                return MutationResult.Mutated;
            }
        }

        return MutationResult.Skipped;
    }

    // What a far return, an IRET or a far jump through memory takes, in place of the one before: offset, selector, flags, stack.
    private static MutationResult AddFrame(ref MutationContext c, int width)
    {
        List<MemoryPatch> patches = c.Input.Patches;
        patches.RemoveAll(static p => p.Address == FuzzLayout.Stack);
        if (patches.Count >= FuzzLimits.Items)
        {
            return MutationResult.Skipped;
        }

        ulong offset = c.Pick(3) switch
        {
            0 => FuzzLayout.Code + (ulong)c.Pick(64),
            1 => c.Pick(Edges),
            _ => c.Word(),
        };
        ulong code = c.OneIn(2) ? c.Pick(CodeSelectors) : c.Pick(Selectors);
        ReadOnlySpan<ulong> frame = [offset, code, RFlags.Reserved1 | (c.Word() & 0x7FD5), FuzzLayout.Stack, c.Pick(Selectors)];
        var bytes = ImmutableArray.CreateBuilder<byte>();
        foreach (ulong word in frame)
        {
            for (int i = 0; i < width; i++)
            {
                bytes.Add((byte)(word >> (8 * i)));
            }
        }

        patches.Add(new MemoryPatch(FuzzLayout.Stack, bytes.ToImmutable()));
        return MutationResult.Mutated;
    }
}
