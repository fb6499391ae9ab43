using System.IO.Compression;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics.X86;
using System.Text;
using Iced.Intel;
using VmFuzz.Arch;
using VmFuzz.Cpu.Tests.Integer;
using Decoder = Iced.Intel.Decoder;

namespace VmFuzz.Cpu.Tests.Silicon;

/// <summary>Writes what the host's processor makes of cases as lines of corpus/vectors.</summary>
internal static class VectorMaker
{
    private const ulong Max = 1000;
    private const ulong SystemFlags = RFlags.If | (3UL << 12) | RFlags.Id;

    /// <summary>The line of a case; null when the SDM leaves its result open.</summary>
    public static string? Line(NativeSandbox host, SiliconCase one)
    {
        var decoder = Decoder.Create(one.Bitness, new ByteArrayCodeReader(one.Code), one.Start.Rip);
        Instruction ins = decoder.Decode();
        Assert.True(InstructionTable.Default.TryFind(ins, out InstructionRow row));
        ulong defined = NativeForms.DefinedFlags(ins, one.Start.Registers[1], row.UndefinedFlags, out bool resultDefined) | SystemFlags;
        if (!resultDefined)
        {
            return null;
        }

        SiliconState after = host.Run(one, out SiliconFault fault);
        byte[] before = new byte[NativeSandbox.WindowSize];
        foreach ((ulong at, byte[] bytes) in one.Memory)
        {
            bytes.CopyTo(before, (int)(at - NativeSandbox.WindowAddress));
        }

        var wanted = new List<string>();
        for (int r = 0; r < NativeForms.RegistersOf(one.Bitness); r++)
        {
            ulong value = after.Registers[r] & NativeForms.MaskOf(one.Bitness);
            Add(wanted, FrozenVector.General[r], value, one.Start.Registers[r]);
        }

        for (int r = 0; r < NativeForms.RegistersOf(one.Bitness); r++)
        {
            if (after.High[r] != one.Start.High[r] || after.High[r] != 0)
            {
                wanted.Add(Wide(r, after));
            }
            else
            {
                Add(wanted, $"xmm{r}", after.Xmm[r], one.Start.Xmm[r]);
            }
        }

        // Names count from the top of the stack, which may have moved: what is compared is the register.
        for (int place = 0; place < 8; place++)
        {
            Add(wanted, $"st{place}", after.Stack(place), one.Start.X87[(((after.Fsw >> 11) & 7) + place) & 7]);
        }

        Add(wanted, "ftw", after.Tags, one.Start.Tags);
        Add(wanted, "mxcsr", after.Mxcsr, one.Start.Mxcsr);
        Add(wanted, "fcw", after.Fcw, one.Start.Fcw);
        Add(wanted, "fsw", after.Fsw, one.Start.Fsw);
        ushort data = one.Bitness == 64 ? (ushort)0 : NativeSandbox.DataSelector;
        Add(wanted, "es.sel", after.Segments[0], data);
        Add(wanted, "ss.sel", after.Segments[1], NativeSandbox.DataSelector);
        Add(wanted, "ds.sel", after.Segments[2], data);
        wanted.Add(Number("rip", after.Rip));
        wanted.Add(Number("rflags", after.Flags & defined));
        string memory = Pieces(one.Memory);
        string written = Pieces(FrozenVector.Runs(NativeSandbox.WindowAddress, before, NativeSandbox.Window.ToArray()));
        return $$"""{"mode":"long","code":"{{Convert.ToHexStringLower(one.Code)}}","max":{{Max}},"regs":{{{Given(one, (row.Feature & (CpuFeatures.Avx | CpuFeatures.Avx2)) != 0)}}},"mem":[{{memory}}]"""
            + $$""","after":{{{string.Join(',', wanted)}}},"written":[{{written}}],"fault":{{{Fault(fault)}}},"defined":"0x{{defined:x}}"}""";
    }

    /// <summary>Writes a file: a line about it, then the vectors.</summary>
    public static void WriteFile(string path, List<string> lines)
    {
        using FileStream file = File.Create(path);
        using var gzip = new GZipStream(file, CompressionLevel.SmallestSize);
        gzip.Write(Encoding.UTF8.GetBytes($$"""{"made-on":"{{ProcessorName()}}","vectors":{{lines.Count}}}""" + "\n" + string.Join('\n', lines) + "\n"));
    }

    private static string Given(SiliconCase one, bool avx)
    {
        var given = new List<string>();
        for (int r = 0; r < NativeForms.RegistersOf(one.Bitness); r++)
        {
            Add(given, FrozenVector.General[r], one.Start.Registers[r], r == 4 ? ulong.MaxValue : 0);
            if (one.Start.High[r] != 0)
            {
                given.Add(Wide(r, one.Start));
            }
            else
            {
                Add(given, $"xmm{r}", one.Start.Xmm[r], 0);
            }
        }

        for (int place = 0; place < 8; place++)
        {
            Add(given, $"st{place}", one.Start.Stack(place), 0);
        }

        Add(given, "fsw", one.Start.Fsw, 0);
        Add(given, "ftw", one.Start.Tags, 0xFFFF);
        given.Add(Number("rip", one.Start.Rip));
        given.Add(Number("rflags", one.Start.Flags));
        string none = """{"sel":"0x0","limit":"0x0","attr":"0x10000"}""";
        string data = $$"""{"sel":"0x{{NativeSandbox.DataSelector:x}}","attr":"0xc0f3"}""";
        string flat = one.Bitness == 64 ? none : data;
        string code = one.Bitness switch
        {
            64 => "\"attr\":\"0xa0fb\"",
            32 => "\"attr\":\"0xc0fb\"",
            _ => $"\"base\":\"0x{NativeSandbox.Code16Base:x}\",\"limit\":\"0xffff\",\"attr\":\"0xfb\"",
        };
        given.Add($$"""
            "cs":{"sel":"0x{{NativeSandbox.SelectorOf(one.Bitness):x}}",{{code}}},"ss":{{data}},"ds":{{flat}},"es":{{flat}},"fs":{{none}},"gs":{{none}}
            """);
        given.Add("""
            "tr":{"limit":"0x0"}
            """);
        given.Add(Number("cr4", Cr4.Pae | Cr4.Osfxsr | Cr4.Osxmmexcpt | Cr4.Osxsave));
        if (avx)
        {
            given.Add(Number("xcr0", 7));
        }

        given.Add(Number("efer", Efer.Lme | Efer.Lma | Efer.Nxe));
        return string.Join(',', given);
    }

    private static string Fault(SiliconFault fault)
    {
        string text = $"\"vector\":{fault.Vector}";
        text += Vector.HasErrorCode((byte)fault.Vector) ? "," + Number("error", fault.ErrorCode) : "";
        return text + (fault.Vector == Vector.Pf ? "," + Number("address", fault.Address) : "");
    }

    private static string Pieces(IEnumerable<(ulong At, byte[] Bytes)> pieces) =>
        string.Join(',', pieces.Select(static piece => $$"""{"at":"0x{{piece.At:x}}","hex":"{{Convert.ToHexStringLower(piece.Bytes)}}"}"""));

    private static void Add(List<string> members, string name, UInt128 value, UInt128 other)
    {
        if (value != other)
        {
            members.Add(Number(name, value));
        }
    }

    private static string Wide(int register, SiliconState state) => $"\"ymm{register}\":\"0x{state.High[register]:x}{state.Xmm[register]:x32}\"";

    private static string Number(string name, UInt128 value) => $"\"{name}\":\"0x{value:x}\"";

    // The brand string, and the signature that tells models of one name apart.
    private static string ProcessorName()
    {
        Span<int> brand = stackalloc int[12];
        for (int i = 0; i < 3; i++)
        {
            (brand[i * 4], brand[(i * 4) + 1], brand[(i * 4) + 2], brand[(i * 4) + 3]) = X86Base.CpuId(unchecked((int)0x8000_0002) + i, 0);
        }

        string name = Encoding.ASCII.GetString(MemoryMarshal.AsBytes(brand)).TrimEnd('\0', ' ');
        return $"{name}, signature 0x{X86Base.CpuId(1, 0).Eax:x}";
    }
}
