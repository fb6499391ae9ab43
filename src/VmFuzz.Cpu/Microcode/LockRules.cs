using Iced.Intel;

namespace VmFuzz.Cpu.Microcode;

/// <summary>Where a LOCK prefix may stand (SDM "LOCK - Assert LOCK# Signal Prefix").</summary>
internal static class LockRules
{
    /// <summary>
    /// Whether the instruction has no LOCK prefix, or is one of the read-modify-write instructions with a memory
    /// destination that take it. False: #UD.
    /// </summary>
    public static bool Allowed(in Instruction ins) =>
        !ins.HasLockPrefix || (ins.Op0Kind == OpKind.Memory && IsLockable(ins.Mnemonic));

    private static bool IsLockable(Mnemonic mnemonic) => mnemonic is
        Mnemonic.Add or Mnemonic.Adc or Mnemonic.And or Mnemonic.Btc or Mnemonic.Btr or Mnemonic.Bts
        or Mnemonic.Cmpxchg or Mnemonic.Cmpxchg8b or Mnemonic.Cmpxchg16b or Mnemonic.Dec or Mnemonic.Inc
        or Mnemonic.Neg or Mnemonic.Not or Mnemonic.Or or Mnemonic.Sbb or Mnemonic.Sub or Mnemonic.Xor
        or Mnemonic.Xadd or Mnemonic.Xchg;
}
