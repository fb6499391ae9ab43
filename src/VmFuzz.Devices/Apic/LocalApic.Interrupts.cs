using System.Numerics;
using VmFuzz.Arch;

namespace VmFuzz.Devices.Apic;

// Accepting, acknowledging and ending interrupts (SDM "Handling Interrupts"), errors, and inter-processor interrupts.
public sealed partial class LocalApic
{
    // SDM "Error Handling": bits of the error status register.
    private const uint SentIllegalVector = 1 << 5;
    private const uint ReceivedIllegalVector = 1 << 6;
    private const uint IllegalAddress = 1 << 7;

    private const int Lint0 = 0;

    /// <summary>SDM "Interrupt, Task, and Processor Priority": the higher of the task's class and the class in service.</summary>
    public byte ProcessorPriority
    {
        get
        {
            uint task = _registers[ApicRegisters.TaskPriority];
            int service = Highest(ApicRegisters.InService);
            return (byte)(service < 0 || task >> 4 >= (uint)service >> 4 ? task : (uint)service & 0xF0);
        }
    }

    /// <inheritdoc/>
    public bool InterruptPending => IsEnabled ? Deliverable >= 0 || ExternalPending : IsAsserted(Lint0);

    /// <inheritdoc/>
    /// <remarks>SDM "Interaction of Task Priorities between CR8 and APIC": setting it clears the sub-class.</remarks>
    public byte TaskPriority
    {
        get => (byte)(_registers[ApicRegisters.TaskPriority] >> 4);
        set
        {
            Touch();
            WriteTaskPriority((byte)(value << 4));
        }
    }

    // The request that is above the processor's priority, or -1.
    private int Deliverable
    {
        get
        {
            int request = Highest(ApicRegisters.Requests);
            return request >> 4 > ProcessorPriority >> 4 ? request : -1;
        }
    }

    private bool ExternalPending => _extInt || (IsAsserted(Lint0) && LintMode(Lint0) == ApicDelivery.ExtInt && IsUnmasked(ApicRegisters.LvtLint0));

    // Without the software's enable all entries of the local vector table stay masked.
    private uint LvtMask => IsSoftwareEnabled ? 0 : ApicRegisters.Masked;

    /// <inheritdoc/>
    /// <remarks>An own interrupt goes before an ExtINT one. With neither the spurious vector is given.</remarks>
    public byte Acknowledge()
    {
        Touch();
        Settle();
        int vector = IsEnabled ? Deliverable : -1;
        if (vector >= 0)
        {
            Set(ApicRegisters.Requests, vector, false);
            Set(ApicRegisters.InService, vector, true);
            Plan();
            return (byte)vector;
        }

        if (IsEnabled && !ExternalPending)
        {
            return (byte)_registers[ApicRegisters.SpuriousVector];
        }

        _extInt = false;
        return _external?.Acknowledge() ?? (byte)_registers[ApicRegisters.SpuriousVector];
    }

    /// <inheritdoc/>
    /// <param name="line">0 for LINT0, 1 for LINT1.</param>
    /// <param name="level">True for asserted.</param>
    public void SetLine(int line, bool level)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(line);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(line, 1);
        if (IsAsserted(line) == level)
        {
            return;
        }

        Touch();
        _lines ^= (byte)(1 << line);
        if (level)
        {
            Rise(line);
        }

        _processor.InterruptChanged();
    }

    /// <summary>Whether a message's destination includes this APIC (SDM "Determining IPI Destination").</summary>
    public bool IsAddressed(in ApicMessage message)
    {
        uint destination = message.Destination;
        if (destination == ApicBus.Broadcast)
        {
            return true;
        }

        if (!message.Logical)
        {
            return destination == (IsX2 ? _number : _registers[ApicRegisters.Id] >> 24);
        }

        uint own = ReadLogicalDestination();
        if (IsX2)
        {
            return destination >> 16 == own >> 16 && (destination & own & 0xFFFF) != 0;
        }

        own >>= 24;
        bool flat = _registers[ApicRegisters.DestinationFormat] >> 28 == 0xF;
        return flat
            ? (destination & own) != 0
            : (destination >> 4 == own >> 4 || destination >> 4 == 0xF) && (destination & own & 0xF) != 0;
    }

    /// <summary>Takes a message that is meant for this APIC.</summary>
    public void Accept(in ApicMessage message)
    {
        Touch();
        switch (message.Delivery)
        {
            case ApicDelivery.Fixed or ApicDelivery.LowestPriority:
                if (message.HasIllegalVector)
                {
                    RaiseError(ReceivedIllegalVector);
                }
                else if (IsEnabled && IsSoftwareEnabled)
                {
                    Set(ApicRegisters.Requests, message.Vector, true);
                    Set(ApicRegisters.TriggerMode, message.Vector, message.Level);
                    Plan();
                    _processor.InterruptChanged();
                }

                break;
            case ApicDelivery.ExtInt:
                _extInt = IsEnabled;
                _processor.InterruptChanged();
                break;
            default:
                _processor.Signal(message.Delivery, message.Vector);
                break;
        }
    }

    internal void WriteTaskPriority(byte value)
    {
        _registers[ApicRegisters.TaskPriority] = value;
        _processor.InterruptChanged();
    }

    // SDM "Signaling Interrupt Servicing Completion".
    internal void EndOfInterrupt()
    {
        int vector = Highest(ApicRegisters.InService);
        if (vector < 0)
        {
            return;
        }

        Set(ApicRegisters.InService, vector, false);
        if (Has(ApicRegisters.TriggerMode, vector))
        {
            EndLint(vector);
            if ((_registers[ApicRegisters.SpuriousVector] & ApicRegisters.SuppressBroadcast) == 0)
            {
                _bus.EndOfInterrupt((byte)vector);
            }
        }

        _processor.InterruptChanged();
    }

    // SDM "Local APIC State After It Has Been Software Disabled".
    internal void WriteSpuriousVector(uint value)
    {
        Settle();
        _registers[ApicRegisters.SpuriousVector] = value;
        _registers[ApicRegisters.LvtCmci] |= LvtMask;
        for (int entry = ApicRegisters.LvtTimer; entry <= ApicRegisters.LvtError; entry++)
        {
            _registers[entry] |= LvtMask;
        }

        Plan();
        _processor.InterruptChanged();
    }

    internal void WriteLvt(int number, uint value)
    {
        _registers[number] = value | LvtMask | (_registers[number] & ApicRegisters.RemoteIrr);
        if (number is ApicRegisters.LvtLint0 or ApicRegisters.LvtLint1)
        {
            Resample(number - ApicRegisters.LvtLint0);
            _processor.InterruptChanged();
        }
    }

    // SDM "Error Handling": a write shows what was detected since the last one, and arms the error interrupt again.
    internal void LatchErrors()
    {
        Settle();
        _registers[ApicRegisters.ErrorStatus] = _errors;
        _errors = 0;
        Plan();
    }

    // SDM "Valid Combinations for the Pentium 4 and Intel Xeon Processors' Local xAPIC Interrupt Command Register".
    internal void WriteCommand(uint value)
    {
        _registers[ApicRegisters.CommandLow] = value;
        var delivery = (ApicDelivery)((value >> 8) & 7);
        var shorthand = (ApicShorthand)((value >> 18) & 3);
        uint high = _registers[ApicRegisters.CommandHigh];
        var message = new ApicMessage(delivery, (byte)value, IsX2 ? high : ApicBus.Widen(high >> 24), (value & 0x800) != 0);
        bool isDeassert = delivery == ApicDelivery.Init && (value & 0xC000) == ApicRegisters.LevelTriggered;
        bool isValid = shorthand is ApicShorthand.Self or ApicShorthand.All
            ? delivery == ApicDelivery.Fixed
            : delivery is not (ApicDelivery.Reserved or ApicDelivery.ExtInt) && !isDeassert;
        if (message.HasIllegalVector)
        {
            RaiseError(SentIllegalVector);
        }
        else if (isValid)
        {
            Send(message, shorthand);
        }
    }

    internal void SendSelf(byte vector)
    {
        var message = new ApicMessage(ApicDelivery.Fixed, vector, _number);
        if (message.HasIllegalVector)
        {
            RaiseError(SentIllegalVector);
        }
        else
        {
            Accept(message);
        }
    }

    private void Send(in ApicMessage message, ApicShorthand shorthand)
    {
        switch (shorthand)
        {
            case ApicShorthand.Self:
                Accept(message);
                break;
            case ApicShorthand.None:
                _bus.Send(message);
                break;
            default:
                _bus.SendToAll(message, except: shorthand == ApicShorthand.Others ? this : null);
                break;
        }
    }

    // Errors that were not read yet keep the error interrupt from coming again.
    private void RaiseError(uint error)
    {
        bool isFirst = _errors == 0;
        _errors |= error;
        if (isFirst)
        {
            AcceptLocal(ApicRegisters.LvtError);
        }

        Plan();
    }

    // An interrupt of the local vector table that is always fixed and edge-triggered.
    private void AcceptLocal(int entry)
    {
        if (IsUnmasked(entry))
        {
            Accept(new ApicMessage(ApicDelivery.Fixed, (byte)_registers[entry], _number));
        }
    }

    private void Rise(int line)
    {
        int entry = ApicRegisters.LvtLint0 + line;
        if (!IsEnabled)
        {
            if (line != Lint0)
            {
                _processor.Signal(ApicDelivery.Nmi, 0);
            }
        }
        else if (IsUnmasked(entry) && LintMode(line) is var mode and not ApicDelivery.ExtInt)
        {
            if (mode == ApicDelivery.Fixed && IsLevel(line))
            {
                Resample(line);
            }
            else if (mode is ApicDelivery.Fixed or ApicDelivery.Smi or ApicDelivery.Nmi or ApicDelivery.Init)
            {
                Accept(new ApicMessage(mode, (byte)_registers[entry], _number));
            }
        }
    }

    // A level-triggered fixed interrupt comes again as long as its line is asserted and the last one has ended.
    private void Resample(int line)
    {
        int entry = ApicRegisters.LvtLint0 + line;
        if (IsAsserted(line) && IsUnmasked(entry) && IsLevel(line) && LintMode(line) == ApicDelivery.Fixed
            && (_registers[entry] & ApicRegisters.RemoteIrr) == 0)
        {
            _registers[entry] |= ApicRegisters.RemoteIrr;
            Accept(new ApicMessage(ApicDelivery.Fixed, (byte)_registers[entry], _number, Level: true));
        }
    }

    private void EndLint(int vector)
    {
        for (int line = 0; line < 2; line++)
        {
            ref uint entry = ref _registers[ApicRegisters.LvtLint0 + line];
            if ((entry & ApicRegisters.RemoteIrr) != 0 && (entry & 0xFF) == (uint)vector)
            {
                entry &= ~ApicRegisters.RemoteIrr;
                Resample(line);
            }
        }
    }

    private bool IsAsserted(int line) => (_lines & (1 << line)) != 0;

    private bool IsUnmasked(int entry) => (_registers[entry] & ApicRegisters.Masked) == 0;

    // LINT1 is always edge-triggered.
    private bool IsLevel(int line) => line == Lint0 && (_registers[ApicRegisters.LvtLint0] & ApicRegisters.LevelTriggered) != 0;

    private ApicDelivery LintMode(int line) => (ApicDelivery)((_registers[ApicRegisters.LvtLint0 + line] >> 8) & 7);

    private bool Has(int first, int vector) => (_registers[first + (vector >> 5)] & (1U << (vector & 31))) != 0;

    private void Set(int first, int vector, bool value)
    {
        ref uint word = ref _registers[first + (vector >> 5)];
        uint bit = 1U << (vector & 31);
        word = value ? word | bit : word & ~bit;
    }

    private int Highest(int first)
    {
        for (int i = 7; i >= 0; i--)
        {
            if (_registers[first + i] is var word and not 0)
            {
                return (32 * i) + 31 - BitOperations.LeadingZeroCount(word);
            }
        }

        return -1;
    }
}
