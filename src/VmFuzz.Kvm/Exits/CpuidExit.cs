using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Vmx;

namespace VmFuzz.Kvm.Exits;

/// <summary>S87: CPUID answers from the processor's model, with the bits that follow the guest's state.</summary>
internal static class CpuidExit
{
    public static ExitOutcome Handle(Vcpu vcpu, in VmExit exit)
    {
        uint number = (uint)vcpu.Rax;
        CpuidLeaf leaf = vcpu.Processor.Model.Lookup(number, (uint)vcpu.Rcx);
        if (number is 1 or 7 or 0xB or 0x1F)
        {
            leaf = WithDerivedBits(vcpu, number, leaf);
        }

        (vcpu.Rax, vcpu.Rbx, vcpu.Rcx, vcpu.Rdx) = (leaf.Eax, leaf.Ebx, leaf.Ecx, leaf.Edx);
        return ExitOutcome.RetireInstruction;
    }

    private static CpuidLeaf WithDerivedBits(Vcpu vcpu, uint number, in CpuidLeaf leaf)
    {
        switch (number)
        {
            case 1:
                bool apic = (vcpu.ApicBase & (1 << 11)) != 0;
                return leaf with
                {
                    Ebx = (leaf.Ebx & 0x00FF_FFFF) | ((uint)vcpu.Processor.Index << 24),
                    Ecx = Bit(leaf.Ecx, 27, (vcpu.Vmx.Cr4 & Cr4.Osxsave) != 0),
                    Edx = apic ? leaf.Edx : Bit(leaf.Edx, 9, false),
                };
            case 7 when leaf.Subleaf == 0:
                return leaf with { Ecx = Bit(leaf.Ecx, 4, (vcpu.Vmx.Cr4 & Cr4.Pke) != 0) };
            case 0xB or 0x1F:
                return leaf with { Edx = (uint)vcpu.Processor.Index };
            default:
                return leaf;
        }
    }

    private static uint Bit(uint value, int bit, bool set) => set ? value | (1U << bit) : value & ~(1U << bit);
}
