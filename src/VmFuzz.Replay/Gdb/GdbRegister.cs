using System.Collections.Immutable;
using VmFuzz.Cpu;
using VmFuzz.Machines;

namespace VmFuzz.Replay.Gdb;

/// <summary>A register as gdb sees it.</summary>
/// <param name="Name">gdb's name.</param>
/// <param name="Bytes">Width.</param>
/// <param name="Type">Type in the target description.</param>
/// <param name="Field">The field of <see cref="ProcessorState"/> that holds it; empty when it is worked out.</param>
/// <param name="Offset">First byte in that field.</param>
internal sealed record GdbRegister(string Name, int Bytes, string Type, string Field, int Offset = 0)
{
    private const string StatusField = "fsw";

    private static readonly ImmutableArray<string> FieldNames = NamesOfFields();

    private readonly int _index = FieldNames.IndexOf(Field);

    /// <summary>The value when it is not that of a field; null when it is.</summary>
    public Func<Machine, ulong>? WorkedOut { get; init; }

    /// <summary>A register of the x87 stack: its place stands relative to the top.</summary>
    public bool OnStack { get; init; }

    /// <summary>Whether gdb may change it.</summary>
    public bool Writable { get; init; }

    /// <summary>Reads the value in little-endian order.</summary>
    public void Read(Machine machine, Span<byte> destination)
    {
        Span<byte> whole = stackalloc byte[MaxField];
        whole.Clear();
        if (WorkedOut is not null)
        {
            System.Buffers.Binary.BinaryPrimitives.WriteUInt64LittleEndian(whole, WorkedOut(machine));
        }
        else if (_index >= 0)
        {
            machine.Processor.Fields.ReadField(_index, whole);
        }

        whole.Slice(Place(machine), Bytes).CopyTo(destination);
    }

    /// <summary>Writes the value; bytes of the field beyond it stay.</summary>
    public void Write(Machine machine, ReadOnlySpan<byte> source)
    {
        Span<byte> whole = stackalloc byte[MaxField];
        machine.Processor.Fields.ReadField(_index, whole);
        source[..Bytes].CopyTo(whole[Place(machine)..]);
        machine.Processor.Fields.WriteField(_index, whole[..ProcessorState.List[_index].Width]);
    }

    // The widest field, the vector registers, has 512 bytes.
    private const int MaxField = 512;

    private int Place(Machine machine)
    {
        if (!OnStack)
        {
            return Offset;
        }

        int top = (int)(machine.Processor.Fields.ReadWord(FieldNames.IndexOf(StatusField)) >> 11) & 7;
        return ((top + (Offset / 16)) & 7) * 16;
    }

    private static ImmutableArray<string> NamesOfFields()
    {
        var names = ImmutableArray.CreateBuilder<string>();
        foreach (Arch.StateField field in ProcessorState.List)
        {
            names.Add(field.Name);
        }

        return names.ToImmutable();
    }
}
