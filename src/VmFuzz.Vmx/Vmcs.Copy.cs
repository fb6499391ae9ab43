using System.Numerics;
using VmFuzz.Arch;

namespace VmFuzz.Vmx;

// Going back to a copy: only fields that were written since the last time are looked at.
public sealed unsafe partial class Vmcs
{
    // The copy that the moved bits count from; others must look at every slot.
    private Copied? _movedSince;

    /// <inheritdoc/>
    public IStateCopy CopyState() => new Copied(this);

    private sealed class Copied : IStateCopy
    {
        private readonly Vmcs _vmcs;
        private readonly ulong[] _slots;
        private readonly bool _launched;

        public Copied(Vmcs vmcs)
        {
            _vmcs = vmcs;
            _slots = new Span<ulong>(vmcs._values, VmcsFieldInfo.SlotCount).ToArray();
            _launched = vmcs.Launched;
        }

        public void Restore()
        {
            ulong* moved = _vmcs._values + VmcsFieldInfo.SlotCount + (2 * DirtyWords);
            bool all = _vmcs._movedSince != this;
            ulong words = all ? (1UL << DirtyWords) - 1 : _vmcs._values[DirtySummary] | _vmcs._values[MovedSummary];
            for (; words != 0; words &= words - 1)
            {
                int word = BitOperations.TrailingZeroCount(words);
                RestoreWord(word, all ? ulong.MaxValue : _vmcs.Dirty(word) | moved[word]);
                moved[word] = 0;
            }

            _vmcs._values[MovedSummary] = 0;
            _vmcs._movedSince = this;
            _vmcs.Launched = _launched;
        }

        // What a slot becomes must be checked again, as after any other write.
        private void RestoreWord(int word, ulong bits)
        {
            ulong* values = _vmcs._values;
            ulong changed = 0;
            for (; bits != 0; bits &= bits - 1)
            {
                int slot = (word << 6) + BitOperations.TrailingZeroCount(bits);
                Store(values, slot, _slots[slot], ref changed);
            }

            _vmcs.AddDirty(word, changed);
            if (changed != 0)
            {
                VmcsFieldGroup group = (VmcsFieldGroup)(word & 3);
                _vmcs.ControlsVersion += group == VmcsFieldGroup.Control ? 1UL : 0;
                _vmcs.GuestVersion += group == VmcsFieldGroup.Guest ? 1UL : 0;
                _vmcs.HostVersion += group == VmcsFieldGroup.Host ? 1UL : 0;
            }
        }
    }
}
