using System.Buffers.Binary;
using System.Collections.Immutable;
using VmFuzz.Arch;
using VmFuzz.Cpu;

namespace VmFuzz.Vmx;

// The list of fields.
public sealed partial class HostRegisters
{
    private const int Scalars = 22;
    private const int Tables = Scalars + 1;
    private const int Segments = Tables + 4;

    private static readonly ImmutableArray<StateField> StateFields = [.. MakeFields()];

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

    private static StateField[] MakeFields()
    {
        string[] names =
        [
            nameof(Cr0), nameof(Cr3), nameof(Cr4), nameof(Dr7), nameof(Rsp), nameof(Rip), nameof(RFlags), nameof(Efer), nameof(Pat), nameof(DebugCtl), nameof(PerfGlobalCtrl), nameof(SysenterCs), nameof(SysenterEsp), nameof(SysenterEip), nameof(KernelGsBase), nameof(Star), nameof(Lstar), nameof(Cstar), nameof(Fmask), nameof(TscAux), nameof(Xss), nameof(SpecCtrl),
            "BlockedByMovSs", "Gdtr.Base", "Gdtr.Limit", "Idtr.Base", "Idtr.Limit",
        ];
        StateField[] fields = new StateField[Segments + (8 * 4)];
        for (int i = 0; i < fields.Length; i++)
        {
            int part = i - Segments;
            string name = part < 0 ? names[i] : $"{(SegmentRegister)(part / 4)}.{(part & 3) switch { 0 => "Base", 1 => "Limit", 2 => "Attributes", _ => "Selector" }}";
            fields[i] = new StateField((ushort)(i + 1), name, 8);
        }

        return fields;
    }

    private ulong Get(int index)
    {
        if (index >= Segments)
        {
            ref SegmentState segment = ref _segments[(index - Segments) / 4];
            return ((index - Segments) & 3) switch { 0 => segment.Base, 1 => segment.Limit, 2 => segment.Attributes, _ => segment.Selector };
        }

        return index switch
        {
            0 => Cr0,
            1 => Cr3,
            2 => Cr4,
            3 => Dr7,
            4 => Rsp,
            5 => Rip,
            6 => RFlags,
            7 => Efer,
            8 => Pat,
            9 => DebugCtl,
            10 => PerfGlobalCtrl,
            11 => SysenterCs,
            12 => SysenterEsp,
            13 => SysenterEip,
            14 => KernelGsBase,
            15 => Star,
            16 => Lstar,
            17 => Cstar,
            18 => Fmask,
            19 => TscAux,
            20 => Xss,
            21 => SpecCtrl,
            Scalars => BlockedByMovSs ? 1UL : 0,
            Tables => Gdtr.Base,
            Tables + 1 => Gdtr.Limit,
            Tables + 2 => Idtr.Base,
            _ => Idtr.Limit,
        };
    }

    private void Put(int index, ulong value)
    {
        Version++;
        if (index >= Segments)
        {
            ref SegmentState segment = ref _segments[(index - Segments) / 4];
            switch ((index - Segments) & 3)
            {
                case 0: segment.Base = value; break;
                case 1: segment.Limit = (uint)value; break;
                case 2: segment.Attributes = (uint)value; break;
                default: segment.Selector = value; break;
            }

            return;
        }

        switch (index)
        {
            case 0: Cr0 = value; break;
            case 1: Cr3 = value; break;
            case 2: Cr4 = value; break;
            case 3: Dr7 = value; break;
            case 4: Rsp = value; break;
            case 5: Rip = value; break;
            case 6: RFlags = value; break;
            case 7: Efer = value; break;
            case 8: Pat = value; break;
            case 9: DebugCtl = value; break;
            case 10: PerfGlobalCtrl = value; break;
            case 11: SysenterCs = value; break;
            case 12: SysenterEsp = value; break;
            case 13: SysenterEip = value; break;
            case 14: KernelGsBase = value; break;
            case 15: Star = value; break;
            case 16: Lstar = value; break;
            case 17: Cstar = value; break;
            case 18: Fmask = value; break;
            case 19: TscAux = value; break;
            case 20: Xss = value; break;
            case 21: SpecCtrl = value; break;
            case Scalars: BlockedByMovSs = value != 0; break;
            case Tables: Gdtr = new TableState { Base = value, Limit = Gdtr.Limit }; break;
            case Tables + 1: Gdtr = new TableState { Base = Gdtr.Base, Limit = value }; break;
            case Tables + 2: Idtr = new TableState { Base = value, Limit = Idtr.Limit }; break;
            default: Idtr = new TableState { Base = Idtr.Base, Limit = value }; break;
        }
    }
}
