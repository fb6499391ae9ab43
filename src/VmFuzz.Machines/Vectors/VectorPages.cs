using System.Buffers.Binary;
using VmFuzz.Arch;
using VmFuzz.Memory;

namespace VmFuzz.Machines.Vectors;

/// <summary>
/// The pages of a vector that brings no page tables: each page given stands at its own linear address and nowhere else.
/// </summary>
/// <remarks>
/// Pages below <see cref="First"/> are mapped to the frame of the same address; those above, and the tables, take frames
/// from there on in the order in which they come.
/// </remarks>
internal sealed class VectorPages(GuestMemory memory)
{
    /// <summary>Physical address of the first frame that is handed out, and of the root table.</summary>
    public const ulong First = 12UL << 20;

    /// <summary>End of the frames, and of memory.</summary>
    public const ulong End = 16UL << 20;

    private const int Levels = 4;

    // Present, writable, user, accessed, dirty: walks change nothing.
    private const ulong Flags = 0x67;

    /// <summary>What <see cref="Map"/> returns when there are no frames left.</summary>
    public const ulong NoFrame = ulong.MaxValue;

    // In place of a linear address.
    private const ulong Table = ulong.MaxValue;

    // Frames handed out, in order: what they are for, and the linear address of those that are no tables.
    private readonly List<(ulong Key, ulong Linear)> _frames = [];
    private readonly Dictionary<ulong, ulong> _byKey = [];

    /// <summary>Frames handed out. Setting it takes the later ones back; the caller takes their memory back.</summary>
    public int Count
    {
        get => _frames.Count;
        set
        {
            for (int i = value; i < _frames.Count; i++)
            {
                _byKey.Remove(_frames[i].Key);
            }

            _frames.RemoveRange(value, _frames.Count - value);
        }
    }

    /// <summary>Maps the page of an address, which is canonical.</summary>
    /// <param name="linear">Any address in the page.</param>
    /// <param name="prepare">Is told each page before it is written.</param>
    /// <returns>The physical address of the page, or <see cref="NoFrame"/>.</returns>
    public ulong Map(ulong linear, Action<int> prepare)
    {
        linear &= ~0xFFFUL;
        if (!TryTake(Levels + 1, linear, out ulong table))
        {
            return NoFrame;
        }

        Span<byte> entry = stackalloc byte[8];
        for (int level = Levels; level > 0; level--)
        {
            if (!TryTake(level, linear, out ulong frame))
            {
                return NoFrame;
            }

            // Modes without these tables may have written here.
            var entryAt = new Gpa(table + (((linear >> ShiftOf(level)) & 511) * 8));
            memory.TryRead(entryAt, entry);
            if (BinaryPrimitives.ReadUInt64LittleEndian(entry) != (frame | Flags))
            {
                prepare((int)(entryAt.Value >> 12));
                BinaryPrimitives.WriteUInt64LittleEndian(entry, frame | Flags);
                memory.TryWrite(entryAt, entry);
            }

            table = frame;
        }

        return table;
    }

    /// <summary>The linear address that a frame stands at; false for tables.</summary>
    public bool TryLinear(ulong frame, out ulong linear)
    {
        int index = (int)((frame - First) >> 12);
        linear = frame < First || index >= _frames.Count ? frame : _frames[index].Linear;
        return linear != Table;
    }

    private static int ShiftOf(int level) => 12 + ((level - 1) * 9);

    // The frame that an entry of this level points to; the root is that of one level more.
    private bool TryTake(int level, ulong linear, out ulong frame)
    {
        frame = linear;
        if (level == 1 && linear < First)
        {
            return true;
        }

        // The root table is the same for all.
        ulong key = level > Levels ? 0 : ((linear >> ShiftOf(level)) << 3) | (uint)level;
        if (_byKey.TryGetValue(key, out frame))
        {
            return true;
        }

        frame = First + ((ulong)_frames.Count << 12);
        if (frame >= End)
        {
            return false;
        }

        _frames.Add((key, level == 1 ? linear : Table));
        _byKey.Add(key, frame);
        return true;
    }
}
