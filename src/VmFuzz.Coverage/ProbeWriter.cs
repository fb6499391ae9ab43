using System.Collections.Immutable;
using Mono.Cecil;
using Mono.Cecil.Cil;

namespace VmFuzz.Coverage;

/// <summary>Puts probes into the methods of one module.</summary>
internal sealed class ProbeWriter
{
    private readonly InstrumentOptions _options;
    private readonly FieldReference _map;
    private readonly FieldReference _previous;
    private int _next;

    public ProbeWriter(ModuleDefinition module, InstrumentOptions options)
    {
        _options = options;
        _next = options.FirstProbe;
        AssemblyNameReference? home = null;
        foreach (AssemblyNameReference reference in module.AssemblyReferences)
        {
            home = reference.Name == Home ? reference : home;
        }

        if (home is null)
        {
            home = new AssemblyNameReference(Home, typeof(CoverageProbe).Assembly.GetName().Version);
            module.AssemblyReferences.Add(home);
        }

        var type = new TypeReference(Home, nameof(CoverageProbe), module, home);
        _map = new FieldReference(nameof(CoverageProbe.Map), new PointerType(module.TypeSystem.Byte), type);
        _previous = new FieldReference(nameof(CoverageProbe.Previous), new PointerType(module.TypeSystem.Int32), type);
    }

    /// <summary>Name of the assembly and of the namespace that probes refer to.</summary>
    public const string Home = "VmFuzz.Coverage";

    /// <summary>The probe that the next block gets.</summary>
    public int Next => _next;

    /// <summary>Puts a probe at the start of each block of a method.</summary>
    public ProbeMethod Write(MethodDefinition method)
    {
        MethodBody body = method.Body;
        if (body.CodeSize <= _options.InlineUpTo && !method.NoInlining && !body.HasExceptionHandlers && !Throws(body))
        {
            method.ImplAttributes |= MethodImplAttributes.AggressiveInlining;
        }

        Instruction[] old = [.. body.Instructions];
        var index = new Dictionary<Instruction, int>(old.Length, ReferenceEqualityComparer.Instance);
        for (int i = 0; i < old.Length; i++)
        {
            index.Add(old[i], i);
        }

        bool[] starts = FindStarts(body, old, index);
        if (!_options.AllBlocks && !body.HasExceptionHandlers)
        {
            var graph = FlowGraph.Of(old, starts, index);
            bool[] chosen = ProbeChoice.Choose(graph);
            for (int i = 0; i < chosen.Length; i++)
            {
                starts[graph.First[i]] = chosen[i];
            }
        }

        int first = _next;
        var offsets = ImmutableArray.CreateBuilder<int>();
        var heads = new Instruction?[old.Length];
        var code = new List<Instruction>(old.Length * 2);
        for (int i = 0; i < old.Length; i++)
        {
            if (starts[i])
            {
                if (i >= 2 && old[i - 2].OpCode.Code == Code.Tail)
                {
                    code.Add(Instruction.Create(OpCodes.Ret)); // A tail call keeps its own return right behind it.
                }

                int at = code.Count;
                offsets.Add(old[i].Offset);
                AddProbe(code, _next++);
                heads[i] = code[at];
            }

            Lengthen(old[i]);
            code.Add(old[i]);
        }

        foreach (Instruction instruction in old)
        {
            Redirect(instruction, index, heads);
        }

        // Every boundary that named an instruction names its probe now: a probe before the first instruction of a block
        // lies on the same side of each boundary as that instruction.
        foreach (ExceptionHandler handler in body.ExceptionHandlers)
        {
            handler.TryStart = Head(handler.TryStart, index, heads);
            handler.TryEnd = Head(handler.TryEnd, index, heads);
            handler.HandlerStart = Head(handler.HandlerStart, index, heads);
            handler.HandlerEnd = Head(handler.HandlerEnd, index, heads);
            handler.FilterStart = Head(handler.FilterStart, index, heads);
        }

        body.Instructions.Clear();
        foreach (Instruction instruction in code)
        {
            body.Instructions.Add(instruction);
        }

        return new ProbeMethod(method.MetadataToken.ToUInt32(), method.FullName, first, offsets.ToImmutable());
    }

    // The first instruction, targets, what follows a conditional branch, and starts of handlers and filters. What follows
    // an unconditional jump without being a target is never reached.
    private static bool[] FindStarts(MethodBody body, Instruction[] code, Dictionary<Instruction, int> index)
    {
        var starts = new bool[code.Length];
        starts[0] = true;
        for (int i = 0; i < code.Length; i++)
        {
            switch (code[i].Operand)
            {
                case Instruction target:
                    starts[index[target]] = true;
                    break;
                case Instruction[] targets:
                    foreach (Instruction one in targets)
                    {
                        starts[index[one]] = true;
                    }

                    break;
            }

            if (code[i].OpCode.FlowControl == FlowControl.Cond_Branch && i + 1 < code.Length)
            {
                starts[i + 1] = true;
            }
        }

        foreach (ExceptionHandler handler in body.ExceptionHandlers)
        {
            starts[index[handler.HandlerStart]] = true;
            if (handler.FilterStart is not null)
            {
                starts[index[handler.FilterStart]] = true;
            }
        }

        return starts;
    }

    // A method that throws keeps its own frame in the stack of what it throws.
    private static bool Throws(MethodBody body)
    {
        foreach (Instruction instruction in body.Instructions)
        {
            if (instruction.OpCode.FlowControl == FlowControl.Throw)
            {
                return true;
            }
        }

        return false;
    }

    private static void Lengthen(Instruction instruction) => instruction.OpCode = instruction.OpCode.Code switch
    {
        Code.Br_S => OpCodes.Br,
        Code.Brfalse_S => OpCodes.Brfalse,
        Code.Brtrue_S => OpCodes.Brtrue,
        Code.Beq_S => OpCodes.Beq,
        Code.Bge_S => OpCodes.Bge,
        Code.Bgt_S => OpCodes.Bgt,
        Code.Ble_S => OpCodes.Ble,
        Code.Blt_S => OpCodes.Blt,
        Code.Bne_Un_S => OpCodes.Bne_Un,
        Code.Bge_Un_S => OpCodes.Bge_Un,
        Code.Bgt_Un_S => OpCodes.Bgt_Un,
        Code.Ble_Un_S => OpCodes.Ble_Un,
        Code.Blt_Un_S => OpCodes.Blt_Un,
        Code.Leave_S => OpCodes.Leave,
        _ => instruction.OpCode,
    };

    private static void Redirect(Instruction instruction, Dictionary<Instruction, int> index, Instruction?[] heads)
    {
        if (instruction.Operand is Instruction target)
        {
            instruction.Operand = Head(target, index, heads);
        }
        else if (instruction.Operand is Instruction[] targets)
        {
            for (int i = 0; i < targets.Length; i++)
            {
                targets[i] = Head(targets[i], index, heads)!;
            }
        }
    }

    private static Instruction? Head(Instruction? target, Dictionary<Instruction, int> index, Instruction?[] heads) =>
        target is null ? null : heads[index[target]] ?? target;

    private void AddProbe(List<Instruction> code, int probe)
    {
        code.Add(Instruction.Create(OpCodes.Ldsfld, _map));
        if (_options.Kind == ProbeKind.Pair)
        {
            // Map[PairBase + ((Previous ^ place) & mask)]++; Previous = place >> 1. The mask counts when ranges of
            // different sizes take turns: the place before may be one of a larger range.
            int place = Place(probe, _options.PairBits);
            code.Add(Instruction.Create(OpCodes.Ldsfld, _previous));
            code.Add(Instruction.Create(OpCodes.Ldind_I4));
            code.Add(Instruction.Create(OpCodes.Ldc_I4, place));
            code.Add(Instruction.Create(OpCodes.Xor));
            code.Add(Instruction.Create(OpCodes.Ldc_I4, (1 << _options.PairBits) - 1));
            code.Add(Instruction.Create(OpCodes.And));
            code.Add(Instruction.Create(OpCodes.Conv_U));
            code.Add(Instruction.Create(OpCodes.Add));
            AddCount(code, _options.PairBase);
            code.Add(Instruction.Create(OpCodes.Ldsfld, _previous));
            code.Add(Instruction.Create(OpCodes.Ldc_I4, place >> 1));
            code.Add(Instruction.Create(OpCodes.Stind_I4));
        }
        else
        {
            AddCount(code, probe);
        }
    }

    private static void AddCount(List<Instruction> code, int offset)
    {
        code.Add(Instruction.Create(OpCodes.Ldc_I4, offset));
        code.Add(Instruction.Create(OpCodes.Add));
        code.Add(Instruction.Create(OpCodes.Dup));
        code.Add(Instruction.Create(OpCodes.Ldind_U1));
        code.Add(Instruction.Create(OpCodes.Ldc_I4_1));
        code.Add(Instruction.Create(OpCodes.Add));
        code.Add(Instruction.Create(OpCodes.Stind_I1));
    }

    // A place in the range of pairs: a bijective mix of the probe, cut to size.
    private static int Place(int probe, int bits)
    {
        uint value = (uint)probe;
        value = (value ^ (value >> 16)) * 0x7FEB352D;
        value = (value ^ (value >> 15)) * 0x846CA68B;
        return (int)((value ^ (value >> 16)) & ((1u << bits) - 1));
    }
}
