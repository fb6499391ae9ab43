using VmFuzz.Arch;

namespace VmFuzz.Cpu;

/// <summary>A copy of a processor's whole state, for resets: one block copy each way.</summary>
public sealed unsafe class ProcessorSnapshot
{
    private readonly byte[] _bytes;
    private readonly bool _nmi;
    private readonly ulong _retired;

    /// <summary>Takes a copy.</summary>
    public ProcessorSnapshot(Processor processor)
    {
        _bytes = new ReadOnlySpan<byte>(processor.State, StateBytes(processor.State)).ToArray();
        _nmi = processor.NmiPending;
        _retired = processor.Retired;
    }

    /// <summary>Puts the processor back. Translations are dropped; decoded code stays, since nothing shows it.</summary>
    public void Restore(Processor processor)
    {
        CpuState* s = processor.State;
        CpuState kept;
        kept.Generation = s->Generation;
        kept.CodeGeneration = s->CodeGeneration;
        kept.JumpCache = s->JumpCache;
        kept.Handle = s->Handle;
        _bytes.CopyTo(new Span<byte>(s, _bytes.Length));
        s->Generation = kept.Generation;
        s->CodeGeneration = kept.CodeGeneration;
        s->JumpCache = kept.JumpCache;
        s->Handle = kept.Handle;
        s->PendingLink = null;
        s->Stop = StopKind.None;
        processor.SetRetired(_retired);
        processor.ClearNmi();
        if (_nmi)
        {
            processor.RaiseNmi();
        }

        processor.StateRestored();
    }

    // SAFETY: the copy is as long as the part of the state it is taken from and goes back to the same part; pointers in that part
    // (handle, jump cache) are kept from the live state.
    // Everything before the look-aside buffers.
    private static int StateBytes(CpuState* s) => (int)((byte*)s->ReadTlb - (byte*)s);
}
