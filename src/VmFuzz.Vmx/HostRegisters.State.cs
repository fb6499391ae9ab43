using System.Buffers.Binary;
using System.Collections.Immutable;
using VmFuzz.Arch;
using VmFuzz.Cpu;

namespace VmFuzz.Vmx;

// The list of fields.
public sealed partial class HostRegisters
{
    private const int Segments = (int)Word.IdtrLimit + 1;
    private static readonly ImmutableArray<StateField> StateFields = [.. MakeFields()];

    // The fields of one word, in the order of their numbers; four for each segment register follow.
    private enum Word
    {
        Cr0,
        Cr3,
        Cr4,
        Dr7,
        Rsp,
        Rip,
        RFlags,
        Efer,
        Pat,
        DebugCtl,
        PerfGlobalCtrl,
        SysenterCs,
        SysenterEsp,
        SysenterEip,
        KernelGsBase,
        Star,
        Lstar,
        Cstar,
        Fmask,
        TscAux,
        Xss,
        SpecCtrl,
        BlockedByMovSs,
        GdtrBase,
        GdtrLimit,
        IdtrBase,
        IdtrLimit,
    }

    /// <summary>Number of the VCPU, for the component's number.</summary>
    public int Vcpu { get; init; }

    /// <inheritdoc/>
    public ComponentId Component => ComponentId.HostCpu + (ushort)(Vcpu * 16);

    /// <inheritdoc/>
    public ReadOnlySpan<StateField> Fields => StateFields.AsSpan();

    /// <inheritdoc/>
    public void ReadField(int index, Span<byte> destination) => BinaryPrimitives.WriteUInt64LittleEndian(destination, Get(index));

    /// <inheritdoc/>
    public void WriteField(int index, ReadOnlySpan<byte> source) => Put(index, BinaryPrimitives.ReadUInt64LittleEndian(source));

    /// <inheritdoc/>
    public IStateCopy CopyState() => new Copied(this);

    private static StateField[] MakeFields()
    {
        StateField[] fields = new StateField[Segments + (8 * 4)];
        for (int i = 0; i < fields.Length; i++)
        {
            int part = i - Segments;
            string name = part < 0
                ? (Word)i switch
                {
                    Word.GdtrBase => "Gdtr.Base",
                    Word.GdtrLimit => "Gdtr.Limit",
                    Word.IdtrBase => "Idtr.Base",
                    Word.IdtrLimit => "Idtr.Limit",
                    Word word => word.ToString(),
                }
                : $"{(SegmentRegister)(part / 4)}.{(part & 3) switch { 0 => "Base", 1 => "Limit", 2 => "Attributes", _ => "Selector" }}";
            fields[i] = new StateField((ushort)(i + 1), name, 8);
        }

        return fields;
    }

    private ulong Get(int index)
    {
        if (index < Segments)
        {
            return _words[index];
        }

        ref SegmentState segment = ref _segments[(index - Segments) / 4];
        return ((index - Segments) & 3) switch { 0 => segment.Base, 1 => segment.Limit, 2 => segment.Attributes, _ => segment.Selector };
    }

    private void Put(int index, ulong value)
    {
        Version++;
        if (index < Segments)
        {
            _words[index] = index == (int)Word.BlockedByMovSs && value != 0 ? 1 : value;
            return;
        }

        ref SegmentState segment = ref _segments[(index - Segments) / 4];
        switch ((index - Segments) & 3)
        {
            case 0: segment.Base = value; break;
            case 1: segment.Limit = (uint)value; break;
            case 2: segment.Attributes = (uint)value; break;
            default: segment.Selector = value; break;
        }
    }

    private sealed class Copied(HostRegisters registers) : IStateCopy
    {
        private readonly ulong[] _words = [.. registers._words];
        private readonly SegmentState[] _segments = [.. registers._segments];
        private ulong _version = registers.Version;

        public void Restore()
        {
            if (registers.Version != _version)
            {
                _words.CopyTo(registers._words, 0);
                _segments.CopyTo(registers._segments, 0);
                _version = ++registers.Version;
            }
        }
    }
}
