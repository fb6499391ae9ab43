using Iced.Intel;
using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Machines;

namespace VmFuzz.Fuzzing;

/// <summary>
/// Finds the instruction after which two ways to run an input differ first, so that findings are told apart by what
/// broke. Halves the distance: about ten runs on each machine.
/// </summary>
internal sealed class FirstDivergence(GuestMachines machines, FuzzInput input, GuestPair pair, GuestRunner left, GuestRunner right, Action<GuestRunner> loadRight)
{
    private string _instruction = "";

    /// <summary>A violation that names the instruction and the field.</summary>
    public Violation Find(string oracle, (string Name, string Text) end)
    {
        ulong low = 0;
        ulong high = Math.Max(left.Machine.Processor.Retired, right.Machine.Processor.Retired);
        (string Name, string Text) found = end;
        while (high - low > 1)
        {
            ulong middle = low + ((high - low) / 2);
            if (RunTo(middle) is { } difference)
            {
                high = middle;
                found = difference;
            }
            else
            {
                low = middle;
            }
        }

        RunTo(low);
        _instruction = InstructionAt();
        return new Violation(oracle, $"{_instruction}:{Field(found.Name)}", $"after {low} instructions, at {_instruction}: {found.Text}; at the end: {end.Text}");
    }

    private (string Name, string Text)? RunTo(ulong retired)
    {
        left.Load(input);
        Stopped(left, retired);
        loadRight(right);
        Stopped(right, retired);
        return left.Machine.Stop.Kind == MachineStopKind.UserStop && right.Machine.Stop.Kind == MachineStopKind.UserStop
            ? machines.Comparison.FirstDifference(pair)
            : null;
    }

    private static void Stopped(GuestRunner runner, ulong retired)
    {
        InputDoor door = runner.Machine.Processor.Door;
        door.Source = new StoppingSource(door.Source, retired);
        runner.Machine.Run();
    }

    private string InstructionAt()
    {
        Machine machine = left.Machine;
        ulong rip = GuestFields.Word(machine, GuestFields.IndexOf("rip"));
        ulong based = GuestFields.Word(machine, GuestFields.IndexOf("cs.base"));
        Span<byte> code = stackalloc byte[15];
        // Linear addresses of the fuzzer's guests are physical ones.
        if (!machine.Memory.TryRead(new Gpa((rip + based) & 0xF_FFFF), code))
        {
            return "nothing";
        }

        int bits = input.Mode switch { FlatMode.Real16 => 16, FlatMode.Protected32 => 32, _ => 64 };
        var decoder = Decoder.Create(bits, new ByteArrayCodeReader(code.ToArray()));
        decoder.Decode(out Instruction instruction);
        return instruction.Mnemonic.ToString().ToLowerInvariant();
    }

    // Registers of one kind are one place.
    private static string Field(string name) => name switch
    {
        "rax" or "rcx" or "rdx" or "rbx" or "rsp" or "rbp" or "rsi" or "rdi" => "gpr",
        ['r', >= '0' and <= '9', ..] => "gpr",
        _ => name.Contains('.', StringComparison.Ordinal) && name.Length > 2 && name[2] == '.' ? "segment" : name,
    };

    /// <summary>A door that stops the run at a retired count.</summary>
    private sealed class StoppingSource(IInputSource inner, ulong at) : IInputSource
    {
        private bool _stopped;

        public ulong NextDue(int vcpu, ulong retired) =>
            _stopped ? inner.NextDue(vcpu, retired) : Math.Min(inner.NextDue(vcpu, retired), Math.Max(at, retired));

        public bool TryTake(InputPoint point, in Position position, out Input input)
        {
            if (inner.TryTake(point, position, out input))
            {
                return true;
            }

            if (_stopped || point != InputPoint.Boundary || position.Retired < at)
            {
                return false;
            }

            _stopped = true;
            input = new Input(InputKind.Stop);
            return true;
        }
    }
}
