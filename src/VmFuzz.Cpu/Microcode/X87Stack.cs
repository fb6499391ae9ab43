using VmFuzz.Cpu.FloatingPoint;

namespace VmFuzz.Cpu.Microcode;

/// <summary>The x87 register stack with its tags, and the status and control words. Registers count from the top of the stack.</summary>
// SAFETY: the state outlives the microcode of an instruction, and register numbers are cut to three bits.
internal readonly unsafe struct X87Stack(CpuState* state)
{
    /// <summary>Condition code bits of the status word.</summary>
    public const ulong C0 = 1 << 8, C1 = 1 << 9, C2 = 1 << 10, C3 = 1 << 14;

    private const ulong StackFault = 1 << 6;
    private const ulong Summary = (1 << 7) | (1 << 15);
    private const ulong Exceptions = 0x3F;
    private const ulong EmptyTag = 3;
    private const int TopShift = 11;

    // SDM "Precision Control Field"; the reserved encoding is full precision.
    private static ReadOnlySpan<byte> Precisions => [24, 64, 53, 64];

    private int Top => (int)(state->Fsw >> TopShift) & 7;

    /// <summary>The register at a distance from the top.</summary>
    public Extended this[int register]
    {
        get
        {
            ulong* at = state->X87 + (Physical(register) * 2);
            return new Extended(at[0], (ushort)at[1]);
        }
    }

    /// <summary>Whether a register is empty.</summary>
    public bool IsEmpty(int register) => ((state->Ftw >> (Physical(register) * 2)) & 3) == EmptyTag;

    /// <summary>Whether a class of exceptions is masked.</summary>
    public bool IsMasked(FloatExceptions exception) => (state->Fcw & (ulong)exception) != 0;

    /// <summary>Writes a register and its tag.</summary>
    public void Write(int register, Extended value)
    {
        int physical = Physical(register);
        state->X87[physical * 2] = value.Significand;
        state->X87[(physical * 2) + 1] = value.SignExponent;
        SetTag(physical, TagOf(value));
    }

    /// <summary>Writes a number that was rounded to the extended format.</summary>
    public void Write(int register, in FloatNumber value) => Write(register, Extended.Encode(value));

    /// <summary>Marks a register empty.</summary>
    public void Free(int register) => SetTag(Physical(register), EmptyTag);

    /// <summary>Turns the stack: the register at the given distance becomes the top.</summary>
    public void Turn(int distance) => state->Fsw = (state->Fsw & ~(7UL << TopShift)) | ((ulong)Physical(distance) << TopShift);

    /// <summary>Takes the top off the stack.</summary>
    public void Pop()
    {
        Free(0);
        Turn(1);
    }

    /// <summary>Puts a value on the stack, whatever the register held.</summary>
    public void Push(Extended value)
    {
        Turn(-1);
        Write(0, value);
    }

    /// <summary>How an operation rounds, by the control word.</summary>
    /// <param name="controlled">Whether it is one of those that precision control is for.</param>
    public FloatContext Context(bool controlled = false) => new(
        (FloatRounding)((state->Fcw >> 10) & 3), (FloatExceptions)(state->Fcw & Exceptions), controlled ? Precisions[(int)(state->Fcw >> 8) & 3] : FloatContext.FullPrecision);

    /// <summary>Sets condition codes.</summary>
    /// <param name="mask">Which.</param>
    /// <param name="value">Their values.</param>
    public void SetConditions(ulong mask, ulong value) => state->Fsw = (state->Fsw & ~mask) | value;

    /// <summary>Notes the exceptions of an operation, and in C1 which way it rounded.</summary>
    /// <returns>Whether its result goes to a register.</returns>
    public bool Settle(in FloatContext context)
    {
        SetConditions(C1, context.RoundedUp && !context.Stops ? C1 : 0);
        state->Fsw |= (ulong)context.Raised;
        UpdateSummary();
        return !context.Stops;
    }

    /// <summary>Notes a stack fault: a source is empty, or the destination of a load is not.</summary>
    /// <returns>Whether the indefinite value goes to the destination.</returns>
    public bool Fault(bool overflow = false)
    {
        SetConditions(C1, overflow ? C1 : 0);
        state->Fsw |= StackFault | (ulong)FloatExceptions.Invalid;
        UpdateSummary();
        return IsMasked(FloatExceptions.Invalid);
    }

    /// <summary>Whether an exception is pending, which the next waiting instruction reports.</summary>
    public bool Pending => (state->Fsw & Summary) != 0;

    /// <summary>ES and B follow the unmasked exception flags.</summary>
    public void UpdateSummary()
    {
        bool pending = (state->Fsw & ~state->Fcw & Exceptions) != 0;
        state->Fsw = pending ? state->Fsw | Summary : state->Fsw & ~Summary;
    }

    /// <summary>Gives the registers that tags call full the tags of what they hold.</summary>
    /// <param name="tags">A tag word: only whether a register is empty is taken from it.</param>
    public void LoadTags(ulong tags)
    {
        state->Ftw = tags;
        for (int i = 0; i < 8; i++)
        {
            if (!IsEmpty(i))
            {
                SetTag(Physical(i), TagOf(this[i]));
            }
        }
    }

    private int Physical(int register) => (Top + register) & 7;

    private void SetTag(int physical, ulong tag) => state->Ftw = (state->Ftw & ~(3UL << (physical * 2))) | (tag << (physical * 2));

    // SDM "x87 FPU Tag Word": 0 valid, 1 zero, 2 special.
    private static ulong TagOf(Extended value) => (value.SignExponent & 0x7FFF) switch
    {
        0x7FFF => 2,
        0 => value.Significand == 0 ? 1UL : 2,
        _ => value.Significand >> 63 != 0 ? 0UL : 2,
    };
}
