using System.Globalization;
using System.Runtime.CompilerServices;
using System.Text;

namespace VmFuzz.Coverage.Tests;

/// <summary>Code that the tests instrument: each entry takes bytes and gives bytes.</summary>
public static class Samples
{
    /// <summary>All entries that must behave alike with probes and without.</summary>
    public static readonly string[] Names =
        [nameof(Branch), nameof(Handlers), nameof(Filter), nameof(Switches), nameof(Generics), nameof(Iterators), nameof(Lambdas), nameof(Data), nameof(Ternaries), nameof(Async), nameof(Records), nameof(Locks)];

    public static byte[] Branch(byte[] input)
    {
        if (input.Length > 0 && input[0] > 10)
        {
            return [1];
        }

        return [2];
    }

    [SkipCoverage]
    private static byte Set() => (byte)CoverageMap.CountSet();

    /// <summary>How many cells of the map were set at each step.</summary>
    public static byte[] Order(byte[] input)
    {
        int n = input.Length;
        var seen = new List<byte> { Set() };
        if (n != 1000)
        {
            seen.Add(Set());
        }

        if (n != 1001)
        {
            seen.Add(Set());
        }

        return [.. seen];
    }

    public static byte[] Handlers(byte[] input)
    {
        var text = new StringBuilder();
        for (int i = 0; i < 4; i++)
        {
            try
            {
                try
                {
                    text.Append(i);
                    if (i == 1)
                    {
                        throw new InvalidOperationException("one");
                    }

                    if (i == 2)
                    {
                        _ = input[input.Length];
                    }

                    if (i == 3)
                    {
                        continue;
                    }
                }
                finally
                {
                    text.Append('f');
                }

                text.Append('n');
            }
            catch (InvalidOperationException e)
            {
                text.Append(e.Message);
            }
            catch (IndexOutOfRangeException)
            {
                text.Append('x');
            }
        }

        return Encoding.UTF8.GetBytes(text.ToString());
    }

    public static byte[] Filter(byte[] input)
    {
        int calls = 0;
        for (int i = 0; i < 3; i++)
        {
            try
            {
                throw new ArgumentException(i.ToString(CultureInfo.InvariantCulture));
            }
            catch (ArgumentException e) when (e.Message == "1" || (input.Length > 0 && input[0] == i))
            {
                calls += 100;
            }
            catch (ArgumentException)
            {
                calls++;
            }
        }

        return BitConverter.GetBytes(calls);
    }

    public static byte[] Switches(byte[] input)
    {
        var result = new List<byte>();
        foreach (byte b in input)
        {
            result.Add(b switch { 0 => 7, 1 => 9, 2 => 1, 3 => 4, 4 => 8, 5 => 200, 6 => 0, _ => 3 });
            switch ($"{b}")
            {
                case "1": result.Add(1); break;
                case "2": result.Add(2); break;
                case "33": result.Add(3); goto case "2";
                case "44": case "55": result.Add(4); break;
                case "66": result.Add(6); break;
                case "77": result.Add(7); break;
                case "88": result.Add(8); break;
                default: result.Add(0); break;
            }
        }

        return [.. result];
    }

    public static byte[] Generics(byte[] input) =>
        [(byte)Largest<byte>(input, 3), (byte)Largest<long>([.. input.Select(static b => (long)b)], 5), (byte)new Box<string>("abc").Use(static s => s.Length), (byte)new Box<int>(4).Use(static i => i + 1)];

    public static byte[] Iterators(byte[] input) => [.. Twice(input).Take(9)];

    public static byte[] Lambdas(byte[] input)
    {
        int sum = 0;
        Array.ForEach(input, b => sum += b > 5 ? Local(b) : 1);
        return BitConverter.GetBytes(sum);

        int Local(int x) => x + input.Length;
    }

    public static byte[] Data(byte[] input)
    {
        ReadOnlySpan<ulong> words = [1, 2, 0x1122334455667788, 4];
        ReadOnlySpan<byte> bytes = [9, 8, 7];
        ulong sum = (ulong)input.Length;
        foreach (ulong word in words)
        {
            sum += word * bytes[1];
        }

        return BitConverter.GetBytes(sum);
    }

    public static byte[] Ternaries(byte[] input) =>
        [Add(input.Length > 2 ? (byte)1 : (byte)2, input.Length > 0 && input[0] == 1 ? Add(3, input.Length == 1 ? (byte)4 : (byte)5) : (byte)6), (byte)(input?.Length ?? 77)];

    public static byte[] Async(byte[] input) => AsyncBody(input).GetAwaiter().GetResult();

    public static byte[] Records(byte[] input)
    {
        var a = new Pair(input.Length, "x");
        Pair b = a with { Name = "y" };
        return [(byte)(a == b ? 1 : 0), (byte)(a with { Name = "y" } == b ? 1 : 0), (byte)b.ToString().Length];
    }

    public static byte[] Locks(byte[] input)
    {
        using var stream = new MemoryStream();
        lock (stream)
        {
            foreach (byte b in input)
            {
                if (b == 3)
                {
                    return stream.ToArray();
                }

                stream.WriteByte((byte)(b + 1));
            }
        }

        return stream.ToArray();
    }

    [SkipCoverage]
    public static byte[] Skipped(byte[] input)
    {
        int sum = 0;
        Array.ForEach(input, b => sum += b > 5 ? 2 : 1);
        return [(byte)sum];
    }

    public static int Small(int a) => a + 1;

    public static readonly Func<int, int> OfTaken = Taken;

    private static int Taken(int a) => a + 2;

    private static async Task<byte[]> AsyncBody(byte[] input)
    {
        var list = new List<byte>();
        foreach (byte b in input)
        {
            try
            {
                await Task.Yield();
                list.Add(b == 2 ? throw new InvalidOperationException() : b);
            }
            catch (InvalidOperationException)
            {
                list.Add(await Task.FromResult((byte)99));
            }
        }

        return [.. list];
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static byte Add(byte a, byte b) => (byte)(a * 10 + b);

    private static T Largest<T>(T[] values, T start)
        where T : IComparable<T>
    {
        foreach (T value in values)
        {
            start = value.CompareTo(start) > 0 ? value : start;
        }

        return start;
    }

    private static IEnumerable<byte> Twice(byte[] input)
    {
        foreach (byte b in input)
        {
            yield return b;
            if (b % 2 == 0)
            {
                yield return (byte)(b + 100);
            }
        }
    }

    private sealed record Pair(int Number, string Name);

    private sealed class Box<T>(T value)
    {
        public TResult Use<TResult>(Func<T, TResult> use) => value is null ? throw new InvalidOperationException() : use(value);
    }
}
