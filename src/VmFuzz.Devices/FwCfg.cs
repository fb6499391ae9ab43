using System.Buffers.Binary;
using System.Collections.Immutable;
using System.Text;
using VmFuzz.Arch;

namespace VmFuzz.Devices;

/// <summary>Items of a <see cref="FwCfg"/>: keys and their bytes. Immutable.</summary>
public sealed class FwCfgTable
{
    private const ushort SignatureKey = 0;
    private const ushort IdKey = 1;
    private const ushort DirectoryKey = 0x19;
    private const ushort FirstFileKey = 0x20;
    private const int NameLength = 56;

    private readonly ImmutableArray<Item> _items;

    private FwCfgTable(ImmutableArray<Item> items) => _items = items;

    /// <summary>No items but the signature "QEMU" and the interface's id (no DMA).</summary>
    public static FwCfgTable Empty { get; } = new([]);

    /// <summary>The same table with another item; an item of the same key is replaced.</summary>
    /// <param name="key">The key, 2 to 0x18 or with bit 15 set; others belong to the table itself.</param>
    /// <param name="bytes">Its bytes.</param>
    public FwCfgTable With(ushort key, ReadOnlySpan<byte> bytes)
    {
        if (key is SignatureKey or IdKey or DirectoryKey || (key is >= FirstFileKey and < 0x4000))
        {
            throw new ArgumentException($"Key 0x{key:x} is made by the table itself.", nameof(key));
        }

        return new([.. _items.Where(i => i.Name.Length != 0 || i.Key != key), new Item(string.Empty, key, [.. bytes])]);
    }

    /// <summary>The same table with another 16-bit item, little-endian.</summary>
    public FwCfgTable With(ushort key, ushort value)
    {
        Span<byte> bytes = stackalloc byte[2];
        BinaryPrimitives.WriteUInt16LittleEndian(bytes, value);
        return With(key, bytes);
    }

    /// <summary>The same table with another 64-bit item, little-endian.</summary>
    public FwCfgTable With(ushort key, ulong value)
    {
        Span<byte> bytes = stackalloc byte[8];
        BinaryPrimitives.WriteUInt64LittleEndian(bytes, value);
        return With(key, bytes);
    }

    /// <summary>The same table with another file; a file of the same name is replaced.</summary>
    /// <param name="name">Its path, such as "etc/e820": 1 to 55 ASCII characters.</param>
    /// <param name="bytes">Its bytes.</param>
    public FwCfgTable WithFile(string name, ReadOnlySpan<byte> bytes)
    {
        ArgumentException.ThrowIfNullOrEmpty(name);
        if (name.Length >= NameLength || !Ascii.IsValid(name))
        {
            throw new ArgumentException("A file's name has 1 to 55 ASCII characters.", nameof(name));
        }

        return new([.. _items.Where(i => !string.Equals(i.Name, name, StringComparison.Ordinal)), new Item(name, 0, [.. bytes])]);
    }

    /// <summary>All items by ascending key, files numbered by the order of their names, with the directory.</summary>
    internal ImmutableArray<Item> Resolve()
    {
        Item[] files = [.. _items.Where(i => i.Name.Length != 0).OrderBy(i => i.Name, StringComparer.Ordinal)];
        byte[] directory = new byte[4 + (files.Length * (8 + NameLength))];
        BinaryPrimitives.WriteInt32BigEndian(directory, files.Length);
        for (int i = 0; i < files.Length; i++)
        {
            files[i] = files[i] with { Key = (ushort)(FirstFileKey + i) };
            Span<byte> entry = directory.AsSpan(4 + (i * (8 + NameLength)), 8 + NameLength);
            BinaryPrimitives.WriteInt32BigEndian(entry, files[i].Bytes.Length);
            BinaryPrimitives.WriteUInt16BigEndian(entry[4..], files[i].Key);
            Encoding.ASCII.GetBytes(files[i].Name, entry[8..]);
        }

        Item[] own =
        [
            new("signature", SignatureKey, [.. "QEMU"u8]),
            new("id", IdKey, [1, 0, 0, 0]),
            new("directory", DirectoryKey, [.. directory]),
        ];
        return [.. _items.Where(i => i.Name.Length == 0).Concat(own).Concat(files).OrderBy(i => i.Key)];
    }

    internal sealed record Item(string Name, ushort Key, ImmutableArray<byte> Bytes);
}

/// <summary>
/// Firmware configuration (QEMU "Firmware Configuration Device"): a 16-bit selector at 0x510 and a data byte at 0x511.
/// Items are read only; there is no DMA interface. Reads beyond an item, and of unknown keys, give 0.
/// </summary>
public sealed class FwCfg : Device, IPortDevice
{
    /// <summary>The selector's port; the data port is the next one.</summary>
    public const ushort FirstPort = 0x510;

    private const ushort KeyMask = 0xBFFF; // Bit 14 says "write" and selects the same item.

    private static readonly StateMap<FwCfg> s_map = new StateMapBuilder<FwCfg>()
        .Add(1, "selector", static f => ref f._selector)
        .Add(2, "offset", static f => ref f._offset)
        .Build();

    private readonly ImmutableArray<FwCfgTable.Item> _items;
    private ushort _selector;
    private uint _offset;
    private ImmutableArray<byte> _selected;

    /// <summary>Makes the device.</summary>
    /// <param name="table">Its items.</param>
    public FwCfg(FwCfgTable table)
        : base(ComponentId.FwCfg)
    {
        ArgumentNullException.ThrowIfNull(table);
        _items = table.Resolve();
        Reset();
    }

    /// <inheritdoc/>
    protected override StateMap Map => s_map;

    /// <inheritdoc/>
    public override void Reset()
    {
        Select(0);
        Touch();
    }

    /// <summary>Puts the device on a bus.</summary>
    public void Attach(IoBus bus)
    {
        ArgumentNullException.ThrowIfNull(bus);
        bus.AddPorts(FirstPort, 2, this, widest: 2);
    }

    /// <inheritdoc/>
    public uint ReadPort(int offset, int size)
    {
        if (offset == 0 || _offset >= (uint)_selected.Length)
        {
            return 0;
        }

        return _selected[(int)_offset++];
    }

    /// <inheritdoc/>
    public void WritePort(int offset, int size, uint value)
    {
        if (offset == 0)
        {
            Select((ushort)value);
        }
    }

    /// <inheritdoc/>
    protected override void OnStateRestored() => _selected = Find(_selector);

    private void Select(ushort selector)
    {
        _selector = selector;
        _offset = 0;
        _selected = Find(selector);
    }

    private ImmutableArray<byte> Find(ushort selector)
    {
        foreach (FwCfgTable.Item item in _items)
        {
            if (item.Key == (selector & KeyMask))
            {
                return item.Bytes;
            }
        }

        return [];
    }
}
