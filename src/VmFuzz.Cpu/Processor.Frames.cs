using VmFuzz.Arch;

namespace VmFuzz.Cpu;

/// <summary>Values to be pushed on one stack: all are checked before any is written.</summary>
internal unsafe struct StackFrame
{
    /// <summary>Most values a frame can hold: a call gate's 31 parameters and four words.</summary>
    public const int Capacity = 40;

    private fixed ulong _values[Capacity];

    /// <summary>The stack segment.</summary>
    public SegmentState Segment;

    /// <summary>Stack pointer before the pushes; after <see cref="Processor.PushFrame"/> the one after them.</summary>
    public ulong Pointer;

    /// <summary>Bytes of a value: 2, 4 or 8.</summary>
    public int Size;

    /// <summary>The stack of 64-bit code: no segment checks, all 64 bits of the pointer.</summary>
    public bool Flat;

    /// <summary>Whose accesses the pushes are.</summary>
    public AccessMode Mode;

    /// <summary>Error code of #SS.</summary>
    public uint Error;

    /// <summary>Values so far.</summary>
    public int Count;

    /// <summary>Adds a value.</summary>
    public void Add(ulong value) => _values[Count++] = value;

    /// <summary>A value by its order.</summary>
    public readonly ulong this[int index] => _values[index];

    /// <summary>Width of the stack pointer as a mask.</summary>
    public readonly ulong Mask => Flat ? ulong.MaxValue : (Segment.Attributes & SegmentAttributes.Db) != 0 ? uint.MaxValue : 0xFFFFUL;
}

// Frames on stacks that need not be the current one.
public sealed unsafe partial class Processor
{
    /// <summary>Pushes a frame: every value is checked, then all are written. False: nothing was written.</summary>
    internal bool PushFrame(ref StackFrame frame)
    {
        ulong mask = frame.Mask;
        ulong top = frame.Pointer;
        for (int i = 0; i < frame.Count; i++)
        {
            top = Down(top, frame.Size, mask);
            if (!StackLinear(frame.Segment, frame.Flat, top & mask, frame.Size, frame.Error, out ulong linear)
                || !ProbeLinear(linear, frame.Size, AccessKind.Write, frame.Mode))
            {
                return false;
            }
        }

        top = frame.Pointer;
        for (int i = 0; i < frame.Count; i++)
        {
            top = Down(top, frame.Size, mask);
            StackLinear(frame.Segment, frame.Flat, top & mask, frame.Size, frame.Error, out ulong linear);
            if (!WriteLinear(linear, frame.Size, frame[i], frame.Mode))
            {
                return false;
            }
        }

        frame.Pointer = top;
        return true;

        // The bits above the stack's width stay as they are.
        static ulong Down(ulong top, int size, ulong mask) => (top & ~mask) | ((top - (ulong)size) & mask);
    }

    /// <summary>Linear address of a stack access under the rules of the code that will own the stack.</summary>
    internal bool StackLinear(in SegmentState stack, bool flat, ulong offset, int size, uint error, out ulong linear)
    {
        linear = offset;
        if (flat)
        {
            return (IsCanonical(offset) && IsCanonical(offset + (ulong)(size - 1))) || RaiseFault(GuestFault.Ss(error));
        }

        linear = (uint)(offset + stack.Base);
        ulong last = offset + (ulong)(size - 1);
        bool down = UsesDescriptors && (stack.Attributes & 0xC) == 4;
        bool fits = down
            ? offset > stack.Limit && last <= ((stack.Attributes & SegmentAttributes.Db) != 0 ? uint.MaxValue : 0xFFFFU)
            : last <= stack.Limit;
        return (fits && stack.Usable) || RaiseFault(GuestFault.Ss(error));
    }

    /// <summary>A frame on the current stack.</summary>
    internal StackFrame CurrentFrame(int size) => new()
    {
        Segment = _state->Ss,
        Pointer = _state->Gpr[(int)Gpr.Rsp],
        Size = size,
        Flat = Code64,
        Mode = Cpl != 3 ? AccessMode.Supervisor : AccessMode.Own,
    };
}
