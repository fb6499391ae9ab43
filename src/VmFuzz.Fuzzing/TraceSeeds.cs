using System.Collections.Immutable;
using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Machines;
using VmFuzz.Replay;
using VmFuzz.Trace;
using VmFuzz.Vmx;

namespace VmFuzz.Fuzzing;

/// <summary>Inputs made from a recorded run, to start a campaign with.</summary>
public static class TraceSeeds
{
    /// <summary>Exits of one exit-handlers input.</summary>
    public const int Window = 8;

    // What the VMCS holds for a register of the processor's state.
    private static readonly ImmutableArray<(ushort Register, VmcsField Field)> HeldByVmcs = MakeHeld();

    /// <summary>
    /// Windows of consecutive exits, with registers as of the first and then as they changed; and the guest's code with
    /// its inputs when the machine was a flat one.
    /// </summary>
    /// <param name="reader">An opened trace; read as far as it is good.</param>
    /// <param name="most">Most exit-handlers inputs, taken evenly over the trace.</param>
    /// <exception cref="TraceFileException">The file changed since it was opened.</exception>
    public static IReadOnlyList<FuzzInput> FromTrace(TraceReader reader, int most = 64)
    {
        ArgumentNullException.ThrowIfNull(reader);
        var seeds = new List<FuzzInput>();
        if (!reader.Readable)
        {
            return seeds;
        }

        FuzzInput guest = new() { Target = FuzzTarget.GuestCode };
        // Numbers of registers are below 256.
        ulong[] state = new ulong[256];
        bool[] known = new bool[256];
        ulong windows = (reader.Counts.Exits + Window - 1) / Window;
        ulong step = most <= 0 ? ulong.MaxValue : Math.Max(1, (windows + (ulong)most - 1) / (ulong)most);
        FuzzInput? window = null;
        ulong exits = 0;
        TraceEvent e = new();
        TraceCursor cursor = reader.Events();
        while (cursor.MoveNext(e))
        {
            switch (e.Kind)
            {
                case TraceEventKind.Exit:
                    Follow(e, state, known);
                    if (exits % Window == 0)
                    {
                        Keep(seeds, window);
                        window = most > 0 && exits / Window % step == 0 ? Start(state, known) : null;
                    }

                    window?.Exits.Add(ExitOf(e));
                    exits++;
                    break;
                case TraceEventKind.Input:
                    AddInput(guest, e);
                    break;
                default:
                    break;
            }
        }

        Keep(seeds, window);
        if (TryGuest(reader, guest))
        {
            Keep(seeds, guest);
        }

        return seeds;
    }

    private static void Keep(List<FuzzInput> seeds, FuzzInput? input)
    {
        if (input is not null)
        {
            input.Normalise();
            seeds.Add(input);
        }
    }

    private static bool TryGuest(TraceReader reader, FuzzInput guest)
    {
        if (TraceHeaders.TryOptions(reader, compareOnly: true, out MachineOptions options) is not null
            || options.Kind != MachineKind.Flat || options.Image("code") is not { } code)
        {
            return false;
        }

        guest.Mode = options.FlatMode;
        ReadOnlySpan<byte> bytes = code.Bytes.Span;
        guest.Code.AddRange(bytes[..Math.Min(bytes.Length, FuzzLimits.CodeBytes)]);
        return true;
    }

    private static void AddInput(FuzzInput guest, TraceEvent e)
    {
        if (e.InputKind is InputKind.Random or InputKind.Answer)
        {
            if (guest.Answers.Count < FuzzLimits.Items)
            {
                guest.Answers.Add(e.Value);
            }
        }
        else if (guest.Events.Count < FuzzLimits.Items)
        {
            guest.Events.Add(new ScheduledEvent(e.Retired, e.InputPoint, e.InputKind, e.Value));
        }
    }

    private static void Follow(TraceEvent e, ulong[] state, bool[] known)
    {
        foreach (ref readonly TraceDelta delta in e.Deltas)
        {
            if (IsStart(delta))
            {
                state[delta.Field] = delta.Value;
                known[delta.Field] = true;
            }
        }

        state[ProcessorState.Rip] = e.Rip;
        known[ProcessorState.Rip] = true;
    }

    private static bool IsStart(in TraceDelta delta) =>
        delta.Component == (ushort)ComponentId.Processor && delta.Field < 256 && Canonical.IsRegister(delta.Field);

    private static FuzzInput Start(ulong[] state, bool[] known)
    {
        FuzzInput input = new() { Target = FuzzTarget.ExitHandlers };
        for (int i = 0; i < state.Length; i++)
        {
            if (known[i])
            {
                input.Registers.Add(new RegisterOverride((ushort)i, state[i]));
            }
        }

        return input;
    }

    private static MadeExit ExitOf(TraceEvent e)
    {
        var registers = ImmutableArray.CreateBuilder<RegisterOverride>();
        var fields = ImmutableArray.CreateBuilder<FieldOverride>();
        fields.Add(new FieldOverride(VmcsField.GuestRip, e.Rip));
        foreach (ref readonly TraceDelta delta in e.Deltas)
        {
            if (!IsStart(delta))
            {
                continue;
            }

            if (Held(delta.Field) is { } field)
            {
                fields.Add(new FieldOverride(field, delta.Value));
            }
            else
            {
                registers.Add(new RegisterOverride(delta.Field, delta.Value));
            }
        }

        VmExit exit = new(
            e.ExitReason,
            e.Qualification,
            e.GuestLinear,
            e.GuestPhysical,
            new InterruptionInfo(e.InterruptionInfo),
            e.ErrorCode,
            new InterruptionInfo(e.IdtVectoringInfo),
            e.IdtErrorCode,
            e.InstructionLength,
            e.InstructionInfo);
        return new MadeExit(exit, registers.ToImmutable(), fields.ToImmutable());
    }

    private static VmcsField? Held(ushort register)
    {
        foreach ((ushort id, VmcsField field) in HeldByVmcs)
        {
            if (id == register)
            {
                return field;
            }
        }

        return null;
    }

    private static ImmutableArray<(ushort Register, VmcsField Field)> MakeHeld()
    {
        var held = ImmutableArray.CreateBuilder<(ushort, VmcsField)>();
        foreach (StateField field in ProcessorState.List)
        {
            VmcsField? found = field.Name switch
            {
                "rsp" => VmcsField.GuestRsp,
                "rip" => VmcsField.GuestRip,
                "rflags" => VmcsField.GuestRflags,
                "cr0" => VmcsField.GuestCr0,
                "cr3" => VmcsField.GuestCr3,
                "cr4" => VmcsField.GuestCr4,
                "dr7" => VmcsField.GuestDr7,
                "efer" => VmcsField.GuestEfer,
                "pat" => VmcsField.GuestPat,
                "debugctl" => VmcsField.GuestDebugCtl,
                "interruptibility" => VmcsField.GuestInterruptibility,
                "activity" => VmcsField.GuestActivity,
                "pending-debug" => VmcsField.GuestPendingDebug,
                "sysenter_cs" => VmcsField.GuestSysenterCs,
                "sysenter_esp" => VmcsField.GuestSysenterEsp,
                "sysenter_eip" => VmcsField.GuestSysenterEip,
                "gdtr.base" => VmcsField.GuestGdtrBase,
                "gdtr.limit" => VmcsField.GuestGdtrLimit,
                "idtr.base" => VmcsField.GuestIdtrBase,
                "idtr.limit" => VmcsField.GuestIdtrLimit,
                _ => null,
            };
            if (found is null && field.Id is >= 32 and < 64)
            {
                // Segments come in the same order in both places; their fields are two encodings apart.
                uint segment = (uint)(field.Id - 32) / 4;
                VmcsField first = ((field.Id - 32) % 4) switch
                {
                    0 => VmcsField.GuestEsSelector,
                    1 => VmcsField.GuestEsBase,
                    2 => VmcsField.GuestEsLimit,
                    _ => VmcsField.GuestEsAccessRights,
                };
                found = first + (2 * segment);
            }

            if (found is { } held1)
            {
                held.Add((field.Id, held1));
            }
        }

        return held.ToImmutable();
    }
}
