using Iced.Intel;
using VmFuzz.Arch;
using VmFuzz.Cpu.Blocks;

namespace VmFuzz.Cpu;

// Breakpoints of the debug registers (SDM "Debug Registers", "Debug Exceptions"). While one is enabled, translations of
// pages with watched data stay out of the look-aside buffers, and code in pages with a watched instruction runs one by one.
// DEVIATION: what the SDM leaves undefined has one meaning here. The length of an instruction breakpoint does not matter;
// breakpoints of type 2 need CR4.DE.
public sealed unsafe partial class Processor
{
    private const ulong StepDr6 = 1UL << 14;
    private const ulong BreakpointsDr6 = 0xF;

    // In the VMCS layout of pending debug exceptions: one of the conditions in bits 3:0 is enabled.
    private const ulong PendingBreakpoint = 1UL << 12;

    private Breakpoints _breakpoints;

    // Breakpoints that the running instruction has met so far, as in DR6.
    private ulong _hits;

    /// <summary>The enabled breakpoints by type: bit i of a mask is DRi.</summary>
    private readonly record struct Breakpoints(byte Code, byte Write, byte Access, byte Port, ulong Dr7, ulong Dr0, ulong Dr1, ulong Dr2, ulong Dr3)
    {
        /// <summary>Those on data.</summary>
        public int Data => Write | Access;
    }

    /// <summary>Works out what is watched; drops what was cached without looking when that changes.</summary>
    private void UpdateBreakpoints()
    {
        CpuState* s = _state;
        if ((s->Dr7 & 0xFF) == 0 && _breakpoints.Dr7 == 0)
        {
            return;
        }

        Span<byte> types = stackalloc byte[4];
        types.Clear();
        bool enabled = false;
        for (int i = 0; i < 4; i++)
        {
            if (((s->Dr7 >> (i * 2)) & 3) != 0)
            {
                enabled = true;
                types[(int)(s->Dr7 >> (16 + (i * 4))) & 3] |= (byte)(1 << i);
            }
        }

        byte port = (s->Cr4 & Cr4.De) != 0 ? types[2] : (byte)0;
        Breakpoints now = enabled ? new(types[0], types[1], types[3], port, s->Dr7 & 0xFFFF_00FF, s->Dr0, s->Dr1, s->Dr2, s->Dr3) : default;
        if (now != _breakpoints)
        {
            _breakpoints = now;
            LeaveRegions();
            FlushTlb();
            NextCodeGeneration();
        }
    }

    private ulong BreakpointAddress(int index) => (&_state->Dr0)[index];

    // 1, 2, 8 or 4 bytes, by the encoding in DR7.
    private ulong BreakpointLength(int index) => ((_state->Dr7 >> (18 + (index * 4))) & 3) switch
    {
        0 => 1UL,
        1 => 2UL,
        2 => 8UL,
        _ => 4UL,
    };

    private bool InWatchedPage(int mask, ulong linear)
    {
        for (int i = 0; i < 4; i++)
        {
            if ((mask & (1 << i)) != 0 && ((BreakpointAddress(i) ^ linear) & ~0xFFFUL) == 0)
            {
                return true;
            }
        }

        return false;
    }

    private ulong Overlapping(int mask, ulong first, ulong bytes)
    {
        ulong hits = 0;
        for (int i = 0; i < 4; i++)
        {
            ulong length = BreakpointLength(i);
            ulong watched = BreakpointAddress(i) & ~(length - 1);
            if ((mask & (1 << i)) != 0 && (watched - first < bytes || first - watched < length))
            {
                hits |= 1UL << i;
            }
        }

        return hits;
    }

    private ulong LinearRip => Code64 ? Rip : (uint)(_state->Cs.Base + Rip);

    /// <summary>Whether the next instruction must be looked at by itself.</summary>
    private bool AtWatchedCode => _breakpoints.Code != 0 && InWatchedPage(_breakpoints.Code, LinearRip);

    // SDM "Instruction-Breakpoint Exception Condition": a fault, before the instruction is fetched.
    private bool MeetsCodeBreakpoint(out ulong hits)
    {
        hits = 0;
        ulong linear = LinearRip;
        for (int i = 0; i < 4; i++)
        {
            if ((_breakpoints.Code & (1 << i)) != 0 && BreakpointAddress(i) == linear)
            {
                hits |= 1UL << i;
            }
        }

        return hits != 0;
    }

    /// <summary>Whether translations of an address may be kept for an access.</summary>
    private bool MayCache(ulong linear, AccessKind access) =>
        access == AccessKind.Fetch
        || ((_breakpoints.Data == 0 || !InWatchedPage(_breakpoints.Data, linear)) && _watch?.ShowsData(linear) != true);

    // SDM "Data Memory and I/O Breakpoint Exception Conditions": a trap, when the access was made.
    private void NoteAccess(ulong linear, int size, bool write)
    {
        if (_breakpoints.Data != 0)
        {
            _hits |= Overlapping(_breakpoints.Access | (write ? _breakpoints.Write : 0), linear, (ulong)size);
        }

        _watch?.OnAccess(linear, size, write);
    }

    private void NotePort(ushort port, int size)
    {
        if (_breakpoints.Port != 0)
        {
            _hits |= Overlapping(_breakpoints.Port, port, (ulong)size);
        }
    }

    /// <summary>Reads a port for an instruction.</summary>
    internal ulong ReadPort(ushort port, int size)
    {
        NotePort(port, size);
        return Bus.ReadPort(port, size) & MaskOfSize(size);
    }

    /// <summary>Writes a port for an instruction.</summary>
    internal void WritePort(ushort port, int size, ulong value)
    {
        NotePort(port, size);
        Bus.WritePort(port, size, (uint)value);
    }

    // The instruction, the iteration or the delivery is complete: its traps wait for the boundary.
    private void KeepHits()
    {
        if (_hits != 0)
        {
            _state->PendingDebug |= _hits | PendingBreakpoint;
            _state->Attention |= AttentionBits.Events;
            _hits = 0;
        }
    }

    /// <summary>Takes the traps that wait, as in DR6; 0 when none does.</summary>
    private ulong TakeDebugTraps()
    {
        CpuState* s = _state;
        if ((s->PendingDebug & (StepDr6 | TaskDr6 | PendingBreakpoint)) == 0)
        {
            return 0;
        }

        ulong traps = s->PendingDebug & (StepDr6 | TaskDr6 | BreakpointsDr6);
        s->PendingDebug &= ~(StepDr6 | TaskDr6 | BreakpointsDr6 | PendingBreakpoint);
        return traps;
    }

    // SDM "Single-Stepping on Branches". DEVIATION: a conditional branch to the next instruction counts as not taken.
    private bool Steps(in Instruction instruction)
    {
        if (instruction.FlowControl == FlowControl.Interrupt)
        {
            // Delivery of a software interrupt clears TF and takes no trap with it.
            return false;
        }

        if ((_state->DebugCtl & DebugCtl.Btf) == 0)
        {
            return true;
        }

        return instruction.FlowControl switch
        {
            FlowControl.Next => false,
            FlowControl.ConditionalBranch => Rip != (instruction.NextIP & SequentialMask(_state->Mode)),
            _ => true,
        };
    }

    // RF stays until an instruction is complete: all its iterations, and whatever it loads itself.
    private bool ClearsRf(Block* block, ulong switches)
    {
        ref readonly Instruction instruction = ref block->References[0].Instruction;
        bool loads = instruction.Mnemonic is Mnemonic.Iretd or Mnemonic.Iretq || switches != _taskSwitches;
        bool repeats = (instruction.HasRepPrefix || instruction.HasRepnePrefix) && Rip == instruction.IP;
        return !loads && !repeats;
    }
}
