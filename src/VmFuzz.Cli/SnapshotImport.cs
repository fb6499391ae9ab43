using System.Globalization;
using System.Text.Json;
using VmFuzz.Arch;
using VmFuzz.Cli.Exec;
using VmFuzz.Cpu;
using VmFuzz.Machines;
using VmFuzz.Machines.Vectors;

namespace VmFuzz.Cli;

/// <summary>
/// Makes a machine of raw memory and registers from elsewhere, as another emulator's monitor dumps them. Format:
/// src/docs/snapshots.md.
/// </summary>
internal static class SnapshotImport
{
    private const int LongestFile = 1 << 20;
    private const string Advice = "see src/docs/snapshots.md";

    /// <summary>Reads a description and what it names.</summary>
    /// <param name="path">The description.</param>
    /// <param name="cpu">The processor's model.</param>
    public static Machine Read(string path, string cpu)
    {
        byte[] text = InputFiles.Read(path, "the description", LongestFile);
        try
        {
            using JsonDocument document = JsonDocument.Parse(text, new JsonDocumentOptions { MaxDepth = 8 });
            return Make(path, document.RootElement, cpu);
        }
        catch (JsonException error)
        {
            throw UserError.At(string.Create(CultureInfo.InvariantCulture, $"not JSON in line {(error.LineNumber ?? 0) + 1}"), path, Advice);
        }
    }

    private static Machine Make(string path, JsonElement root, string cpu)
    {
        string regs = "{}";
        string mode = "\"long\"";
        bool complete = true;
        var pieces = new List<(ulong At, byte[] Bytes)>();
        if (root.ValueKind != JsonValueKind.Object)
        {
            throw UserError.At("not a JSON object", path, Advice);
        }

        foreach (JsonProperty member in root.EnumerateObject())
        {
            switch (member.Name)
            {
                case "regs":
                    regs = member.Value.GetRawText();
                    break;
                case "mode":
                    mode = member.Value.GetRawText();
                    break;
                case "rest" when member.Value.ValueKind == JsonValueKind.String && member.Value.ValueEquals("default"):
                    complete = false;
                    break;
                case "mem" when member.Value.ValueKind == JsonValueKind.Array && member.Value.GetArrayLength() <= MemoryMap.MaxRuns:
                    long total = 0;
                    foreach (JsonElement piece in member.Value.EnumerateArray())
                    {
                        pieces.Add(PieceOf(path, piece, ref total));
                    }

                    break;
                default:
                    throw UserError.At($"the member '{member.Name}' is none, or not as it must be", path, Advice);
            }
        }

        var reader = new VectorReader();
        if (reader.TryRead(System.Text.Encoding.UTF8.GetBytes($"{{\"code\":\"\",\"mode\":{mode},\"regs\":{regs}}}")) is { } wrong)
        {
            throw UserError.At(wrong, path, Advice);
        }

        if (complete && Missing(reader.Vector) is { Length: > 0 } missing)
        {
            throw UserError.At($"registers are missing: {missing}", path, "give them, or \"rest\": \"default\" for the values that vmfuzz exec has");
        }

        return Make(path, reader.Vector, pieces, cpu);
    }

    private static Machine Make(string path, InstructionVector vector, List<(ulong At, byte[] Bytes)> pieces, string cpu)
    {
        if (MemoryMap.TryWrite(pieces.Select(static p => (p.At, (ulong)p.Bytes.Length)), out byte[] map) is { } unfit)
        {
            throw UserError.At(unfit, path, Advice);
        }

        int cr3 = VectorRegister.Find("cr3");
        if (vector.Mode is null or VectorMode.Long && !vector.Has(cr3))
        {
            throw UserError.At("long mode needs cr3", path, Advice);
        }

        CpuModels.TryParse(cpu, out CpuModel model);
        using var loader = new VectorMachine(CpuModels.With(model, CpuFeatures.None, CpuFeatures.X2Apic | CpuFeatures.TscDeadline));
        if (loader.TryLoad(vector) is { } wrong)
        {
            throw UserError.At(wrong, path, Advice);
        }

        var options = new MachineOptions
        {
            Kind = MachineKind.Imported,
            Cpu = cpu,
            Images = [new MachineImage(MachineImage.MapRole, Path.GetFileName(path), map)],
        };
        return options.Validate() is { } bad
            ? throw UserError.At(bad, path, Advice)
            : Machine.Create(options, new LiveSource(null), new MachineVariants
            {
                Prepare = machine =>
                {
                    foreach ((ulong at, byte[] bytes) in pieces)
                    {
                        machine.Memory.TryLoad(new Gpa(at), bytes);
                    }

                    loader.CopyRegisters(machine.Processor);
                },
            });
    }

    private static (ulong At, byte[] Bytes) PieceOf(string path, JsonElement piece, ref long total)
    {
        if (piece.ValueKind != JsonValueKind.Object || piece.EnumerateObject().Count() != 2
            || !piece.TryGetProperty("at", out JsonElement at) || at.ValueKind != JsonValueKind.String
            || !HexText.TryNumber(System.Text.Encoding.UTF8.GetBytes(at.GetString()!), out VectorValue address) || address.Length > 64
            || !piece.TryGetProperty("file", out JsonElement name) || name.ValueKind != JsonValueKind.String)
        {
            throw UserError.At("a piece of mem is an object of at, a string of 0x and at most 16 digits, and file, a path", path, Advice);
        }

        string file = Path.Combine(Path.GetDirectoryName(Path.GetFullPath(path))!, name.GetString()!);
        byte[] bytes = InputFiles.Read(file, "the memory", MachineOptions.MaxSnapshot);
        total += bytes.Length;
        return total <= MachineOptions.MaxSnapshot
            ? ((ulong)address.Low, bytes)
            : throw UserError.At($"the memory has more than {MachineOptions.MaxSnapshot >> 20} MiB", path, "import less of it");
    }

    // The high halves of the vector registers may stay away: many dumps lack them.
    private static string Missing(InstructionVector vector)
    {
        var missing = new List<string>();
        for (int i = 0; i < VectorRegister.All.Length; i++)
        {
            VectorRegister row = VectorRegister.All[i];
            bool given = vector.Has(i)
                || row.Kind == VectorRegisterKind.Ymm
                || (row.Kind == VectorRegisterKind.Xmm && vector.Has(VectorRegister.Find($"ymm{row.Number}")));
            if (row.Settable && !given)
            {
                missing.Add(row.Name);
            }
        }

        return missing.Count <= 8 ? string.Join(", ", missing) : string.Join(", ", missing.Take(8)) + $" and {missing.Count - 8} more";
    }
}
