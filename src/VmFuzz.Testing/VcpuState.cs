using System.Collections.Immutable;
using System.Globalization;
using System.Text;
using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Kvm;

namespace VmFuzz.Testing;

/// <summary>
/// The state of a VCPU as userspace gets and sets it: registers, system registers, events. A value: a list of words with
/// names.
/// </summary>
public sealed class VcpuState : IEquatable<VcpuState>
{
    private const int Segments = 8;
    private const int WordsOfSegment = 4;
    private const int RipAt = 16;
    private const int FlagsAt = 17;
    private const int SegmentsAt = 18;
    private const int TablesAt = SegmentsAt + (Segments * WordsOfSegment);
    private const int SystemAt = TablesAt + 4;
    private const int EventsAt = SystemAt + 7;

    private static readonly ImmutableArray<Row> Table =
    [
        .. Enum.GetNames<Gpr>().Select(static name => new Row(name)),
        new("Rip"),
        new("RFlags", RFlags.Defined, RFlags.Reserved1),
        .. Enumerable.Range(0, Segments).Select(static i => (SegmentRegister)i).SelectMany(static s => new Row[]
        {
            new($"{s}.Base"), new($"{s}.Limit", uint.MaxValue), new($"{s}.Attributes", 0x1_F0FF), new($"{s}.Selector", ushort.MaxValue),
        }),
        new("Gdtr.Base"), new("Gdtr.Limit", ushort.MaxValue), new("Idtr.Base"), new("Idtr.Limit", ushort.MaxValue),
        new("Cr0", Arch.Cr0.Pe | Arch.Cr0.Mp | Arch.Cr0.Em | Arch.Cr0.Ts | Arch.Cr0.Ne | Arch.Cr0.Wp | Arch.Cr0.Am | Arch.Cr0.Nw | Arch.Cr0.Cd, Arch.Cr0.Et),
        new("Cr2"), new("Cr3", 0xF_FFFF_F000),
        new("Cr4", Arch.Cr4.Pae | Arch.Cr4.Pse | Arch.Cr4.Pge | Arch.Cr4.De),
        new("Cr8", 15), new("Efer", Arch.Efer.Sce | Arch.Efer.Nxe), new("ApicBase", 0xF_FFFF_FD00),
        new("Exception", 0x1_FFFF_1F01), new("Interrupt", 0x1_FF01), new("Nmi", 7), new("Shadow", 3), new("InstructionLength", 15),
    ];

    private VcpuState(ImmutableArray<ulong> words) => Words = words;

    /// <summary>What the words are called.</summary>
    public static ImmutableArray<string> Names { get; } = [.. Table.Select(static row => row.Name)];

    /// <summary>The words, in the order of <see cref="Names"/>.</summary>
    public ImmutableArray<ulong> Words { get; }

    /// <summary>A state of words; bits that cannot be set are dropped, those that are always 1 added.</summary>
    /// <param name="words">As many as there are names.</param>
    public static VcpuState Of(ReadOnlySpan<ulong> words)
    {
        ArgumentOutOfRangeException.ThrowIfNotEqual(words.Length, Table.Length, nameof(words));
        var cut = ImmutableArray.CreateBuilder<ulong>(words.Length);
        for (int i = 0; i < words.Length; i++)
        {
            cut.Add((words[i] & Table[i].Mask) | Table[i].One);
        }

        return new VcpuState(cut.MoveToImmutable());
    }

    /// <summary>The state of a VCPU.</summary>
    /// <param name="vcpu">The VCPU.</param>
    /// <param name="state">Its state, when the result is 0.</param>
    /// <returns>0, or the negative error of the call that failed.</returns>
    public static int TryGet(Vcpu vcpu, out VcpuState state)
    {
        ArgumentNullException.ThrowIfNull(vcpu);
        state = new VcpuState([]);
        int result = vcpu.GetRegs(out VcpuRegs regs);
        result = result != 0 ? result : vcpu.GetSregs(out _);
        if (result != 0 || vcpu.GetSregs(out VcpuSregs system) != 0 || vcpu.GetEvents(out VcpuEvents events) != 0)
        {
            return result;
        }

        var words = ImmutableArray.CreateBuilder<ulong>(Table.Length);
        for (int i = 0; i < RipAt; i++)
        {
            words.Add(regs.Gprs[i]);
        }

        words.AddRange(regs.Rip, regs.RFlags);
        for (int i = 0; i < Segments; i++)
        {
            SegmentState s = system.Segments[i];
            words.AddRange(s.Base, s.Limit, s.Attributes, s.Selector);
        }

        words.AddRange(system.Gdtr.Base, system.Gdtr.Limit, system.Idtr.Base, system.Idtr.Limit);
        words.AddRange(system.Cr0, system.Cr2, system.Cr3, system.Cr4, system.Cr8, system.Efer, system.ApicBase);
        QueuedException e = events.Exception;
        words.Add(Bit(e.Pending, 0) | ((ulong)e.Vector << 8) | ((ulong)(ushort)e.ErrorCode << 16) | Bit(e.HasErrorCode, 32));
        words.Add(Bit(events.Interrupt.Pending, 0) | ((ulong)events.Interrupt.Vector << 8) | Bit(events.Interrupt.Software, 16));
        words.Add(Bit(events.NmiInjected, 0) | Bit(events.NmiPending != 0, 1) | Bit(events.NmiMasked, 2));
        words.AddRange(events.InterruptShadow, events.InstructionLength);
        state = new VcpuState(words.MoveToImmutable());
        return 0;
    }

    /// <summary>Gives a VCPU this state.</summary>
    /// <returns>0, or the negative error of the call that failed; earlier calls have had their effect then.</returns>
    public int Set(Vcpu vcpu)
    {
        ArgumentNullException.ThrowIfNull(vcpu);
        GprFile gprs = default;
        for (int i = 0; i < RipAt; i++)
        {
            gprs[i] = Words[i];
        }

        SegmentFile segments = default;
        for (int i = 0; i < Segments; i++)
        {
            ReadOnlySpan<ulong> of = Words.AsSpan(SegmentsAt + (i * WordsOfSegment), WordsOfSegment);
            segments[i] = new SegmentState { Base = of[0], Limit = (uint)of[1], Attributes = (uint)of[2], Selector = of[3] };
        }

        ReadOnlySpan<ulong> tables = Words.AsSpan(TablesAt, 4);
        ReadOnlySpan<ulong> system = Words.AsSpan(SystemAt, 7);
        ReadOnlySpan<ulong> events = Words.AsSpan(EventsAt, 5);
        int result = vcpu.SetSregs(new VcpuSregs
        {
            Segments = segments,
            Gdtr = new TableState { Base = tables[0], Limit = tables[1] },
            Idtr = new TableState { Base = tables[2], Limit = tables[3] },
            Cr0 = system[0],
            Cr2 = system[1],
            Cr3 = system[2],
            Cr4 = system[3],
            Cr8 = system[4],
            Efer = system[5],
            ApicBase = system[6],
        });
        result = result != 0 ? result : vcpu.SetRegs(new VcpuRegs(gprs, Words[RipAt], Words[FlagsAt]));
        return result != 0 ? result : vcpu.SetEvents(new VcpuEvents(
            new QueuedException((events[0] & 1) != 0, (byte)(events[0] >> 8), (events[0] >> 32) != 0, (ushort)(events[0] >> 16), Reinjected: false, InterruptionType.HardwareException),
            new QueuedInterrupt((events[1] & 1) != 0, (byte)(events[1] >> 8), (events[1] >> 16) != 0),
            (events[2] & 1) != 0,
            (int)(events[2] >> 1) & 1,
            (events[2] & 4) != 0,
            (byte)events[3],
            (byte)events[4]));
    }

    /// <inheritdoc/>
    public bool Equals(VcpuState? other) => other is not null && Words.AsSpan().SequenceEqual(other.Words.AsSpan());

    /// <inheritdoc/>
    public override bool Equals(object? obj) => Equals(obj as VcpuState);

    /// <inheritdoc/>
    public override int GetHashCode() => Words.IsEmpty ? 0 : (int)Words[0];

    /// <summary>The words with bits set that could be 0, by name.</summary>
    public override string ToString()
    {
        var text = new StringBuilder();
        for (int i = 0; i < Words.Length; i++)
        {
            if (Words[i] != Table[i].One)
            {
                text.Append(CultureInfo.InvariantCulture, $"{(text.Length > 0 ? " " : "")}{Names[i]}=0x{Words[i]:x}");
            }
        }

        return text.Length == 0 ? "all 0" : text.ToString();
    }

    private static ulong Bit(bool set, int at) => set ? 1UL << at : 0;

    // A word: the bits that can be set, and those that always are.
    private readonly record struct Row(string Name, ulong Mask = ulong.MaxValue, ulong One = 0);
}
