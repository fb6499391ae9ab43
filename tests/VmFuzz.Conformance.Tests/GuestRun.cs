using System.Text;
using VmFuzz.Arch;
using VmFuzz.Machines;

namespace VmFuzz.Conformance.Tests;

/// <summary>What a run of a guest of the corpus gave.</summary>
internal sealed record GuestRun(MachineStop Stop, string Output, ulong Retired)
{
    /// <summary>Runs a guest on the flat machine.</summary>
    public static GuestRun Of(string name, Accelerator accelerator, IInputSource? inputs = null, ulong limit = 200_000_000, bool reference = false)
    {
        var options = new MachineOptions
        {
            Kind = MachineKind.Flat,
            Accelerator = accelerator,
            FlatMode = name.EndsWith("16", StringComparison.Ordinal) ? FlatMode.Real16
                : name.EndsWith("32", StringComparison.Ordinal) ? FlatMode.Protected32 : FlatMode.Long64,
            MaxInstructions = limit,
            Images = [new MachineImage("code", name, Repository.Guest(name))],
        };
        return Of(options, inputs, reference);
    }

    /// <summary>Runs firmware or a kernel on a machine that is not flat.</summary>
    public static GuestRun Of(MachineKind kind, MachineImage image, Accelerator accelerator, ulong limit)
    {
        var options = new MachineOptions
        {
            Kind = kind,
            Accelerator = accelerator,
            Memory = 128 << 20,
            MaxInstructions = limit,
            Images = [image],
        };
        return Of(options);
    }

    private static GuestRun Of(MachineOptions options, IInputSource? inputs = null, bool reference = false)
    {
        Assert.Null(options.Validate());
        using var machine = Machine.Create(options, inputs ?? new ScriptedInputs(0));
        machine.Processor.ReferenceOnly = reference;
        var output = new StringBuilder();
        machine.ConsoleOutput = value => output.Append((char)value);
        MachineStop stop = machine.Run();
        return new GuestRun(stop, output.ToString(), machine.Processor.Retired);
    }
}

/// <summary>
/// NMIs, interrupts and typed bytes at positions that a seed chooses, and random values. Positions are counts of retired
/// instructions, whoever is in charge. A distance of 0 leaves only the random values.
/// </summary>
internal sealed class ScriptedInputs(int distance, ulong seed = 1) : IInputSource
{
    private ulong _events = seed * 0x9E37_79B9_7F4A_7C15;
    private ulong _random = (seed * 0x9E37_79B9_7F4A_7C15) ^ 1;
    private ulong _next = distance == 0 ? ulong.MaxValue : 1;

    public int Nmis { get; private set; }

    public int Interrupts { get; private set; }

    public int Bytes { get; private set; }

    public ulong NextDue(int vcpu, ulong retired) => Math.Max(_next, retired);

    public bool TryTake(InputPoint point, in Position at, out Input input)
    {
        input = default;
        if (point == InputPoint.Random)
        {
            input = new Input(InputKind.Random, Step(ref _random), 1);
            return true;
        }

        if (point != InputPoint.Boundary || at.Retired < _next)
        {
            return false;
        }

        _next += 1 + (Next() % (ulong)distance);
        switch (Next() % 3)
        {
            case 0:
                Nmis++;
                input = new Input(InputKind.Nmi);
                break;
            case 1:
                Interrupts++;
                input = new Input(InputKind.Interrupt, 0x20 + (Next() % 0xE0));
                break;
            default:
                Bytes++;
                input = new Input(InputKind.ConsoleByte, 'a' + (Next() % 26));
                break;
        }

        return true;
    }

    private ulong Next() => Step(ref _events);

    private static ulong Step(ref ulong state)
    {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        return state * 0x2545_F491_4F6C_DD1D;
    }
}
