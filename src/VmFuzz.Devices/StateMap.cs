using System.Buffers.Binary;
using System.Collections.Immutable;
using VmFuzz.Arch;

namespace VmFuzz.Devices;

/// <summary>Names the storage of one field in its owner.</summary>
/// <typeparam name="TOwner">The component.</typeparam>
/// <typeparam name="T">Type of the storage.</typeparam>
/// <param name="owner">The component that is read or written.</param>
public delegate ref T FieldReference<in TOwner, T>(TOwner owner);

/// <summary>The list of a component's fields, without the type of its owner.</summary>
public abstract class StateMap
{
    private protected StateMap()
    {
    }

    /// <summary>The fields in their fixed order.</summary>
    public abstract ReadOnlySpan<StateField> Fields { get; }

    /// <summary>Copies a field of <paramref name="owner"/>, little-endian.</summary>
    /// <exception cref="ArgumentException">The destination is not exactly as wide as the field.</exception>
    public abstract void Read(object owner, int index, Span<byte> destination);

    /// <summary>Sets a field of <paramref name="owner"/> and nothing else, little-endian.</summary>
    /// <exception cref="ArgumentException">The source is not exactly as wide as the field.</exception>
    public abstract void Write(object owner, int index, ReadOnlySpan<byte> source);
}

/// <summary>The list of the fields of components of one type. Immutable; made once by a <see cref="StateMapBuilder{TOwner}"/>.</summary>
/// <typeparam name="TOwner">The component.</typeparam>
public sealed class StateMap<TOwner> : StateMap
    where TOwner : class
{
    private readonly ImmutableArray<StateField> _fields;
    private readonly ImmutableArray<FieldAccess<TOwner>> _access;

    internal StateMap(ImmutableArray<StateField> fields, ImmutableArray<FieldAccess<TOwner>> access)
    {
        _fields = fields;
        _access = access;
    }

    /// <inheritdoc/>
    public override ReadOnlySpan<StateField> Fields => _fields.AsSpan();

    /// <inheritdoc/>
    public override void Read(object owner, int index, Span<byte> destination)
    {
        CheckWidth(index, destination.Length);
        _access[index].Read((TOwner)owner, destination);
    }

    /// <inheritdoc/>
    public override void Write(object owner, int index, ReadOnlySpan<byte> source)
    {
        CheckWidth(index, source.Length);
        _access[index].Write((TOwner)owner, source);
    }

    private void CheckWidth(int index, int width)
    {
        if (_fields[index].Width != width)
        {
            throw new ArgumentException($"Field {_fields[index].Name} is {_fields[index].Width} bytes wide, not {width}.", nameof(width));
        }
    }
}

/// <summary>Collects the fields of a component, each in one line, and makes the map.</summary>
/// <typeparam name="TOwner">The component.</typeparam>
public sealed class StateMapBuilder<TOwner>
    where TOwner : class
{
    private readonly ImmutableArray<StateField>.Builder _fields = ImmutableArray.CreateBuilder<StateField>();
    private readonly ImmutableArray<FieldAccess<TOwner>>.Builder _access = ImmutableArray.CreateBuilder<FieldAccess<TOwner>>();

    /// <summary>Adds a field of one byte.</summary>
    public StateMapBuilder<TOwner> Add(ushort id, string name, FieldReference<TOwner, byte> where) => Add(id, name, 1, new ByteAccess<TOwner>(where));

    /// <summary>Adds a field of two bytes.</summary>
    public StateMapBuilder<TOwner> Add(ushort id, string name, FieldReference<TOwner, ushort> where) => Add(id, name, 2, new UInt16Access<TOwner>(where));

    /// <summary>Adds a field of four bytes.</summary>
    public StateMapBuilder<TOwner> Add(ushort id, string name, FieldReference<TOwner, uint> where) => Add(id, name, 4, new UInt32Access<TOwner>(where));

    /// <summary>Adds a field of eight bytes.</summary>
    public StateMapBuilder<TOwner> Add(ushort id, string name, FieldReference<TOwner, ulong> where) => Add(id, name, 8, new UInt64Access<TOwner>(where));

    /// <summary>Adds a truth value: one byte, 0 or 1; any other byte restores as 1.</summary>
    public StateMapBuilder<TOwner> Add(ushort id, string name, FieldReference<TOwner, bool> where) => Add(id, name, 1, new BoolAccess<TOwner>(where));

    /// <summary>Adds an array of bytes; the array itself is never replaced.</summary>
    /// <param name="id">Number of the field.</param>
    /// <param name="name">Name for people.</param>
    /// <param name="width">Length of the array, 1 to 4096.</param>
    /// <param name="where">The array's storage.</param>
    public StateMapBuilder<TOwner> Add(ushort id, string name, int width, FieldReference<TOwner, byte[]> where) => Add(id, name, width, new BytesAccess<TOwner>(where));

    /// <summary>Makes the map.</summary>
    public StateMap<TOwner> Build() => new(_fields.ToImmutable(), _access.ToImmutable());

    private StateMapBuilder<TOwner> Add(ushort id, string name, int width, FieldAccess<TOwner> access)
    {
        foreach (StateField field in _fields)
        {
            if (field.Id == id)
            {
                throw new ArgumentException($"Field number {id} of {name} is already {field.Name}.", nameof(id));
            }
        }

        _fields.Add(new StateField(id, name, width));
        _access.Add(access);
        return this;
    }
}

internal abstract class FieldAccess<TOwner>
{
    public abstract void Read(TOwner owner, Span<byte> destination);

    public abstract void Write(TOwner owner, ReadOnlySpan<byte> source);
}

internal sealed class ByteAccess<TOwner>(FieldReference<TOwner, byte> where) : FieldAccess<TOwner>
{
    public override void Read(TOwner owner, Span<byte> destination) => destination[0] = where(owner);

    public override void Write(TOwner owner, ReadOnlySpan<byte> source) => where(owner) = source[0];
}

internal sealed class UInt16Access<TOwner>(FieldReference<TOwner, ushort> where) : FieldAccess<TOwner>
{
    public override void Read(TOwner owner, Span<byte> destination) => BinaryPrimitives.WriteUInt16LittleEndian(destination, where(owner));

    public override void Write(TOwner owner, ReadOnlySpan<byte> source) => where(owner) = BinaryPrimitives.ReadUInt16LittleEndian(source);
}

internal sealed class UInt32Access<TOwner>(FieldReference<TOwner, uint> where) : FieldAccess<TOwner>
{
    public override void Read(TOwner owner, Span<byte> destination) => BinaryPrimitives.WriteUInt32LittleEndian(destination, where(owner));

    public override void Write(TOwner owner, ReadOnlySpan<byte> source) => where(owner) = BinaryPrimitives.ReadUInt32LittleEndian(source);
}

internal sealed class UInt64Access<TOwner>(FieldReference<TOwner, ulong> where) : FieldAccess<TOwner>
{
    public override void Read(TOwner owner, Span<byte> destination) => BinaryPrimitives.WriteUInt64LittleEndian(destination, where(owner));

    public override void Write(TOwner owner, ReadOnlySpan<byte> source) => where(owner) = BinaryPrimitives.ReadUInt64LittleEndian(source);
}

internal sealed class BoolAccess<TOwner>(FieldReference<TOwner, bool> where) : FieldAccess<TOwner>
{
    public override void Read(TOwner owner, Span<byte> destination) => destination[0] = where(owner) ? (byte)1 : (byte)0;

    public override void Write(TOwner owner, ReadOnlySpan<byte> source) => where(owner) = source[0] != 0;
}

internal sealed class BytesAccess<TOwner>(FieldReference<TOwner, byte[]> where) : FieldAccess<TOwner>
{
    public override void Read(TOwner owner, Span<byte> destination) => where(owner).AsSpan().CopyTo(destination);

    public override void Write(TOwner owner, ReadOnlySpan<byte> source) => source.CopyTo(where(owner));
}
