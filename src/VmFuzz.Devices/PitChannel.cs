namespace VmFuzz.Devices;

/// <summary>
/// One counter of the 8254 as a function of time (Intel 8254 data sheet, "Mode Definitions"). Time is the number of
/// the oscillator's tick; a count is loaded on the tick after the write. All storage is fields of <see cref="Pit8254"/>.
/// </summary>
internal sealed class PitChannel
{
    // Fields, not properties: the state map refers to them.
    public byte Mode;
    public byte Access;
    public bool Bcd;
    public bool Loaded;
    public ushort Initial;
    public ushort Next;
    public bool NextPending;
    public bool Gate;
    public bool Paused;
    public bool Triggered;
    public ulong Start;
    public ulong Frozen;
    public byte WriteLow;
    public bool WriteHighNext;
    public bool ReadHighNext;
    public ushort Latch;
    public byte LatchedBytes;
    public byte Status;
    public bool StatusLatched;

    private bool Periodic => Mode is 2 or 3;

    /// <summary>Ticks of one round; a count of 0 is the largest. DEVIATION: the illegal count 1 of modes 2 and 3 is taken as 2.</summary>
    private ulong Length
    {
        get
        {
            ulong length = Bcd ? FromBcd(Initial) : Initial;
            if (length == 0)
            {
                length = Modulus;
            }

            return Periodic && length < 2 ? 2 : length;
        }
    }

    private ulong Modulus => Bcd ? 10000u : 65536u;

    public void Reset(bool gate)
    {
        Mode = 0;
        Access = 3;
        Bcd = false;
        Initial = 0;
        Next = 0;
        Gate = gate;
        Start = 0;
        Frozen = 0;
        WriteLow = 0;
        Latch = 0;
        Status = 0;
        Forget();
    }

    public void WriteControl(byte control)
    {
        Access = (byte)((control >> 4) & 3);
        int mode = (control >> 1) & 7;
        Mode = (byte)(mode > 5 ? mode & 3 : mode);
        Bcd = (control & 1) != 0;
        Forget();
    }

    public void LatchCount(ulong tick)
    {
        if (LatchedBytes == 0)
        {
            Latch = Count(tick);
            LatchedBytes = (byte)(Access == 3 ? 2 : 1);
        }
    }

    public void LatchStatus(ulong tick)
    {
        if (!StatusLatched)
        {
            bool notYet = !Loaded || NextPending || tick < Start;
            Status = (byte)((Output(tick) ? 0x80 : 0) | (notYet ? 0x40 : 0) | (Access << 4) | (Mode << 1) | (Bcd ? 1 : 0));
            StatusLatched = true;
        }
    }

    public byte Read(ulong tick)
    {
        if (StatusLatched)
        {
            StatusLatched = false;
            return Status;
        }

        if (LatchedBytes == 2)
        {
            LatchedBytes = 1;
            return (byte)Latch;
        }

        if (LatchedBytes == 1)
        {
            LatchedBytes = 0;
            return (byte)(Access == 1 ? Latch : Latch >> 8);
        }

        ushort count = Count(tick);
        bool high = Access == 2 || (Access == 3 && ReadHighNext);
        ReadHighNext = Access == 3 && !ReadHighNext;
        return (byte)(high ? count >> 8 : count);
    }

    /// <summary>Writes one byte of the count; with the last one the count is complete.</summary>
    public void Write(byte value, ulong tick)
    {
        if (Access == 3 && !WriteHighNext)
        {
            WriteLow = value;
            WriteHighNext = true;
            Loaded &= Mode != 0; // The first byte stops a counter in mode 0.
            return;
        }

        WriteHighNext = false;
        ushort count = Access switch
        {
            1 => value,
            2 => (ushort)(value << 8),
            _ => (ushort)(WriteLow | (value << 8)),
        };

        bool running = Loaded && (Periodic || (Mode is 1 or 5 && Triggered));
        if (running)
        {
            Settle(tick);
            Next = count;
            NextPending = true;
            return;
        }

        Initial = count;
        NextPending = false;
        Loaded = true;
        Start = tick + 1;
        Frozen = 0;
        Paused = Mode is 0 or 4 && !Gate;
    }

    public void SetGate(bool level, ulong tick)
    {
        if (level == Gate)
        {
            return;
        }

        Settle(tick);
        ulong elapsed = Elapsed(tick);
        Gate = level;
        if (!level)
        {
            Paused = Mode is 0 or 4;
            Frozen = elapsed;
            return;
        }

        if (Mode is 0 or 4)
        {
            Start = tick >= Frozen ? tick - Frozen : 0;
        }
        else
        {
            if (NextPending)
            {
                Initial = Next;
                NextPending = false;
            }

            Start = tick + 1;
            Triggered = Loaded && !Periodic;
        }

        Paused = false;
    }

    /// <summary>
    /// Takes over a count that was written during a round that is over. DEVIATION: in mode 3 a new count waits for the
    /// end of the whole round, not of the half.
    /// </summary>
    public void Settle(ulong tick)
    {
        if (!Loaded || !Periodic || !Gate)
        {
            return;
        }

        ulong length = Length;
        ulong rounds = Elapsed(tick) / length;
        if (rounds == 0)
        {
            return;
        }

        Start += (NextPending ? 1 : rounds) * length;
        if (NextPending)
        {
            Initial = Next;
            NextPending = false;
            length = Length;
            Start += Elapsed(tick) / length * length;
        }
    }

    public bool Output(ulong tick)
    {
        if (!Loaded)
        {
            return Mode != 0;
        }

        ulong elapsed = Elapsed(tick);
        ulong length = Length;
        return Mode switch
        {
            0 => elapsed >= length,
            1 => !Triggered || tick < Start || elapsed >= length,
            2 => !Gate || elapsed % length != length - 1,
            3 => !Gate || elapsed % length < (length + 1) / 2,
            4 => elapsed != length,
            _ => !Triggered || elapsed != length,
        };
    }

    /// <summary>
    /// The first tick after <paramref name="tick"/> at which the output rises, or in mode 3 changes;
    /// <see cref="ulong.MaxValue"/> for never. Assumes that finished rounds are settled.
    /// </summary>
    public ulong NextChange(ulong tick)
    {
        if (!Loaded || Paused)
        {
            return ulong.MaxValue;
        }

        ulong length = Length;
        ulong elapsed = Elapsed(tick);
        ulong round = Start + (elapsed / length * length);
        ulong change = Mode switch
        {
            0 or 1 => Start + length,
            2 => round + length,
            3 => elapsed % length < (length + 1) / 2 ? round + ((length + 1) / 2) : round + length,
            _ => Start + length + 1,
        };

        bool never = (Periodic && !Gate) || (Mode is 1 or 5 && !Triggered) || change <= tick;
        return never ? ulong.MaxValue : change;
    }

    private static uint FromBcd(uint value) =>
        (((value >> 12) & 15) * 1000) + (((value >> 8) & 15) * 100) + (((value >> 4) & 15) * 10) + (value & 15);

    private static ushort ToBcd(ulong value)
    {
        ulong v = value % 10000;
        return (ushort)((v / 1000 << 12) | (v / 100 % 10 << 8) | (v / 10 % 10 << 4) | (v % 10));
    }

    private void Forget()
    {
        Loaded = false;
        NextPending = false;
        Paused = false;
        Triggered = false;
        WriteHighNext = false;
        ReadHighNext = false;
        LatchedBytes = 0;
        StatusLatched = false;
    }

    private ulong Elapsed(ulong tick) => Paused ? Frozen : tick <= Start ? 0 : tick - Start;

    private ushort Count(ulong tick)
    {
        if (!Loaded)
        {
            return Initial;
        }

        ulong length = Length;
        ulong elapsed = Elapsed(tick);
        ulong count;
        switch (Mode)
        {
            case 2:
                count = length - (elapsed % length);
                break;
            case 3:
                // Counts down by two in each half; an odd count starts one lower and its first half is a tick longer.
                ulong phase = elapsed % length;
                ulong half = (length + 1) / 2;
                count = (length & ~1UL) - (2 * (phase < half ? phase : phase - half));
                break;
            default:
                count = length + Modulus - (elapsed % Modulus);
                break;
        }

        return Bcd ? ToBcd(count) : (ushort)count;
    }
}
