using System.Reflection;
using System.Runtime.InteropServices;
using System.Runtime.Loader;

namespace VmFuzz.Coverage.Tests;

/// <summary>The life of a map before it is in use: on copies of the assembly, each with a map of its own.</summary>
public sealed unsafe class MapTests
{
    [Fact]
    public void Map_BeforeUse_GrowsAndStartsAtZero()
    {
        Copy map = new();
        Assert.False(map.InUse);
        Assert.Equal(CoverageMap.DefaultCapacity, map.Capacity);
        Assert.True(map.Call<bool>("TryReserve", 3 << 20));
        Assert.False(map.Call<bool>("TryReserve", CoverageMap.MaxCapacity + 1));
        Assert.True(map.Allocate(4 << 20, out int first));
        Assert.Equal(0, first);
        Assert.Equal(4 << 20, map.Capacity);
        Assert.False(map.InUse);
        byte* cells = map.Address;
        Assert.True(map.InUse);
        Assert.False(new Span<byte>(cells, 4 << 20).ContainsAnyExcept((byte)0));
        Assert.False(map.Call<bool>("TryReserve", 5 << 20));
        Assert.False(map.Allocate(1, out _));
    }

    [Fact]
    public void Map_SentToOutsideMemory_CountsThere()
    {
        Copy map = new();
        Assert.True(map.Allocate(100, out _));
        byte* region = (byte*)NativeMemory.AllocZeroed(64);
        byte* large = (byte*)NativeMemory.AllocZeroed(256);
        try
        {
            Assert.False(map.UseExternal(region, 64));
            Assert.False(map.UseExternal(null, 256));
            Assert.True(map.UseExternal(large, 256));
            Assert.Equal(256, map.Capacity);
            Assert.False(map.Allocate(157, out _));
            Assert.True(map.Allocate(156, out int first));
            Assert.Equal(100, first);
            Assert.True(map.Address == large);
            Assert.False(map.UseExternal(region, 256));
            large[255] = 3;
            Assert.Equal(1, map.Call<int>("CountSet"));
            map.Call<object?>("Clear");
            Assert.Equal(0, large[255]);
        }
        finally
        {
            NativeMemory.Free(region);
            NativeMemory.Free(large);
        }
    }

    private sealed class Copy
    {
        private readonly Type _type = new AssemblyLoadContext("map")
            .LoadFromAssemblyPath(typeof(CoverageMap).Assembly.Location)
            .GetType(typeof(CoverageMap).FullName!)!;

        public bool InUse => Call<bool>("get_IsInUse");

        public int Capacity => Call<int>("get_Capacity");

        public byte* Address => (byte*)Pointer.Unbox(Call<Pointer>("get_Address"));

        public T Call<T>(string name, params object?[] arguments) => (T)_type.GetMethod(name)!.Invoke(null, arguments)!;

        public bool UseExternal(byte* cells, int length) => Call<bool>("UseExternal", Pointer.Box(cells, typeof(byte*)), length);

        public bool Allocate(int count, out int first)
        {
            object?[] arguments = [count, 0];
            bool done = Call<bool>("TryAllocate", arguments);
            first = (int)arguments[1]!;
            return done;
        }
    }
}
