using System.Numerics;

namespace VmFuzz.Devices;

/// <summary>One 8259A (Intel 8259A data sheet). All storage is fields of <see cref="Pic8259Pair"/>.</summary>
internal sealed class PicChip
{
    // Fields, not properties: the state map refers to them.
    public byte Lines;
    public byte Edges;
    public byte InService;
    public byte Mask;
    public byte LevelMode;
    public byte Base;
    public byte Lowest;
    public byte Expected;
    public byte Icw1;
    public byte Icw4;
    public bool RotateAutomatic;
    public bool SpecialMask;
    public bool Poll;
    public bool ReadInService;

    private const byte Icw4Needed = 1;
    private const byte Icw1Single = 2;
    private const byte AutomaticEnd = 2;
    private const byte SpecialFullyNested = 0x10;

    /// <summary>The interrupt request register: latched edges and the lines in level mode.</summary>
    public byte Requests => (byte)(Edges | (Lines & LevelMode));

    public void Reset()
    {
        Edges = 0;
        InService = 0;
        Mask = 0;
        LevelMode = 0;
        Base = 0;
        Lowest = 7;
        Expected = 0;
        Icw1 = 0;
        Icw4 = 0;
        RotateAutomatic = false;
        SpecialMask = false;
        Poll = false;
        ReadInService = false;
    }

    public void Normalise()
    {
        Lowest &= 7;
        Expected = (byte)(Expected % 5);
        Base &= 0xF8;
    }

    /// <summary>Whether anything changed.</summary>
    public bool SetLine(int input, bool level)
    {
        byte bit = (byte)(1 << input);
        if (((Lines & bit) != 0) == level)
        {
            return false;
        }

        if (level)
        {
            Lines |= bit;
            Edges |= (byte)(bit & ~LevelMode);
        }
        else
        {
            Lines &= (byte)~bit;
            Edges &= (byte)~bit;
        }

        return true;
    }

    /// <summary>The slave's output. It stays requested as long as the slave asks, as if in level mode.</summary>
    public void SetCascade(int input, bool level)
    {
        byte bit = (byte)(1 << input);
        Edges = (byte)(level ? Edges | bit : Edges & ~bit);
    }

    public void SetLevelMode(byte value)
    {
        LevelMode = value;
        Edges &= (byte)~value;
    }

    /// <summary>The request that would be acknowledged, or -1 ("Priority Resolver").</summary>
    /// <param name="cascade">The input of a slave, or -1.</param>
    public int Pending(int cascade)
    {
        int requests = Requests & ~Mask;
        if (requests == 0)
        {
            return -1;
        }

        // In special mask mode a masked input in service holds nothing back.
        int blocking = SpecialMask ? InService & ~Mask : InService;
        if (cascade >= 0 && (Icw4 & SpecialFullyNested) != 0)
        {
            blocking &= ~(1 << cascade);
        }

        int request = Highest(requests);
        return blocking == 0 || Priority(request) < Priority(Highest(blocking)) ? request : -1;
    }

    /// <summary>Acknowledges a request, or with -1 the spurious one, and gives its vector.</summary>
    public byte Acknowledge(int input)
    {
        if (input < 0)
        {
            return (byte)(Base | 7);
        }

        byte bit = (byte)(1 << input);
        Edges &= (byte)~bit;
        if ((Icw4 & AutomaticEnd) == 0)
        {
            InService |= bit;
        }
        else if (RotateAutomatic)
        {
            Lowest = (byte)input;
        }

        return (byte)(Base | input);
    }

    public byte Read(bool data, int cascade)
    {
        if (Poll)
        {
            Poll = false;
            int input = Pending(cascade);
            return input < 0 ? (byte)0 : (byte)(0x80 | (Acknowledge(input) & 7));
        }

        return data ? Mask : ReadInService ? InService : Requests;
    }

    public void WriteCommand(byte value)
    {
        if ((value & 0x10) != 0)
        {
            // ICW1 clears the mask, the edge latches and the modes; lines must rise again.
            byte level = LevelMode;
            Reset();
            LevelMode = level;
            Icw1 = value;
            Expected = 2;
        }
        else if ((value & 8) != 0)
        {
            WriteMode(value);
        }
        else
        {
            WriteEnd(value);
        }
    }

    public void WriteData(byte value)
    {
        switch (Expected)
        {
            case 2:
                Base = (byte)(value & 0xF8);
                Expected = (Icw1 & Icw1Single) == 0 ? (byte)3 : AfterThird();
                break;
            case 3:
                Expected = AfterThird();
                break;
            case 4:
                Icw4 = value;
                Expected = 0;
                break;
            default:
                Mask = value;
                break;
        }
    }

    private byte AfterThird() => (Icw1 & Icw4Needed) != 0 ? (byte)4 : (byte)0;

    /// <summary>OCW3.</summary>
    private void WriteMode(byte value)
    {
        Poll = (value & 4) != 0;
        if ((value & 2) != 0)
        {
            ReadInService = (value & 1) != 0;
        }

        if ((value & 0x40) != 0)
        {
            SpecialMask = (value & 0x20) != 0;
        }
    }

    /// <summary>OCW2.</summary>
    private void WriteEnd(byte value)
    {
        int level = value & 7;
        bool rotate = (value & 0x80) != 0;
        bool specific = (value & 0x40) != 0;
        bool end = (value & 0x20) != 0;
        if (!end)
        {
            if (specific)
            {
                Lowest = rotate ? (byte)level : Lowest;
            }
            else
            {
                RotateAutomatic = rotate;
            }

            return;
        }

        if (!specific)
        {
            int candidates = SpecialMask ? InService & ~Mask : InService;
            level = Highest(candidates);
        }

        if (level >= 0)
        {
            InService &= (byte)~(1 << level);
            Lowest = rotate ? (byte)level : Lowest;
        }
    }

    /// <summary>0 is the highest priority.</summary>
    private int Priority(int input) => (input - Lowest - 1) & 7;

    private int Highest(int bits)
    {
        if ((bits & 0xFF) == 0)
        {
            return -1;
        }

        int turned = ((bits | (bits << 8)) >> ((Lowest + 1) & 7)) & 0xFF;
        return (BitOperations.TrailingZeroCount(turned) + Lowest + 1) & 7;
    }
}
