using System.Reflection.Emit;
using Iced.Intel;
using VmFuzz.Cpu.Blocks;
using FlowControl = Iced.Intel.FlowControl;
using Label = System.Reflection.Emit.Label;

namespace VmFuzz.Cpu.Regions;

/// <summary>
/// Compiles the blocks of a region into one method: guest registers, flags and budget are locals, branches inside are
/// jumps. What it does not know it leaves to the op of the instruction, with everything written back.
/// </summary>
/// <remarks>
/// The results are those of the ops, bit for bit: a block takes its instructions off the budget at its head or is not
/// entered, and an access that misses the look-aside buffer is left to its op before anything of the instruction was done.
/// </remarks>
// SAFETY: the method reads and writes the CpuState it is given at offsets of its fields, guest memory at addresses that come
// from a matching entry of a look-aside buffer and are used at once, and its own map of targets, indexed by 12 bits.
internal sealed unsafe partial class RegionCompiler
{
    private readonly RegionScout _scout;
    private readonly RegionFlow _flow;
    private readonly DynamicMethod _method;
    private readonly ILGenerator _il;
    private readonly Label[] _labels;
    private readonly Label _exit;
    private readonly List<(Label Label, Action Emit)> _deferred = [];
    private byte* _targets;
    private Block* _block;
    private Op* _op;
    private bool _needFlags;
    private bool _specialised; // What its handler knows the code may know: the stack is flat and as wide as the code, links stand behind a branch.
    private KnownFlags _known;

    private RegionCompiler(RegionScout scout, RegionFlow flow)
    {
        _scout = scout;
        _flow = flow;
        _method = new DynamicMethod("Region", typeof(Op*), [typeof(CpuState*), typeof(Op*)], typeof(RegionCompiler).Module, skipVisibility: true)
        {
            InitLocals = false,
        };
        _il = _method.GetILGenerator(8192);
        _exit = _il.DefineLabel();
        _labels = [.. scout.Blocks.Select(_ => _il.DefineLabel())];
        DeclareLocals();
    }

    /// <summary>Compiles the blocks that a scout has collected.</summary>
    public static Region Compile(RegionScout scout, RegionFlow flow) => new RegionCompiler(scout, flow).Run();

    private Region Run()
    {
        Label start = _il.DefineLabel();
        _il.Emit(OpCodes.Br, start);
        for (int i = 0; i < _labels.Length; i++)
        {
            EmitBlock(i);
        }

        // What is rare stands behind what is not; it may bring more of its kind.
        for (int i = 0; i < _deferred.Count; i++)
        {
            _il.MarkLabel(_deferred[i].Label);
            _deferred[i].Emit();
        }

        EmitExit();
        _il.MarkLabel(start);
        List<int> entries = EmitStart();
        return new Region(_method, [.. entries.Select(place => _scout.Blocks[place])], _targets);
    }

    private void EmitBlock(int place)
    {
        _block = _scout.Blocks[place].Block;
        _known = _flow.Before(place);
        _il.MarkLabel(_labels[place]);
        EmitHead(_block->Count, _block->Rip);
        ReadOnlySpan<RegionInstruction> instructions = _flow.Of(place);
        for (int i = 0; i < instructions.Length; i++)
        {
            RegionInstruction its = instructions[i];
            _op = (Op*)its.Op != null ? (Op*)its.Op : _op;
            _needFlags = its.NeedsFlags;
            _specialised = its.Specialised;
            if (!its.Own || !RegionInstructions.TryEmit(this, its.Instruction))
            {
                // The first of a fused pair can be done again: it only compares or counts registers.
                Leave(_op);
                return;
            }

            if (its.Instruction.FlowControl != FlowControl.Next)
            {
                return;
            }
        }

        GoTo(_block->Rip + (ulong)_block->Bytes, _op + 1);
    }

    // The block's instructions off the budget; it is not entered when they do not fit.
    private void EmitHead(int count, ulong rip)
    {
        _il.Emit(OpCodes.Ldloc, _budget);
        Constant(count);
        _il.Emit(OpCodes.Sub);
        _il.Emit(OpCodes.Stloc, _budget);
        _il.Emit(OpCodes.Ldloc, _budget);
        Constant(0);
        _il.Emit(OpCodes.Blt, Defer(() =>
        {
            _il.Emit(OpCodes.Ldloc, _budget);
            Constant(count);
            _il.Emit(OpCodes.Add);
            _il.Emit(OpCodes.Stloc, _budget);
            SetExit(null, rip);
            _il.Emit(OpCodes.Br, _exit);
        }));
    }

    /// <summary>Goes on at an address: inside the region, or by a link op outside.</summary>
    private void GoTo(ulong rip, Op* link)
    {
        if (_scout.TryPlace(rip, out int place) && MayEnter(place))
        {
            _il.Emit(OpCodes.Br, _labels[place]);
        }
        else
        {
            Leave(link);
        }
    }

    /// <summary>The label of an address inside the region, or of the way out by a link op.</summary>
    private Label LabelOf(ulong rip, Op* link) =>
        _scout.TryPlace(rip, out int place) && MayEnter(place) ? _labels[place] : ExitLabel(link);

    private bool MayEnter(int place) => _flow.Before(place) is var wanted && (wanted == KnownFlags.Unknown || wanted == _known);

    /// <summary>Gives control to an op, with everything written back.</summary>
    private void Leave(Op* op)
    {
        SetExit(op, _block->Rip);
        _il.Emit(OpCodes.Br, _exit);
    }

    /// <summary>A place, out of the way, that gives control to an op.</summary>
    private Label ExitLabel(Op* op)
    {
        ulong rip = _block->Rip;
        nint at = (nint)op;
        return Defer(() =>
        {
            SetExit((Op*)at, rip);
            _il.Emit(OpCodes.Br, _exit);
        });
    }

    /// <summary>A place, out of the way, that gives control to the op of the instruction.</summary>
    private Label ExitLabel() => ExitLabel(_op);

    private Label Defer(Action emit)
    {
        Label label = _il.DefineLabel();
        _deferred.Add((label, emit));
        return label;
    }

    private void SetExit(Op* op, ulong rip)
    {
        Constant((long)op);
        _il.Emit(OpCodes.Stloc, _exitOp);
        Constant((long)rip);
        _il.Emit(OpCodes.Stloc, _rip);
    }
}
