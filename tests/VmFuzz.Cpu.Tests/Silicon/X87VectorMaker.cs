using System.Buffers.Binary;
using Iced.Intel;
using VmFuzz.Arch;
using VmFuzz.Cpu.Microcode;
using VmFuzz.Cpu.Tests.Integer;

namespace VmFuzz.Cpu.Tests.Silicon;

/// <summary>Makes vectors of x87 forms for corpus/vectors on the host.</summary>
internal static class X87VectorMaker
{
    /// <summary>The file's name without the extension.</summary>
    public const string FileName = "x87";

    private const ulong Memory = 0x20000;
    private const int UsedRegisters = 3;

    /// <summary>The line of a random case; null where the SDM and the host differ.</summary>
    public static string? Line(X87Thunk thunk, TestProcessor machine, OpCodeInfo form, ref SplitMix64 random)
    {
        byte[] code = X87Forms.Encode(form, ref random);
        byte[] before = new byte[X87Thunk.ImageBytes], memory = new byte[X87Thunk.WindowBytes];
        X87Forms.FillImage(before, ref random);
        X87Forms.FillMemory(form, memory, ref random);
        ulong flags = X87Forms.NextFlags(ref random) & ~RFlags.If;

        // Pointers are not compared and few registers are used, so that the file is small.
        memory.AsSpan(form.MemorySize.GetSize()).Clear();
        before.AsSpan(X87Forms.OpcodeAt, X87Forms.PointersEnd - X87Forms.OpcodeAt).Clear();
        int kept = X87Forms.RegistersAt + (UsedRegisters * 16);
        before.AsSpan(kept, X87Forms.RegistersEnd - kept).Clear();
        if (X87Forms.LeavesConditions(form.Mnemonic) && (before[X87Forms.ConditionsAt] & X87Forms.Condition1) != 0)
        {
            return null;
        }

        thunk.Load(code);
        before.CopyTo(thunk.Before);
        memory.CopyTo(thunk.Window);
        thunk.Flags = flags;
        thunk.Run();
        var given = new List<string>();
        var after = new List<string>();
        Describe(machine, before, flags, given);
        Describe(machine, thunk.After, thunk.Flags & (RFlags.Arithmetic | RFlags.Reserved1), after);
        VectorMaker.Add(given, "rax", Memory, 0);
        bool writes = form.MemorySize != MemorySize.Unknown;
        string start = writes ? VectorMaker.Pieces([(Memory, memory)]) : "";
        string written = VectorMaker.Pieces(FrozenVector.Runs(Memory, memory, thunk.Window.ToArray()));
        return $$"""{"mode":"long","code":"{{Convert.ToHexStringLower(code)}}","max":1,"regs":{{{string.Join(',', given)}}},"mem":[{{start}}]"""
            + $$""","after":{{{string.Join(',', after)}}},"written":[{{written}}],"defined":"0x{{RFlags.Arithmetic:x}}"}""";
    }

    // The processor makes the whole tag word of the image's.
    private static unsafe void Describe(TestProcessor machine, ReadOnlySpan<byte> image, ulong flags, List<string> members)
    {
        FpuControl.LoadX87(machine.Cpu, image, wide: true);
        VectorMaker.Add(members, "rflags", flags, 0);
        VectorMaker.Add(members, "fcw", BinaryPrimitives.ReadUInt16LittleEndian(image), 0);
        VectorMaker.Add(members, "fsw", BinaryPrimitives.ReadUInt16LittleEndian(image[X87Forms.StatusAt..]), ulong.MaxValue);
        VectorMaker.Add(members, "ftw", machine.Cpu.State->Ftw, ulong.MaxValue);
        for (int i = 0; i < 8; i++)
        {
            ReadOnlySpan<byte> register = image[(X87Forms.RegistersAt + (i * 16))..];
            UInt128 value = new(BinaryPrimitives.ReadUInt16LittleEndian(register[8..]), BinaryPrimitives.ReadUInt64LittleEndian(register));
            VectorMaker.Add(members, $"st{i}", value, UInt128.MaxValue);
        }
    }
}
