using System.Runtime.Intrinsics;
using Iced.Intel;

namespace VmFuzz.Cpu.Microcode.Vectors;

/// <summary>What an operation takes: 16 bytes of each source, or 8 and zeros.</summary>
/// <param name="left">The first source, for instructions of two operands the destination as it was.</param>
/// <param name="right">The second source: a register, memory, zero-extended, or the immediate of a shift.</param>
/// <param name="third">XMM0, for the instructions that use it unnamed.</param>
/// <param name="immediate">The last operand, 0 where it is not an immediate.</param>
internal readonly struct PackedSources(Vector128<byte> left, Vector128<byte> right, Vector128<byte> third, byte immediate)
{
    public Vector128<byte> Left { get; } = left;

    public Vector128<byte> Right { get; } = right;

    public Vector128<byte> Third { get; } = third;

    public byte Immediate { get; } = immediate;
}

/// <summary>Works the destination out. It does not depend on anything but the sources.</summary>
internal delegate Vector128<byte> PackedFunction(in PackedSources sources);

/// <summary>One instruction whose destination is a vector register: what it does, for all of its forms.</summary>
/// <param name="Mnemonic">Its mnemonic.</param>
/// <param name="Xmm">What it does with XMM registers.</param>
/// <param name="Mmx">What it does with MMX registers, whose low eight bytes count.</param>
internal sealed record PackedOperation(Mnemonic Mnemonic, PackedFunction Xmm, PackedFunction Mmx)
{
    /// <summary>Bits of the immediate that belong to the low lane of YMM registers; 0 where all of it belongs to both lanes.</summary>
    public int LaneBits { get; init; }

    /// <summary>How many bytes behind the second source of the low lane that of the high lane of YMM registers starts.</summary>
    public int LaneStride { get; init; } = 16;

    /// <summary>The operand after the registers; INSERTPS takes no place from it where memory is the element.</summary>
    public static byte Control(in Instruction ins)
    {
        int last = ins.OpCount - 1;
        if (ins.GetOpKind(last) != OpKind.Immediate8)
        {
            return 0;
        }

        bool element = ins.Mnemonic is Mnemonic.Insertps or Mnemonic.Vinsertps && ins.GetOpKind(last - 1) == OpKind.Memory;
        return element ? (byte)(ins.Immediate8 & 0x3F) : ins.Immediate8;
    }

    /// <summary>An operation that works element by element, so that it is the same for all widths.</summary>
    public static PackedOperation Of<T>(Mnemonic mnemonic, Func<Vector128<T>, Vector128<T>, Vector128<T>> function) => Of(mnemonic, function, function);

    /// <summary>An operation on two sources.</summary>
    public static PackedOperation Of<T>(
        Mnemonic mnemonic, Func<Vector128<T>, Vector128<T>, Vector128<T>> xmm, Func<Vector128<T>, Vector128<T>, Vector128<T>> mmx) =>
        new(mnemonic, Function(xmm), Function(mmx));

    /// <summary>
    /// An operation that gives half a destination for each source: with MMX registers, what it gives for both sources in
    /// one.
    /// </summary>
    public static PackedOperation OfHalves<T>(Mnemonic mnemonic, Func<Vector128<T>, Vector128<T>, Vector128<T>> function) =>
        Of(mnemonic, function, (left, right) => function(Elements.Join(left, right), default));

    /// <summary>An operation on the second source alone.</summary>
    public static PackedOperation OfSource<T>(Mnemonic mnemonic, Func<Vector128<T>, Vector128<T>> function) => Of<T>(mnemonic, (_, right) => function(right));

    /// <summary>An operation on two sources and an immediate.</summary>
    public static PackedOperation OfImmediate<T>(Mnemonic mnemonic, Func<Vector128<T>, Vector128<T>, byte, Vector128<T>> function) =>
        OfImmediate(mnemonic, function, function);

    /// <summary>An operation on two sources and an immediate.</summary>
    public static PackedOperation OfImmediate<T>(
        Mnemonic mnemonic, Func<Vector128<T>, Vector128<T>, byte, Vector128<T>> xmm, Func<Vector128<T>, Vector128<T>, byte, Vector128<T>> mmx) =>
        new(mnemonic, Function(xmm), Function(mmx));

    /// <summary>An operation on two sources and XMM0.</summary>
    public static PackedOperation OfThree<T>(Mnemonic mnemonic, Func<Vector128<T>, Vector128<T>, Vector128<T>, Vector128<T>> function)
    {
        PackedFunction packed = (in PackedSources sources) =>
            function(sources.Left.As<byte, T>(), sources.Right.As<byte, T>(), sources.Third.As<byte, T>()).As<T, byte>();
        return new(mnemonic, packed, packed);
    }

    private static PackedFunction Function<T>(Func<Vector128<T>, Vector128<T>, Vector128<T>> function) =>
        (in PackedSources sources) => function(sources.Left.As<byte, T>(), sources.Right.As<byte, T>()).As<T, byte>();

    private static PackedFunction Function<T>(Func<Vector128<T>, Vector128<T>, byte, Vector128<T>> function) =>
        (in PackedSources sources) => function(sources.Left.As<byte, T>(), sources.Right.As<byte, T>(), sources.Immediate).As<T, byte>();
}
