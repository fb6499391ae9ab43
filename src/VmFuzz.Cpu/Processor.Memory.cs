using System.Runtime.CompilerServices;
using VmFuzz.Arch;

namespace VmFuzz.Cpu;

// Memory as microcode sees it. A method that returns false has noted a fault or a VM exit and has changed nothing.
public sealed unsafe partial class Processor
{
    /// <summary>Mask of the stack pointer: 16, 32 or 64 ones, by SS.B and mode.</summary>
    public ulong StackMask => Code64 ? ulong.MaxValue
        : (_state->Ss.Attributes & SegmentAttributes.Db) != 0 ? uint.MaxValue : 0xFFFFUL;

    /// <summary>Whether accesses of the current privilege level are user-mode accesses.</summary>
    private bool UserMode => Cpl == 3;

    /// <summary>Checks a segmented access and gives its linear address.</summary>
    /// <param name="segment">The segment.</param>
    /// <param name="offset">Offset, already cut to the address size.</param>
    /// <param name="size">Bytes.</param>
    /// <param name="write">Whether it writes.</param>
    /// <param name="linear">The linear address.</param>
    /// <returns>False: #GP(0), or #SS(0) for SS, is noted.</returns>
    public bool Linearize(SegmentRegister segment, ulong offset, int size, bool write, out ulong linear)
    {
        ref SegmentState s = ref Segment(segment);
        if (Code64)
        {
            linear = segment is SegmentRegister.Fs or SegmentRegister.Gs ? offset + s.Base : offset;
            ulong last = linear + (ulong)(size - 1);
            if (IsCanonical(linear) && IsCanonical(last))
            {
                return true;
            }

            return RaiseFault(segment == SegmentRegister.Ss ? GuestFault.Ss() : GuestFault.Gp());
        }

        linear = (uint)(offset + s.Base);
        if (IsWithin(s, offset, size, write))
        {
            return true;
        }

        return RaiseFault(segment == SegmentRegister.Ss ? GuestFault.Ss() : GuestFault.Gp());
    }

    /// <summary>Whether the address sign-extends from 48 bits (57 with five-level paging).</summary>
    public bool IsCanonical(ulong address)
    {
        int shift = (_state->Cr4 & Cr4.La57) != 0 ? 7 : 16;
        return (ulong)((long)(address << shift) >> shift) == address;
    }

    /// <summary>Reads 1 to 8 bytes through a segment.</summary>
    public bool ReadMemory(SegmentRegister segment, ulong offset, int size, out ulong value)
    {
        value = 0;
        return Linearize(segment, offset, size, write: false, out ulong linear) && ReadLinear(linear, size, out value);
    }

    /// <summary>Writes 1 to 8 bytes through a segment; parameters as of <see cref="WriteLinear"/>.</summary>
    public bool WriteMemory(SegmentRegister segment, ulong offset, int size, ulong value, int alignment = 0) =>
        Linearize(segment, offset, size, write: true, out ulong linear) && WriteLinear(linear, size, value, alignment: alignment);

    /// <summary>Makes every check of a write without writing: a following write of the same bytes cannot fail.</summary>
    public bool ProbeWrite(SegmentRegister segment, ulong offset, int size, int alignment = 0) =>
        Linearize(segment, offset, size, write: true, out ulong linear) && ProbeLinear(linear, size, AccessKind.Write, alignment: alignment);

    /// <summary>Reads 1 to 8 bytes at a linear address.</summary>
    /// <param name="linear">Linear address.</param>
    /// <param name="size">1 to 8.</param>
    /// <param name="value">Zero-extended.</param>
    /// <param name="mode">Whose access it is.</param>
    /// <param name="alignment">What the address is a multiple of when alignment is checked, a power of two; 0 for the size.</param>
    public bool ReadLinear(ulong linear, int size, out ulong value, AccessMode mode = AccessMode.Own, int alignment = 0)
    {
        value = 0;
        int first = Math.Min(size, (int)(4096 - (linear & 0xFFF)));
        if (!Translate(linear, AccessKind.Read, mode, out Mapping low))
        {
            return false;
        }

        NoteAccess(linear, size, write: false);
        if (first == size)
        {
            return IsAligned(linear, size, alignment, mode) && ReadMapped(low, size, out value);
        }

        if (!Translate(Next(linear, first), AccessKind.Read, mode, out Mapping high)
            || !IsAligned(linear, size, alignment, mode)
            || !ReadMapped(low, first, out ulong lowBytes) || !ReadMapped(high, size - first, out ulong highBytes))
        {
            return false;
        }

        value = lowBytes | (highBytes << (first * 8));
        return true;
    }

    /// <summary>Writes 1 to 8 bytes at a linear address; both pages are checked before either is written.</summary>
    public bool WriteLinear(ulong linear, int size, ulong value, AccessMode mode = AccessMode.Own, int alignment = 0)
    {
        int first = Math.Min(size, (int)(4096 - (linear & 0xFFF)));
        if (!Translate(linear, AccessKind.Write, mode, out Mapping low))
        {
            return false;
        }

        NoteAccess(linear, size, write: true);
        if (first == size)
        {
            if (!IsAligned(linear, size, alignment, mode))
            {
                return false;
            }

            WriteMapped(low, size, value);
            return true;
        }

        ulong marks = _tableMarks;
        if (!Translate(Next(linear, first), AccessKind.Write, mode, out Mapping high)
            || !IsAligned(linear, size, alignment, mode))
        {
            return false;
        }

        WriteMapped(low, first, value);
        WriteMapped(high, size - first, value >> (first * 8));
        if (marks != _tableMarks)
        {
            // The second translation may have come from an entry in the first page.
            DropTranslations();
        }

        return true;
    }

    /// <summary>Makes every check of an access without making it.</summary>
    public bool ProbeLinear(ulong linear, int size, AccessKind access, AccessMode mode = AccessMode.Own, int alignment = 0)
    {
        int first = Math.Min(size, (int)(4096 - (linear & 0xFFF)));
        return Translate(linear, access, mode, out _)
            && (first == size || Translate(Next(linear, first), access, mode, out _))
            && IsAligned(linear, size, alignment, mode);
    }

    // SDM "Alignment Check Exception": explicit accesses at CPL 3. Page faults come first, in the order of
    // "Priority Among Concurrent Events".
    private bool IsAligned(ulong linear, int size, int alignment, AccessMode mode) =>
        (_state->TlbContext & AlignmentContext) == 0 || mode != AccessMode.Own
        || (linear & ((ulong)(alignment == 0 ? size : alignment) - 1)) == 0
        || RaiseFault(new GuestFault(Vector.Ac));

    /// <summary>Reads a block of bytes (FXRSTOR, XRSTOR, vectors); its alignment is checked only when one is given.</summary>
    public bool ReadBlock(ulong linear, Span<byte> destination, AccessMode mode = AccessMode.Own, int alignment = 1)
    {
        // What a device answers cannot be taken back: a fault of the second page comes before the first is read.
        bool crosses = (linear & 0xFFF) + (ulong)destination.Length > 4096;
        if (crosses && !ProbeBlock(linear, destination.Length, AccessKind.Read, mode, alignment))
        {
            return false;
        }

        for (int done = 0; done < destination.Length;)
        {
            int size = Piece(linear, done, destination.Length);
            if (!ReadLinear(Next(linear, done), size, out ulong value, mode, alignment))
            {
                return false;
            }

            for (int i = 0; i < size; i++)
            {
                destination[done + i] = (byte)(value >> (i * 8));
            }

            done += size;
        }

        return true;
    }

    /// <summary>Writes a block of bytes after checking all of it; its alignment only when one is given.</summary>
    public bool WriteBlock(ulong linear, ReadOnlySpan<byte> source, AccessMode mode = AccessMode.Own, int alignment = 1)
    {
        if (!ProbeBlock(linear, source.Length, AccessKind.Write, mode, alignment))
        {
            return false;
        }

        for (int done = 0; done < source.Length;)
        {
            int size = Piece(linear, done, source.Length);
            ulong value = 0;
            for (int i = 0; i < size; i++)
            {
                value |= (ulong)source[done + i] << (i * 8);
            }

            WriteLinear(Next(linear, done), size, value, mode, alignment);
            done += size;
        }

        return true;
    }

    private bool ProbeBlock(ulong linear, int length, AccessKind access, AccessMode mode, int alignment)
    {
        for (int done = 0; done < length;)
        {
            int size = Piece(linear, done, length);
            if (!ProbeLinear(Next(linear, done), size, access, mode, alignment))
            {
                return false;
            }

            done += size;
        }

        return true;
    }

    // What of a block is accessed at once: at most eight bytes of one page.
    private int Piece(ulong linear, int done, int length) => Math.Min(Math.Min(8, length - done), (int)(4096 - (Next(linear, done) & 0xFFF)));

    /// <summary>Pushes a value of 2, 4 or 8 bytes; RSP changes only when the write succeeds.</summary>
    public bool Push(int size, ulong value)
    {
        ulong mask = StackMask;
        ulong rsp = _state->Gpr[(int)Gpr.Rsp];
        ulong top = (rsp - (ulong)size) & mask;
        if (!WriteMemory(SegmentRegister.Ss, top, size, value))
        {
            return false;
        }

        SetStackPointer(top);
        return true;
    }

    /// <summary>Reads from the stack at an offset from the top without moving RSP.</summary>
    public bool PeekStack(int size, int offset, out ulong value) =>
        ReadMemory(SegmentRegister.Ss, (_state->Gpr[(int)Gpr.Rsp] + (ulong)offset) & StackMask, size, out value);

    /// <summary>Moves RSP by a number of bytes within the stack's width.</summary>
    public void AdjustStack(long bytes) => SetStackPointer((_state->Gpr[(int)Gpr.Rsp] + (ulong)bytes) & StackMask);

    /// <summary>Sets RSP, ESP or SP, by the stack's width.</summary>
    public void SetStackPointer(ulong value)
    {
        ref ulong rsp = ref _state->Gpr[(int)Gpr.Rsp];
        ulong mask = StackMask;
        rsp = mask == 0xFFFF ? (rsp & ~0xFFFFUL) | (value & 0xFFFF) : value & mask;
    }

    /// <summary>A linear address some bytes further on; wraps at 4 GiB outside 64-bit mode.</summary>
    internal ulong Next(ulong linear, int bytes) => Code64 || LongMode ? linear + (ulong)bytes : (uint)(linear + (ulong)bytes);

    // SDM "Limit Checking" and "Type Checking".
    private bool IsWithin(in SegmentState s, ulong offset, int size, bool write)
    {
        if (Protected && !Virtual8086)
        {
            if (!s.Usable)
            {
                return false;
            }

            bool code = (s.Attributes & 8) != 0;
            bool writeOrRead = (s.Attributes & 2) != 0;
            if (code ? write || !writeOrRead : write && !writeOrRead)
            {
                return false;
            }

            if (!code && (s.Attributes & 4) != 0)
            {
                ulong top = (s.Attributes & SegmentAttributes.Db) != 0 ? uint.MaxValue : 0xFFFFU;
                return offset > s.Limit && offset + (ulong)(size - 1) <= top;
            }
        }

        ulong last = offset + (ulong)(size - 1);
        return last <= s.Limit && last >= offset;
    }

    private bool ReadMapped(in Mapping mapping, int size, out ulong value)
    {
        if (mapping.Host == null)
        {
            value = ReadDevice(mapping.Physical, size);
            return true;
        }

        value = size switch
        {
            1 => *mapping.Host,
            2 => Unsafe.ReadUnaligned<ushort>(mapping.Host),
            4 => Unsafe.ReadUnaligned<uint>(mapping.Host),
            8 => Unsafe.ReadUnaligned<ulong>(mapping.Host),
            _ => ReadOdd(mapping.Host, size),
        };
        return true;
    }

    private void WriteMapped(in Mapping mapping, int size, ulong value)
    {
        if (mapping.Host == null)
        {
            WriteDevice(mapping.Physical, size, value);
            return;
        }

        if (!mapping.Writable)
        {
            return; // ROM: the write is dropped.
        }

        switch (size)
        {
            case 1:
                *mapping.Host = (byte)value;
                break;
            case 2:
                Unsafe.WriteUnaligned(mapping.Host, (ushort)value);
                break;
            case 4:
                Unsafe.WriteUnaligned(mapping.Host, (uint)value);
                break;
            case 8:
                Unsafe.WriteUnaligned(mapping.Host, value);
                break;
            default:
                for (int i = 0; i < size; i++)
                {
                    mapping.Host[i] = (byte)(value >> (i * 8));
                }

                break;
        }
    }

    private static ulong ReadOdd(byte* host, int size)
    {
        ulong value = 0;
        for (int i = 0; i < size; i++)
        {
            value |= (ulong)host[i] << (i * 8);
        }

        return value;
    }

    private ulong ReadDevice(ulong physical, int size)
    {
        ulong value = Bus.ReadMmio(new Gpa(physical), size);
        return value & MaskOfSize(size);
    }

    private void WriteDevice(ulong physical, int size, ulong value) =>
        Bus.WriteMmio(new Gpa(physical), size, value & MaskOfSize(size));
}
