using System.Globalization;
using System.IO.Compression;
using System.Text.Json;
using Iced.Intel;
using VmFuzz.Arch;
using VmFuzz.Machines.Vectors;

namespace VmFuzz.Cpu.Tests.Silicon;

/// <summary>A vector of corpus/vectors: an input of <c>vmfuzz exec</c> and what a processor made of it.</summary>
internal sealed class FrozenVector
{
    private static readonly int Flags = VectorRegister.Find("rflags");

    // What the defaults of the modes are not zero in, of the registers that are compared.
    private static readonly (int Register, ulong Value)[] Defaults =
    [
        (VectorRegister.Find("rsp"), 0x8000), (VectorRegister.Find("mxcsr"), 0x1F80), (VectorRegister.Find("fcw"), 0x37F), (VectorRegister.Find("ftw"), 0xFFFF),
    ];

    private readonly Dictionary<int, VectorValue> _given = [];
    private readonly Dictionary<int, VectorValue> _after = [];

    private FrozenVector(string line, JsonElement json)
    {
        Text = line;
        Start.Mode = Enum.Parse<VectorMode>(json.GetProperty("mode").GetString()!, ignoreCase: true);
        byte[] code = Convert.FromHexString(json.GetProperty("code").GetString()!);
        Start.Code = code;
        Start.Max = json.TryGetProperty("max", out JsonElement max) ? max.GetUInt64() : 1;
        Read(json.GetProperty("regs"), "", _given);
        foreach ((int register, VectorValue value) in _given)
        {
            Assert.Null(Start.TrySet(register, value));
        }

        foreach ((ulong at, byte[] bytes) in Pieces(json, "mem"))
        {
            Start.Add(new VectorBytes(at, bytes));
        }

        Read(json.GetProperty("after"), "", _after);
        Written = string.Concat(Pieces(json, "written").Select(static piece => Run(piece.At, piece.Bytes)));
        Defined = (ulong)Number(json.GetProperty("defined")).Low;
        if (json.TryGetProperty("fault", out JsonElement fault))
        {
            Fault = new SiliconFault(fault.GetProperty("vector").GetInt32(), Optional(fault, "error"), Optional(fault, "address"));
        }

        var decoder = Decoder.Create(Bitness, new ByteArrayCodeReader(code), 0);
        First = decoder.Decode();
    }

    /// <summary>The line of the file.</summary>
    public string Text { get; }

    public InstructionVector Start { get; } = new();

    /// <summary>The form of its first instruction.</summary>
    public Code Form => First.Code;

    private Instruction First { get; }

    /// <summary>What it ended with; null: it retired as many instructions as it may.</summary>
    public SiliconFault? Fault { get; }

    /// <summary>The bits of RFLAGS that are compared.</summary>
    public ulong Defined { get; }

    private string Written { get; }

    private int Bitness => Start.Mode switch
    {
        VectorMode.Protected16 => 16,
        VectorMode.Protected32 => 32,
        _ when _given.TryGetValue(VectorRegister.Find("cs.attr"), out VectorValue attributes) =>
            (attributes.Low & SegmentAttributes.L) != 0 ? 64 : (attributes.Low & SegmentAttributes.Db) != 0 ? 32 : 16,
        _ => 64,
    };

    /// <summary>Reads all files.</summary>
    public static FrozenVector[] ReadAll() => [.. VectorFile.All.SelectMany(static file => Read(file.Path))];

    // The first line of a file says how many vectors there are.
    private static FrozenVector[] Read(string path)
    {
        using FileStream file = File.OpenRead(path);
        using var reader = new StreamReader(new GZipStream(file, CompressionMode.Decompress));
        string[] lines = reader.ReadToEnd().Split('\n', StringSplitOptions.RemoveEmptyEntries);
        using JsonDocument header = JsonDocument.Parse(lines[0]);
        Assert.Equal(lines.Length - 1, header.RootElement.GetProperty("vectors").GetInt32());
        return [.. lines.Skip(1).Select(static line =>
        {
            using JsonDocument json = JsonDocument.Parse(line);
            return new FrozenVector(line, json.RootElement);
        })];
    }

    /// <summary>Executes it on a machine that was made without keeping.</summary>
    /// <returns>The first difference, or null.</returns>
    public string? Replay(VectorMachine machine)
    {
        Assert.Null(machine.TryLoad(Start));
        VectorOutcome outcome = machine.Run(Start.Max);
        if (Fault is { } fault)
        {
            GuestEvent raised = outcome.Event;
            ulong address = raised.Vector == Vector.Pf ? raised.Address : 0;
            if (outcome.Stop != VectorStop.Fault || raised.Vector != fault.Vector || raised.ErrorCode != fault.ErrorCode || address != fault.Address)
            {
                return $"{outcome.Stop} {outcome.Unimplemented} vector {raised.Vector} error 0x{raised.ErrorCode:x} address 0x{address:x}";
            }
        }
        else if (outcome.Stop != VectorStop.Max)
        {
            return $"{outcome.Stop} {outcome.Unimplemented} {outcome.Event.Vector}";
        }

        return Registers(machine)
            ?? (Changes(machine) is var written && written != Written ? $"writes {written}" : null)
            ?? UndefinedFlags(machine);
    }

    /// <summary>Runs of bytes that differ, as <see cref="Written"/> has them; a run ends with its page.</summary>
    public static IEnumerable<(ulong At, byte[] Bytes)> Runs(ulong address, byte[] before, byte[] after)
    {
        for (int at = before.AsSpan().CommonPrefixLength(after); at < after.Length; at += before.AsSpan(at).CommonPrefixLength(after.AsSpan(at)))
        {
            int start = at;
            while (at < after.Length && before[at] != after[at] && (at == start || ((address + (ulong)at) & 0xFFF) != 0))
            {
                at++;
            }

            yield return (address + (ulong)start, after[start..at]);
        }
    }

    /// <summary>The repository.</summary>
    public static string Root()
    {
        string? folder = AppContext.BaseDirectory;
        while (folder is not null && !File.Exists(Path.Combine(folder, "VmFuzz.sln")))
        {
            folder = Path.GetDirectoryName(folder);
        }

        return folder ?? throw new InvalidOperationException("the tests do not run inside the repository");
    }

    private string? Registers(VectorMachine machine)
    {
        for (int i = 0; i < VectorRegister.All.Length; i++)
        {
            VectorRegister row = VectorRegister.All[i];
            if (!IsCompared(row))
            {
                continue;
            }

            if (row.Kind == VectorRegisterKind.Xmm)
            {
                if (Wide(row.Number, machine) is { } difference)
                {
                    return difference;
                }

                continue;
            }

            VectorValue before = Before(row, i, machine);
            VectorValue expected = _after.TryGetValue(i, out VectorValue after) ? after : before;
            VectorValue actual = machine.TryChange(i, out VectorValue changed) ? changed : before;
            UInt128 mask = i == Flags ? Defined : UInt128.MaxValue;
            if (((expected.Low ^ actual.Low) & mask) != 0 && !(row.Name == "rip" && !_after.ContainsKey(i)))
            {
                return $"{row.Name} is 0x{actual.Low & mask:x}";
            }
        }

        return null;
    }

    // A vector register is given, or was changed, as XMM register where the upper half is zero, or as it was.
    private string? Wide(int number, VectorMachine machine)
    {
        int xmm = VectorRegister.Find($"xmm{number}"), ymm = VectorRegister.Find($"ymm{number}");
        VectorValue before = _given.TryGetValue(ymm, out VectorValue wide) || _given.TryGetValue(xmm, out wide) ? wide : default;
        VectorValue expected = _after.TryGetValue(ymm, out wide) ? wide : _after.TryGetValue(xmm, out wide) ? new(wide.Low, before.High) : before;
        VectorValue actual = machine.TryChange(ymm, out wide) ? wide : machine.TryChange(xmm, out wide) ? new(wide.Low, before.High) : before;
        return expected == actual ? null : $"ymm{number} is 0x{actual.High:x}{actual.Low:x32}";
    }

    // Registers of the x87 stack are named from its top, here as it is now.
    private VectorValue Before(VectorRegister row, int index, VectorMachine machine)
    {
        if (row.Kind == VectorRegisterKind.Stack)
        {
            int moved = (int)((After(machine, "fsw") >> 11) - (Word(_given, "fsw") >> 11));
            index = VectorRegister.Find($"st{(row.Number + moved) & 7}");
        }

        return _given.TryGetValue(index, out VectorValue given) ? given : Default(index);
    }

    // Flags that the SDM leaves open have the documented values where the instruction completed with its result in a register.
    private string? UndefinedFlags(VectorMachine machine)
    {
        ulong undefined = RFlags.Arithmetic & ~Defined;
        bool result = First.OpCount == 0 || First.Op0Kind == OpKind.Register || First.OpCount == 1;
        if (undefined == 0 || !result || After(machine, "rip") != Word(_given, "rip") + (ulong)Start.Code.Length - 1)
        {
            return null;
        }

        int size = First.OpCount == 0 || First.Mnemonic is Mnemonic.Aam or Mnemonic.Aad ? 1 : Processor.OperandSize(First, 0);
        bool implied = First.OpCount == 0 || (First.OpCount == 1 && First.Mnemonic is Mnemonic.Mul or Mnemonic.Imul);
        ulong value = implied || !First.Op0Register.IsGPR() ? After(machine, "rax") : ReadRegister(machine, First.Op0Register);
        ulong after = After(machine, "rflags");
        ulong choice = UndefinedFlagChoices.Of(First.Mnemonic, new FlagFacts(Word(_given, "rflags"), after, value & Processor.MaskOfSize(size), size * 8, Count(size)));
        return ((choice ^ after) & undefined) == 0 ? null : $"undefined flags 0x{undefined:x} are 0x{after & undefined:x}, the choice is 0x{choice & undefined:x}";
    }

    private int Count(int size)
    {
        int last = First.OpCount - 1;
        ulong count = last < 1 ? 0 : First.GetOpKind(last) is OpKind.Register or OpKind.Memory ? Word(_given, "rcx") : First.GetImmediate(last);
        return (int)count & (size == 8 ? 63 : 31);
    }

    private ulong ReadRegister(VectorMachine machine, Register register) =>
        After(machine, General[register.GetFullRegister() - Register.RAX]) >> (register is >= Register.AH and <= Register.BH ? 8 : 0);

    private ulong After(VectorMachine machine, string register) =>
        machine.TryChange(VectorRegister.Find(register), out VectorValue changed) ? (ulong)changed.Low : Word(_given, register);

    private static ulong Word(Dictionary<int, VectorValue> values, string register) =>
        values.TryGetValue(VectorRegister.Find(register), out VectorValue value) ? (ulong)value.Low : 0;

    private static bool IsCompared(VectorRegister row) => row.Kind is VectorRegisterKind.Xmm or VectorRegisterKind.Stack
        || row.Name is "rip" or "rflags" or "mxcsr" or "fcw" or "fsw" or "ftw" or "ds.sel" or "es.sel" or "ss.sel" || Array.IndexOf(General, row.Name) >= 0;

    /// <summary>Names of the general registers, by their numbers.</summary>
    public static readonly string[] General = [.. Enumerable.Range(0, 16).Select(static r => ((Gpr)r).ToString().ToLowerInvariant())];

    private static VectorValue Default(int register) => Defaults.FirstOrDefault(row => row.Register == register).Value;

    private static string Changes(VectorMachine machine)
    {
        string text = "";
        foreach (VectorPage page in machine.WrittenPages())
        {
            machine.ReadPage(page, out ReadOnlySpan<byte> before, out ReadOnlySpan<byte> after);
            foreach ((ulong at, byte[] bytes) in Runs(page.Address, before.ToArray(), after.ToArray()))
            {
                text += Run(at, bytes);
            }
        }

        return text;
    }

    private static string Run(ulong at, byte[] bytes) => $"{at:x}:{Convert.ToHexStringLower(bytes)} ";

    private static void Read(JsonElement registers, string prefix, Dictionary<int, VectorValue> values)
    {
        foreach (JsonProperty register in registers.EnumerateObject())
        {
            if (register.Value.ValueKind == JsonValueKind.Object)
            {
                Read(register.Value, register.Name + ".", values);
                continue;
            }

            int index = VectorRegister.Find(prefix + register.Name);
            Assert.True(index >= 0, register.Name);
            values.Add(index, Number(register.Value));
        }
    }

    private static IEnumerable<(ulong At, byte[] Bytes)> Pieces(JsonElement json, string member) => json.TryGetProperty(member, out JsonElement pieces)
        ? pieces.EnumerateArray().Select(static piece => ((ulong)Number(piece.GetProperty("at")).Low, Convert.FromHexString(piece.GetProperty("hex").GetString()!)))
        : [];

    private static ulong Optional(JsonElement json, string member) => json.TryGetProperty(member, out JsonElement value) ? (ulong)Number(value).Low : 0;

    private static VectorValue Number(JsonElement value)
    {
        ReadOnlySpan<char> digits = value.GetString().AsSpan(2);
        int high = Math.Max(digits.Length - 32, 0);
        return new(Half(digits[high..]), high == 0 ? 0 : Half(digits[..high]));
    }

    private static UInt128 Half(ReadOnlySpan<char> digits) => UInt128.Parse(digits, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture);
}
