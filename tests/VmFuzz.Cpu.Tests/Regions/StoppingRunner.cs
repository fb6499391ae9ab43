using System.Globalization;
using System.Text;
using VmFuzz.Arch;
using VmFuzz.Cpu.Tests.Integer;

namespace VmFuzz.Cpu.Tests.Regions;

/// <summary>Runs a program to its #UD, which nobody handles, with stops at random distances.</summary>
internal sealed class StoppingRunner : IBoundary, IDisposable
{
    private readonly TestProcessor _machine;
    private readonly List<string> _stops = [];
    private SplitMix64 _random;
    private int _longest;

    public StoppingRunner(int bitness, Action<Processor> way)
    {
        _machine = new TestProcessor(NativeForms.ModeOf(bitness));
        _machine.Cpu.Boundary = this;
        way(_machine.Cpu);
    }

    public Processor Cpu => _machine.Cpu;

    public void Store(ulong address, ulong value) => _machine.Store(address, value);

    public void Load(byte[] program)
    {
        _machine.LoadCode(RegionProgram.Start, program);
        _machine.Rip = RegionProgram.Start;
    }

    public void Fill(ref SplitMix64 random)
    {
        for (int r = 0; r < 16; r++)
        {
            if (r != (int)Gpr.Rsp)
            {
                _machine[(Gpr)r] = RandomForms.Value(ref random) & NativeForms.MaskOf(_machine.Bitness);
            }
        }

        byte[] window = new byte[NativeThunk.WindowSize];
        random.Fill(window);
        _machine.LoadCode(NativeThunk.WindowAddress, window);
        _machine.Cpu.RFlagsValue = RFlags.Reserved1 | (random.Next() & RFlags.Arithmetic);
    }

    public string[] Run(SplitMix64 random, int longest)
    {
        (_random, _longest) = (random, longest);
        _machine.Cpu.StateChanged();
        CpuStop stop;
        do
        {
            stop = _machine.Cpu.Run();
        }
        while (stop == CpuStop.Requested);

        _stops.Add($"{stop} {Text()}");
        return [.. _stops];
    }

    public bool OnBoundary(ulong retired, out ulong nextLimit)
    {
        if (_longest < 4000)
        {
            _stops.Add(Text());
        }

        nextLimit = retired + 1 + (ulong)_random.Below(_longest);
        return true;
    }

    public void Dispose() => _machine.Dispose();

    private string Text()
    {
        var text = new StringBuilder();
        for (int r = 0; r < 16; r++)
        {
            text.Append(CultureInfo.InvariantCulture, $"{(Gpr)r}={_machine[(Gpr)r]:x} ");
        }

        byte[] window = new byte[NativeThunk.WindowSize];
        _machine.Read(NativeThunk.WindowAddress, window);
        return text.Append(CultureInfo.InvariantCulture, $"rip={_machine.Rip:x} flags={Cpu.RFlagsValue:x} retired={Cpu.Retired} {Convert.ToHexString(System.Security.Cryptography.SHA256.HashData(window))}").ToString();
    }
}
