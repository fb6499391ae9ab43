using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Iced.Intel;
using VmFuzz.Arch;
using VmFuzz.Cpu.Blocks;
using VmFuzz.Cpu.Fast;
using VmFuzz.Cpu.Microcode;

namespace VmFuzz.Cpu;

// Decoded blocks: look-up, decoding, invalidation.
public sealed unsafe partial class Processor
{
    /// <summary>The most instructions that a block can hold.</summary>
    public const int MaxBlock = 64;

    private const int JumpCacheSize = 4096;
    private const int RowNone = -1;
    private const int RowUndefined = -2;
    private const int RowTooLong = -3;

    private readonly BlockStore _blocks = new();
    private readonly PageCodeReader _reader = new();
    private readonly Decoder[] _decoders = new Decoder[3];
    private readonly int[] _fetchPages = new int[CpuState.TlbSize];
    private readonly Reference[] _decoded = new Reference[MaxBlock];
    private readonly bool[] _needFlags = new bool[MaxBlock];
    private readonly OwnRow _ownRow;
    private readonly byte[] _crossing = new byte[16];
    private Block* _scratch;
    private bool _loopThreading;
    private bool _clearDue;

    /// <summary>
    /// Memory for decoded code, behind which all of it is dropped. Nothing shows it but speed. Unit: MiB, 2 to 96.
    /// </summary>
    public int CodeCacheLimit
    {
        get => _blocks.Limit;
        set => _blocks.Limit = value;
    }

    /// <summary>
    /// Instructions decoded at a time, 1 to <see cref="MaxBlock"/>. Nothing shows it but speed: few suit code that is new
    /// each time and leaves its blocks early.
    /// </summary>
    public int BlockLimit
    {
        get;
        set => field = value is >= 1 and <= MaxBlock ? value : throw new ArgumentOutOfRangeException(nameof(value));
    } = MaxBlock;

    /// <summary>
    /// Dispatches ops in a loop instead of by tail calls. Slower; the results are the same. Decoded blocks are dropped.
    /// </summary>
    public bool LoopThreading
    {
        get => _loopThreading;
        set
        {
            _loopThreading = value;
            DropBlocks();
        }
    }

    /// <summary>Executes every instruction by its reference microcode, without specialised forms. Decoded blocks are dropped.</summary>
    public bool ReferenceOnly
    {
        get => _referenceOnly;
        set
        {
            _referenceOnly = value;
            DropBlocks();
        }
    }

    private bool _referenceOnly;

    /// <summary>Forgets all decoded code. Never visible to the guest.</summary>
    public void DropBlocks()
    {
        foreach (int page in _blocks.Pages())
        {
            Memory.MarkCode(page, PeersHoldCode(page));
        }

        DropRegions();
        _blocks.Clear();
        NativeMemory.Clear(_state->JumpCache, (nuint)(JumpCacheSize * sizeof(JumpEntry)));
        _state->PendingLink = null;
        NextCodeGeneration();
    }

    /// <inheritdoc/>
    public void OnCodePageChanged(int pageIndex) => DropPage(pageIndex);

    private void InitializeBlocks()
    {
        _loopThreading = IsUnoptimized(typeof(Processor).Assembly);
        _decoders[0] = Decoder.Create(16, _reader);
        _decoders[1] = Decoder.Create(32, _reader);
        _decoders[2] = Decoder.Create(64, _reader);
        int bytes = JumpCacheSize * sizeof(JumpEntry);
        _state->JumpCache = NativeMemory.AlignedAlloc((nuint)bytes, 64);
        NativeMemory.Clear(_state->JumpCache, (nuint)bytes);
        _scratch = (Block*)NativeMemory.AlignedAlloc(1024, 64);
    }

    // A JIT that does not optimise would not turn tail calls into jumps.
    private static bool IsUnoptimized(System.Reflection.Assembly assembly)
    {
        foreach (object attribute in assembly.GetCustomAttributes(typeof(DebuggableAttribute), false))
        {
            if (attribute is DebuggableAttribute { IsJITOptimizerDisabled: true })
            {
                return true;
            }
        }

        return false;
    }

    private void DisposeBlocks()
    {
        DropRegions();
        _blocks.Dispose();
        NativeMemory.AlignedFree(_state->JumpCache);
        NativeMemory.AlignedFree(_scratch);
    }

    // Links hold 32 bits of a generation, all ones in a link that was never made. Before a generation comes again, all
    // links are forgotten: by the dispatcher, because ops may be running now; they return to it at their end.
    private void NextGeneration() => _state->Generation = After(_state->Generation);

    private void NextCodeGeneration()
    {
        _state->CodeGeneration = After(_state->CodeGeneration);
        NextGeneration();
        _state->Attention |= AttentionBits.Code;
    }

    private ulong After(ulong generation)
    {
        if (generation + 1 < uint.MaxValue)
        {
            return generation + 1;
        }

        _clearDue = true;
        _state->Attention |= AttentionBits.Code;
        return 1;
    }

    // The mark of a page is one for all processors: all of them drop it together.
    private void DropPage(int page)
    {
        Memory.MarkCode(page, false);
        DropOwnPage(page);
        foreach (Processor peer in _peers)
        {
            peer.DropOwnPage(page);
        }
    }

    private void DropOwnPage(int page)
    {
        _blocks.InvalidatePage(page);
        NextCodeGeneration();
    }

    // A write of at most 32 bytes reaches a page that holds decoded code.
    private void OnCodeWrite(int page, int offset)
    {
        if (_blocks.Overlaps(page, offset, 32) || PeersOverlap(page, offset))
        {
            DropPage(page);
        }
    }

    private void UpdateMode()
    {
        CpuState* s = _state;
        ulong mode = 0;
        if (Code64)
        {
            mode = BlockMode.Code64 | BlockMode.Stack32 | BlockMode.Flat;
        }
        else
        {
            mode |= (s->Cs.Attributes & SegmentAttributes.Db) != 0 ? BlockMode.Code32 : 0;
            mode |= (s->Ss.Attributes & SegmentAttributes.Db) != 0 ? BlockMode.Stack32 : 0;
            mode |= IsFlat(s->Ds) && IsFlat(s->Es) && IsFlat(s->Ss) ? BlockMode.Flat : 0;
            mode |= s->Cs.Limit switch
            {
                uint.MaxValue => 0,
                0xFFFF => BlockMode.Limit64K,
                _ => BlockMode.OddLimit,
            };

            // One RIP under two bases is two places.
            mode |= s->Cs.Base << BlockMode.BaseShift;
        }

        s->Mode = mode | (UserMode ? BlockMode.User : 0);

        static bool IsFlat(in SegmentState segment) => segment.Base == 0 && segment.Limit == uint.MaxValue && segment.IsPlainData;
    }

    /// <summary>Finds or decodes the block at RIP. Null: a fault or stop is noted.</summary>
    private Block* Lookup(bool single)
    {
        CpuState* s = _state;
        ulong rip = s->Gpr[CpuState.RipSlot];
        ulong mode = s->Mode | (single ? BlockMode.Single : 0);
        JumpEntry* entry = JumpSlot(s, rip);
        if (entry->Rip == rip && entry->Mode == mode && entry->Generation == s->Generation)
        {
            return Block.Of(entry->Target);
        }

        ulong linear = rip;
        if ((mode & BlockMode.Code64) == 0)
        {
            if (rip > s->Cs.Limit)
            {
                RaiseFault(GuestFault.Gp());
                return null;
            }

            linear = (uint)(s->Cs.Base + rip);
        }
        else if (!IsCanonical(rip))
        {
            RaiseFault(GuestFault.Gp());
            return null;
        }

        if (!Translate(linear, AccessKind.Fetch, AccessMode.Own, out Mapping mapping))
        {
            return null;
        }

        if (mapping.Host == null)
        {
            Unimplemented($"code fetch from address 0x{mapping.Physical:x}, where there is no memory");
            return null;
        }

        ulong physical = ((ulong)_fetchPages[TlbIndex(linear)] << 12) | (linear & 0xFFF);
        Block* block = _blocks.Find(physical, rip, mode);
        if (block == null)
        {
            block = Build(mapping.Host, physical, linear, rip, mode);
            if (block == null)
            {
                return null;
            }
        }

        if (block->Valid != 0)
        {
            if (s->PendingLink == null)
            {
                // By an indirect branch, or from outside.
                CountEntries(block);
            }

            bool within = (mode & BlockMode.OddLimit) == 0;
            if (within)
            {
                *entry = new JumpEntry { Rip = rip, Mode = mode, Generation = s->Generation, Target = Block.First(block) };
            }
            else if (!single && rip + (ulong)block->Bytes - 1 > s->Cs.Limit)
            {
                return Lookup(single: true);
            }
        }

        return block;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static JumpEntry* JumpSlot(CpuState* s, ulong rip) =>
        (JumpEntry*)s->JumpCache + ((rip ^ (rip >> 12)) & (JumpCacheSize - 1));

    private Block* Build(byte* host, ulong physical, ulong linear, ulong rip, ulong mode)
    {
        if (_blocks.Full)
        {
            DropBlocks();
        }

        Decoder decoder = _decoders[(int)(mode & BlockMode.CodeMask)];
        ulong toPageEnd = 4096 - (linear & 0xFFF);
        ulong toLimit = BytesToLimit(rip, mode);
        int available = (int)Math.Min(toPageEnd, toLimit);
        _reader.Set(host, available);
        decoder.IP = rip;
        int max = (mode & BlockMode.Single) != 0 ? 1 : BlockLimit;
        int count = 0;
        int bytes = 0;
        while (count < max)
        {
            ref Reference reference = ref _decoded[count];
            decoder.Decode(out reference.Instruction);
            if (decoder.LastError == DecoderError.NoMoreBytes)
            {
                if (count != 0)
                {
                    break;
                }

                return toLimit < toPageEnd ? LimitFault() : BuildCrossing(host, (int)toPageEnd, linear, rip, mode, decoder);
            }

            byte* at = host + bytes;
            bytes += reference.Instruction.Length;
            count++;
            if (Classify(ref reference, decoder, at))
            {
                break;
            }
        }

        int size = sizeof(Block) + ((count + 6) * sizeof(Op)) + (count * sizeof(Reference));
        Block* block = (Block*)_blocks.Allocate(size);
        *block = new Block { Physical = physical, Rip = rip, Mode = mode, Count = count, Bytes = bytes, Page = (int)(physical >> 12) };
        Emit(block);
        _blocks.Add(block);
        if (!Memory.IsCode(block->Page))
        {
            Memory.MarkCode(block->Page, true);
            FlushWriteTlb();
        }

        return block;
    }

    // Bytes from RIP to the end of the code segment; RIP lies within.
    private ulong BytesToLimit(ulong rip, ulong mode) =>
        (mode & BlockMode.Code64) != 0 ? ulong.MaxValue : (ulong)_state->Cs.Limit - rip + 1;

    private Block* LimitFault()
    {
        RaiseFault(GuestFault.Gp());
        return null;
    }

    // An instruction that crosses into the next page is decoded each time: it belongs to two pages.
    private Block* BuildCrossing(byte* host, int first, ulong linear, ulong rip, ulong mode, Decoder decoder)
    {
        ulong next = Next(linear, first);
        if (!Translate(next, AccessKind.Fetch, AccessMode.Own, out Mapping second))
        {
            return null;
        }

        if (second.Host == null)
        {
            Unimplemented($"code fetch from address 0x{second.Physical:x}, where there is no memory");
            return null;
        }

        // Fewer than 15 bytes lie before the boundary: with 15 the decoder would have had enough.
        Span<byte> buffer = _crossing;
        new ReadOnlySpan<byte>(host, first).CopyTo(buffer);
        new ReadOnlySpan<byte>(second.Host, 15 - first).CopyTo(buffer[first..]);

        fixed (byte* bytes = _crossing)
        {
            _reader.Set(bytes, (int)Math.Min(15, BytesToLimit(rip, mode)));
            decoder.IP = rip;
            decoder.Decode(out _decoded[0].Instruction);
            if (decoder.LastError == DecoderError.NoMoreBytes)
            {
                return LimitFault();
            }

            Classify(ref _decoded[0], decoder, bytes);
        }

        *_scratch = new Block { Physical = ulong.MaxValue, Rip = rip, Mode = mode | BlockMode.Single, Count = 1, Bytes = _decoded[0].Instruction.Length, Page = -1 };
        Emit(_scratch);
        return _scratch;
    }

    /// <summary>Finds the row of a decoded instruction. True: the block ends after it.</summary>
    private bool Classify(ref Reference reference, Decoder decoder, byte* at)
    {
        ref Instruction instruction = ref reference.Instruction;
        if (instruction.IsInvalid)
        {
            bool passed = instruction.Length == LongestInstruction.Bytes
                && LongestInstruction.IsPassed(decoder, _reader, new ReadOnlySpan<byte>(at, LongestInstruction.Bytes));
            reference.Row = passed ? RowTooLong : RowUndefined;
            return true;
        }

        reference.Row = Instructions.IndexOf(instruction);
        if (reference.Row < 0)
        {
            reference.Row = UnmodelledForms.Stop(instruction.Code, Model) ? RowNone : RowUndefined;
            return true;
        }

        InstructionRow row = Instructions.Rows[reference.Row];
        if ((row.Feature != CpuFeatures.None && !Model.Has(row.Feature))
            || (instruction.HasLockPrefix && !LockRules.Allowed(instruction)))
        {
            reference.Row = RowUndefined;
            return true;
        }

        return EndsBlock(reference);
    }

    private bool EndsBlock(in Reference reference) => reference.Row < 0
        || (Instructions.Rows[reference.Row].Traits & InstructionTraits.EndsBlock) != 0
        || reference.Instruction.FlowControl != FlowControl.Next;

    // A row of this build, whose instructions the specialised handlers know.
    private bool HasOwnRow(in Reference reference) => reference.Row >= 0 && !Instructions.IsReplaced(reference.Row);

    private void Emit(Block* block)
    {
        if (_loopThreading)
        {
            Emit<LoopThreading>(block);
        }
        else
        {
            Emit<TailThreading>(block);
        }
    }

    private void Emit<TThread>(Block* block)
        where TThread : struct, IThreading
    {
        int count = block->Count;
        Op* ops = Block.First(block);
        Op* op = ops;
        *op = default;
        op->Handler = _edges is null ? Ops<TThread>.Head : Ops<TThread>.CountingHead;
        op->Immediate = count;
        op->R0 = EndsBlock(_decoded[count - 1]) ? (byte)1 : (byte)0;
        op->R1 = _edges is null ? (byte)1 : (byte)0; // Plain: a branch does its work itself.
        op++;
        FlagNeeds.Mark(_decoded.AsSpan(0, count), _ownRow, _needFlags);
        int offset = 0;
        bool linked = false;
        for (int i = 0; i < count; i++)
        {
            ref Reference reference = ref _decoded[i];
            *op = default;
            op->Slot = (ushort)(op - ops);
            op->Offset = (ushort)offset;
            op->Length = (byte)reference.Instruction.Length;
            op->Remaining = (byte)(count - i);
            offset += reference.Instruction.Length;
            reference.Specialised = false;
            int extra = 0;
            ref Reference last = ref reference;
            if (i + 2 == count && CanFuse(i) && Forms<TThread>.TryFuse(reference.Instruction, _decoded[i + 1].Instruction, block->Mode, op))
            {
                reference.Specialised = true;
                last = ref _decoded[++i];
                last.Specialised = true;
                offset += last.Instruction.Length;
                extra = 2;
                linked = true;
            }
            else if (CanSpecialise(reference)
                && !((block->Mode & BlockMode.Single) != 0 && IsIndirect(reference.Instruction))
                && Forms<TThread>.TrySelect(reference.Instruction, block->Mode, _needFlags[i], op, out extra))
            {
                reference.Specialised = true;
                linked = reference.Instruction.FlowControl != FlowControl.Next;
            }
            else
            {
                op->Handler = Ops<TThread>.Reference;
            }

            op++;
            for (int link = 0; link < extra; link++)
            {
                op = EmitLink<TThread>(
                    block, ops, op, link == 0 ? block->Rip + (ulong)block->Bytes : last.Instruction.NearBranchTarget & RipMask(block->Mode));
            }
        }

        if (!linked)
        {
            op = EmitLink<TThread>(block, ops, op, block->Rip + (ulong)block->Bytes);
        }

        block->References = (Reference*)op;
        for (int i = 0; i < count; i++)
        {
            block->References[i] = _decoded[i];
        }
    }

    private bool CanSpecialise(in Reference reference) => HasOwnRow(reference) && !_referenceOnly;

    // Its specialised form goes on to the block at its target, without the dispatcher: not alone, as a step must be.
    private static bool IsIndirect(in Instruction instruction) =>
        instruction.FlowControl is FlowControl.IndirectBranch or FlowControl.IndirectCall or FlowControl.Return;

    private bool CanFuse(int index) => CanSpecialise(_decoded[index]) && CanSpecialise(_decoded[index + 1]);

    // A link is two ops: the first jumps, the second holds the target RIP.
    private static Op* EmitLink<TThread>(Block* block, Op* ops, Op* op, ulong target)
        where TThread : struct, IThreading
    {
        target &= SequentialMask(block->Mode);
        op[0] = default;
        op[1] = default;
        op[0].Slot = (ushort)(op - ops);
        op[1].Immediate = (long)target;
        bool samePage = block->Page >= 0 && (block->Rip & ~0xFFFUL) == (target & ~0xFFFUL)
            && (block->Physical & 0xFFF) == (block->Rip & 0xFFF);
        bool never = block->Page < 0 || (block->Mode & (BlockMode.OddLimit | BlockMode.Single)) != 0;
        op[0].Handler = never ? Ops<TThread>.NoLink : samePage ? Ops<TThread>.NearLink : Ops<TThread>.FarLink;
        op[0].Displacement = -1;
        op[0].R0 = samePage ? (byte)1 : (byte)0;
        return op + 2;
    }
}
