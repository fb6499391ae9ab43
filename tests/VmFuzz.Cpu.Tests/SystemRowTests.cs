using VmFuzz.Arch;

namespace VmFuzz.Cpu.Tests;

/// <summary>What tells system instructions of one shape apart, and the flags that they set or leave.</summary>
public sealed unsafe class SystemRowTests
{
    private const ulong At = 0xB000;

    [Theory]
    [InlineData(new byte[] { 0x0F, 0x20, 0xC0 })] // mov rax, cr0
    [InlineData(new byte[] { 0x0F, 0x22, 0xD0 })] // mov cr2, rax
    [InlineData(new byte[] { 0x0F, 0x21, 0xC0 })] // mov rax, dr0
    [InlineData(new byte[] { 0x0F, 0x23, 0xC0 })] // mov dr0, rax
    public void MoveOfASystemRegister_LeavesTheFlags(byte[] code)
    {
        foreach (ulong flags in (ulong[])[0, RFlags.Arithmetic])
        {
            using SystemFixture wide = new SystemFixture().Long();
            wide.Cpu.RFlagsValue = flags;
            wide.Completes(code);
            Assert.Equal(flags, wide.Cpu.RFlagsValue & RFlags.Arithmetic);
            using SystemFixture narrow = new SystemFixture().Protected32();
            narrow.Cpu.RFlagsValue = flags;
            narrow.Completes(code);
            Assert.Equal(flags, narrow.Cpu.RFlagsValue & RFlags.Arithmetic);
        }
    }

    [Theory]
    [InlineData(new byte[] { 0x0F, 0x01, 0xC1 }, SensitiveInstruction.Vmcall)]
    [InlineData(new byte[] { 0x0F, 0x01, 0xC2 }, SensitiveInstruction.Vmlaunch)]
    [InlineData(new byte[] { 0x0F, 0x01, 0xC3 }, SensitiveInstruction.Vmresume)]
    [InlineData(new byte[] { 0x0F, 0x01, 0xC4 }, SensitiveInstruction.Vmxoff)]
    [InlineData(new byte[] { 0x0F, 0x01, 0xD4 }, SensitiveInstruction.Vmfunc)]
    [InlineData(new byte[] { 0x0F, 0xC7, 0x33 }, SensitiveInstruction.Vmptrld)]
    [InlineData(new byte[] { 0x66, 0x0F, 0xC7, 0x33 }, SensitiveInstruction.Vmclear)]
    [InlineData(new byte[] { 0xF3, 0x0F, 0xC7, 0x33 }, SensitiveInstruction.Vmxon)]
    [InlineData(new byte[] { 0x0F, 0xC7, 0x3B }, SensitiveInstruction.Vmptrst)]
    [InlineData(new byte[] { 0x0F, 0x78, 0xC3 }, SensitiveInstruction.Vmread)]
    [InlineData(new byte[] { 0x0F, 0x79, 0xC3 }, SensitiveInstruction.Vmwrite)]
    [InlineData(new byte[] { 0x66, 0x0F, 0x38, 0x80, 0x03 }, SensitiveInstruction.Invept)]
    [InlineData(new byte[] { 0x66, 0x0F, 0x38, 0x81, 0x03 }, SensitiveInstruction.Invvpid)]
    public void VmxInstruction_InRootOperation_IsItsOwnAndHasTheFlagsOfTheUnit(byte[] code, SensitiveInstruction instruction)
    {
        foreach (bool wide in (bool[])[true, false])
        {
            foreach (ulong flags in (ulong[])[0, RFlags.Arithmetic])
            {
                using SystemFixture f = wide ? new SystemFixture().Long() : new SystemFixture().Protected32();
                f.State->Cr4 |= Cr4.Vmxe;
                f.Cpu[Gpr.Rbx] = At;
                f.Cpu.RFlagsValue = flags ^ RFlags.Arithmetic;
                var unit = new Unit(f.Cpu, flags);
                f.Cpu.Vmx = unit;
                f.Completes(code);
                Assert.Equal(instruction, unit.Executed);
                Assert.Equal(flags, f.Cpu.RFlagsValue & RFlags.Arithmetic);
            }
        }
    }

    [Theory]
    [InlineData(0xF0, CpuFeatures.Rdrand)]
    [InlineData(0xF8, CpuFeatures.Rdseed)]
    public void RandomValue_ThereOrNot_SetsCarryAndClearsTheOthers(byte modrm, CpuFeatures feature)
    {
        foreach (byte[] prefix in (byte[][])[[0x66], [], [0x48]])
        {
            foreach (bool there in (bool[])[true, false])
            {
                using SystemFixture f = new SystemFixture().Long();
                f.NextRandom = new Input(InputKind.Random, 0x1122_3344_5566_7788, there ? 1UL : 0);
                f.Cpu.RFlagsValue = RFlags.Arithmetic & ~(there ? RFlags.Cf : 0);
                f.Completes([.. prefix, 0x0F, 0xC7, modrm]);
                Assert.Equal(there ? RFlags.Cf : 0, f.Cpu.RFlagsValue & RFlags.Arithmetic);
            }

            using SystemFixture without = new SystemFixture(CpuFeatures.La57 | feature).Long();
            Assert.True(without.Cpu.Instructions.TryFind(Decode([.. prefix, 0x0F, 0xC7, modrm]), out InstructionRow row));
            Assert.Equal(feature, row.Feature);
        }
    }

    [Fact]
    public void StacAndClac_ChangeAlignmentCheckAlone()
    {
        using SystemFixture f = new SystemFixture().Long();
        f.Completes(0x0F, 0x01, 0xCB);
        Assert.Equal(RFlags.Ac, f.Cpu.RFlagsValue & RFlags.Ac);
        f.Completes(0x0F, 0x01, 0xCA);
        Assert.Equal(0UL, f.Cpu.RFlagsValue & RFlags.Ac);
    }

    [Theory]
    [InlineData(false, new byte[0])]
    [InlineData(false, new byte[] { 0x66 })]
    [InlineData(true, new byte[0])]
    public void TableRegisters_StoredAndLoaded_AreTheirOwn(bool wide, byte[] prefix)
    {
        using SystemFixture f = wide ? new SystemFixture().Long() : new SystemFixture().Protected32();
        f.Cpu[Gpr.Rbx] = At;
        f.State->Gdtr.Limit = 0x111;
        f.State->Idtr.Limit = 0x222;
        f.Completes([.. prefix, 0x0F, 0x01, 0x03]); // sgdt
        Assert.Equal(0x111UL, f.Read(At, 2));
        Assert.Equal(SystemFixture.GdtBase, f.Read(At + 2, 4));
        f.Completes([.. prefix, 0x0F, 0x01, 0x0B]); // sidt
        Assert.Equal(0x222UL, f.Read(At, 2));
        Assert.Equal(SystemFixture.IdtBase, f.Read(At + 2, 4));
        f.Write(At, 8, 0x0077_6655_0333);
        f.Write(At + 8, 2, 0);
        f.Completes([.. prefix, 0x0F, 0x01, 0x13]); // lgdt
        Assert.Equal(0x333UL, (ulong)f.State->Gdtr.Limit);
        Assert.Equal(0x222UL, (ulong)f.State->Idtr.Limit);
        f.Write(At, 2, 0x444);
        f.Completes([.. prefix, 0x0F, 0x01, 0x1B]); // lidt
        Assert.Equal(0x333UL, (ulong)f.State->Gdtr.Limit);
        Assert.Equal(0x444UL, (ulong)f.State->Idtr.Limit);
        Assert.Equal(0x77_6655UL, f.State->Gdtr.Base);
        Assert.Equal(0x77_6655UL, f.State->Idtr.Base);
    }

    [Theory]
    [InlineData(new byte[] { 0x66 }, 0xFFFF_FFFF_FFFF_0000UL)]
    [InlineData(new byte[0], 0UL)]
    [InlineData(new byte[] { 0x48 }, 0UL)]
    public void SelectorsAndStatusWord_Stored_AreTheirOwn(byte[] prefix, ulong kept)
    {
        using SystemFixture f = new SystemFixture().Long();
        foreach ((byte modrm, byte opcode, ulong value) in (ReadOnlySpan<(byte, byte, ulong)>)[(0xC0, 0x00, SystemFixture.Ldt), (0xC8, 0x00, SystemFixture.Tss64)])
        {
            f.Cpu[Gpr.Rax] = ulong.MaxValue;
            f.Completes([.. prefix, 0x0F, opcode, modrm]);
            Assert.Equal(kept | value, f.Cpu[Gpr.Rax]);
        }

        f.Cpu[Gpr.Rax] = ulong.MaxValue;
        f.Completes([.. prefix, 0x0F, 0x01, 0xE0]); // smsw
        ulong mask = prefix is [0x66] ? 0xFFFF : uint.MaxValue;
        Assert.Equal(f.State->Cr0 & mask, f.Cpu[Gpr.Rax] & mask);
        Assert.Equal(kept, f.Cpu[Gpr.Rax] & kept);
    }

    [Theory]
    [InlineData(new byte[] { 0x66 })]
    [InlineData(new byte[0])]
    [InlineData(new byte[] { 0x48 })]
    public void LookAtDescriptors_OfCodeThatIsNotWritable_TellsThemApart(byte[] prefix)
    {
        using SystemFixture f = new SystemFixture().Long();
        f.Cpu[Gpr.Rbx] = SystemFixture.ReadOnly;
        f.Completes([.. prefix, 0x0F, 0x00, 0xE3]); // verr
        Assert.Equal(RFlags.Zf, f.Cpu.RFlagsValue & RFlags.Zf);
        f.Completes([.. prefix, 0x0F, 0x00, 0xEB]); // verw
        Assert.Equal(0UL, f.Cpu.RFlagsValue & RFlags.Zf);
        f.Completes([.. prefix, 0x0F, 0x02, 0xC3]); // lar
        ulong rights = f.Cpu[Gpr.Rax] & 0xFFFF;
        f.Completes([.. prefix, 0x0F, 0x03, 0xC3]); // lsl
        Assert.Equal(0x9000UL, rights);
        Assert.Equal(0xFFFFUL, f.Cpu[Gpr.Rax] & 0xFFFF);
    }

    [Theory]
    [InlineData(new byte[] { 0x66 }, 2)]
    [InlineData(new byte[0], 4)]
    [InlineData(new byte[] { 0x48 }, 8)]
    public void FarPointers_Loaded_GoToTheirSegment(byte[] prefix, int size)
    {
        foreach ((byte opcode, SegmentRegister register) in (ReadOnlySpan<(byte, SegmentRegister)>)[(0xB2, SegmentRegister.Ss), (0xB4, SegmentRegister.Fs), (0xB5, SegmentRegister.Gs)])
        {
            using SystemFixture f = new SystemFixture().Long();
            f.Cpu.Segment(SegmentRegister.Ss).Selector = f.Cpu.Segment(SegmentRegister.Fs).Selector = f.Cpu.Segment(SegmentRegister.Gs).Selector = 0x1234;
            f.Cpu[Gpr.Rbx] = At;
            f.Write(At, 8, 0x55);
            f.Write(At + (ulong)size, 2, SystemFixture.Data0);
            f.Completes([.. prefix, 0x0F, opcode, 0x0B]);
            Assert.Equal(SystemFixture.Data0, f.Cpu.Segment(register).Selector);
            Assert.Equal(0x55UL, f.Cpu[Gpr.Rcx] & 0xFFFF);
            Assert.Equal(2, ((ReadOnlySpan<SegmentRegister>)[SegmentRegister.Ss, SegmentRegister.Fs, SegmentRegister.Gs]).ToArray().Count(s => f.Cpu.Segment(s).Selector == 0x1234));
        }
    }

    [Theory]
    [InlineData(new byte[0], uint.MaxValue)]
    [InlineData(new byte[] { 0x48 }, ulong.MaxValue)]
    public void SegmentBases_ReadAndWritten_AreTheirOwn(byte[] rex, ulong mask)
    {
        using SystemFixture f = new SystemFixture().Long();
        f.State->Cr4 |= Cr4.Fsgsbase;
        f.State->Fs.Base = 0x1111_2222_3333;
        f.State->Gs.Base = 0x4444_5555_6666;
        f.Completes([0xF3, .. rex, 0x0F, 0xAE, 0xC0]); // rdfsbase
        Assert.Equal(0x1111_2222_3333 & mask, f.Cpu[Gpr.Rax]);
        f.Completes([0xF3, .. rex, 0x0F, 0xAE, 0xC8]); // rdgsbase
        Assert.Equal(0x4444_5555_6666 & mask, f.Cpu[Gpr.Rax]);
        f.Cpu[Gpr.Rax] = 0x7777_8888_9999;
        f.Completes([0xF3, .. rex, 0x0F, 0xAE, 0xD0]); // wrfsbase
        Assert.Equal((0x7777_8888_9999 & mask, 0x4444_5555_6666UL), (f.State->Fs.Base, f.State->Gs.Base));
        f.State->Fs.Base = 1;
        f.Completes([0xF3, .. rex, 0x0F, 0xAE, 0xD8]); // wrgsbase
        Assert.Equal((1UL, 0x7777_8888_9999 & mask), (f.State->Fs.Base, f.State->Gs.Base));
    }

    [Theory]
    [InlineData(0x6C, SegmentRegister.Es)]
    [InlineData(0x6D, SegmentRegister.Es)]
    [InlineData(0x6E, SegmentRegister.Ds)]
    [InlineData(0x6F, SegmentRegister.Ds)]
    public void PortStrings_OfEitherDirection_StepTheirIndex(byte opcode, SegmentRegister segment)
    {
        Gpr index = segment == SegmentRegister.Es ? Gpr.Rdi : Gpr.Rsi;
        foreach (byte[] prefix in (byte[][])[[], [0x66]])
        {
            ulong size = (opcode & 1) == 0 ? 1UL : prefix is [] ? 4UL : 2UL;
            foreach (bool down in (bool[])[false, true])
            {
                using SystemFixture f = new SystemFixture().Long();
                f.Cpu.RFlagsValue = down ? RFlags.Df : 0;
                f.Cpu[index] = At;
                f.Completes([.. prefix, opcode]);
                Assert.Equal(down ? At - size : At + size, f.Cpu[index]);
                Assert.Equal(down ? RFlags.Df : 0, f.Cpu.RFlagsValue & RFlags.Df);
            }
        }
    }

    [Theory]
    [InlineData(new byte[] { 0x66 }, 2)]
    [InlineData(new byte[0], 4)]
    [InlineData(new byte[] { 0x48 }, 8)]
    public void Iret_ToTheSameLevel_RestoresEveryFlag(byte[] prefix, int size)
    {
        const ulong wanted = RFlags.Arithmetic | RFlags.If | RFlags.Df | RFlags.Ac;
        ulong mask = size == 2 ? wanted & 0xFFFF : wanted;
        foreach (ulong flags in (ulong[])[0, wanted])
        {
            using SystemFixture f = new SystemFixture().Long();
            f.Cpu.RFlagsValue = ~flags & wanted;
            f.PushAll(size, SystemFixture.Data0, SystemFixture.Stack, flags | RFlags.Reserved1, SystemFixture.Code64, 0x9000);
            f.Completes([.. prefix, 0xCF]);
            Assert.Equal(flags & mask, f.Cpu.RFlagsValue & mask);
        }
    }

    [Theory]
    [InlineData(new byte[] { 0x0F, 0x07 }, false)] // sysret
    [InlineData(new byte[] { 0x48, 0x0F, 0x07 }, false)]
    [InlineData(new byte[] { 0x0F, 0x05 }, true)] // syscall
    public void FastCall_Flags_ComeFromR11OrAreMasked(byte[] code, bool call)
    {
        const ulong wanted = RFlags.Arithmetic | RFlags.If | RFlags.Df | RFlags.Ac;
        foreach (ulong flags in (ulong[])[0, wanted])
        {
            using SystemFixture f = new SystemFixture().Long();
            f.State->Star = ((ulong)SystemFixture.Code64 << 32) | ((ulong)SystemFixture.Code64 << 48);
            f.Cpu[Gpr.Rcx] = 0x9000;
            f.Cpu[Gpr.R11] = flags;
            f.Cpu.RFlagsValue = call ? wanted : ~flags & wanted;
            f.State->Fmask = ~flags & wanted;
            f.Completes(code);
            Assert.Equal(flags, f.Cpu.RFlagsValue & wanted);
        }
    }

    [Theory]
    [InlineData(new byte[] { 0x0F, 0x08 }, SensitiveInstruction.Invd)]
    [InlineData(new byte[] { 0x0F, 0x09 }, SensitiveInstruction.Wbinvd)]
    [InlineData(new byte[] { 0x66, 0x0F, 0xC7, 0xF0 }, SensitiveInstruction.Rdrand)]
    [InlineData(new byte[] { 0x0F, 0xC7, 0xF0 }, SensitiveInstruction.Rdrand)]
    [InlineData(new byte[] { 0x66, 0x0F, 0xC7, 0xF8 }, SensitiveInstruction.Rdseed)]
    [InlineData(new byte[] { 0x0F, 0xC7, 0xF8 }, SensitiveInstruction.Rdseed)]
    [InlineData(new byte[] { 0x0F, 0x01, 0xF9 }, SensitiveInstruction.Rdtscp)]
    [InlineData(new byte[] { 0x0F, 0x33 }, SensitiveInstruction.Rdpmc)]
    [InlineData(new byte[] { 0x0F, 0x01, 0xC9 }, SensitiveInstruction.Mwait)]
    public void SensitiveInstruction_InNonRootOperation_ExitsAsItself(byte[] code, SensitiveInstruction instruction)
    {
        using SystemFixture f = new SystemFixture().Long();
        NonRootPolicy policy = new();
        f.Cpu.NonRoot = policy;
        Assert.Equal(ExecResult.Abort, f.Execute(code));
        Assert.StartsWith($"{instruction} {code.Length} ", Assert.Single(policy.Log), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(new byte[] { 0x0F, 0xAA })] // rsm outside of SMM
    [InlineData(new byte[] { 0x0F, 0x37 })] // getsec without CR4.SMXE
    public void Instruction_OfAModeThatIsNotThere_IsUndefined(byte[] code)
    {
        using SystemFixture f = new SystemFixture().Long();
        f.Faults(Vector.Ud, 0, code);
    }

    [Theory]
    [InlineData(new byte[] { 0xFF, 0x2B }, 4)] // jmp far [rbx]
    [InlineData(new byte[] { 0x66, 0xFF, 0x2B }, 2)]
    [InlineData(new byte[] { 0x48, 0xFF, 0x2B }, 8)]
    [InlineData(new byte[] { 0xFF, 0x1B }, 4)] // call far [rbx]
    [InlineData(new byte[] { 0x66, 0xFF, 0x1B }, 2)]
    [InlineData(new byte[] { 0x48, 0xFF, 0x1B }, 8)]
    public void FarTransfer_ThroughMemory_PushesWhenItIsACall(byte[] code, int size)
    {
        using SystemFixture f = new SystemFixture().Long();
        f.Cpu[Gpr.Rbx] = At;
        f.Write(At, 8, 0x9000);
        f.Write(At + (ulong)size, 2, SystemFixture.Code64);
        f.Completes(code);
        Assert.Equal(0x9000UL, f.Cpu.Rip);
        bool call = code[^1] == 0x1B;
        Assert.Equal(SystemFixture.Stack - (call ? 2 * (ulong)size : 0), f.Cpu[Gpr.Rsp]);
        if (call)
        {
            Assert.Equal(SystemFixture.CodeAt + (ulong)code.Length, f.OnStack(0, size) | (size == 2 ? SystemFixture.CodeAt & ~0xFFFFUL : 0));
            Assert.Equal(SystemFixture.Code64, f.OnStack(1, size));
        }
    }

    [Fact]
    public void FarJump_With16BitPointer_PushesNothing()
    {
        using SystemFixture f = new SystemFixture().Protected32();
        f.Completes(0x66, 0xEA, 0x00, 0x90, (byte)SystemFixture.Code0, 0);
        Assert.Equal((0x9000UL, SystemFixture.Stack), (f.Cpu.Rip, f.Cpu[Gpr.Rsp]));
    }

    [Theory]
    [InlineData(new byte[] { 0xCB }, 4, 0)] // retf
    [InlineData(new byte[] { 0x66, 0xCA, 8, 0 }, 2, 8)] // retf 8
    [InlineData(new byte[] { 0x48, 0xCA, 8, 0 }, 8, 8)]
    public void FarReturn_OfEachSize_PopsOffsetSelectorAndParameters(byte[] code, int size, int parameters)
    {
        using SystemFixture f = new SystemFixture().Long();
        f.Cpu.RFlagsValue = RFlags.Arithmetic;
        f.PushAll(size, 0, SystemFixture.Code64, 0x9000);
        ulong stack = f.Cpu[Gpr.Rsp];
        f.Completes(code);
        Assert.Equal(0x9000UL, f.Cpu.Rip);
        Assert.Equal(stack + (ulong)((2 * size) + parameters), f.Cpu[Gpr.Rsp]);
        Assert.Equal(RFlags.Arithmetic, f.Cpu.RFlagsValue & RFlags.Arithmetic);
    }

    [Theory]
    [InlineData(false, new byte[0], 4)]
    [InlineData(false, new byte[] { 0x66 }, 2)]
    [InlineData(true, new byte[0], 8)]
    public void PopOfFsAndGs_LoadTheirSegment(bool wide, byte[] prefix, int size)
    {
        using SystemFixture f = wide ? new SystemFixture().Long() : new SystemFixture().Protected32();
        f.State->Fs.Selector = f.State->Gs.Selector = 0x1234;
        f.PushAll(size, SystemFixture.ReadOnly, SystemFixture.Data0);
        f.Completes([.. prefix, 0x0F, 0xA1]);
        Assert.Equal((SystemFixture.Data0, 0x1234UL), ((ushort)f.State->Fs.Selector, (ulong)f.State->Gs.Selector));
        f.Completes([.. prefix, 0x0F, 0xA9]);
        Assert.Equal(SystemFixture.ReadOnly, f.State->Gs.Selector);
        Assert.Equal(SystemFixture.Stack, f.Cpu[Gpr.Rsp]);
    }

    [Theory]
    [InlineData(new byte[] { 0x66, 0x9D }, 2)]
    [InlineData(new byte[] { 0x9D }, 8)]
    public void Popf_AtTheInnermostLevel_LoadsInterruptFlagAndAlignmentCheck(byte[] code, int size)
    {
        ulong wanted = size == 2 ? RFlags.If : RFlags.If | RFlags.Ac;
        foreach (ulong flags in (ulong[])[0, wanted])
        {
            using SystemFixture f = new SystemFixture().Long();
            f.Cpu.RFlagsValue = ~flags & wanted;
            f.PushAll(size, flags);
            f.Completes(code);
            Assert.Equal(flags, f.Cpu.RFlagsValue & wanted);
        }
    }

    [Theory]
    [InlineData(new byte[] { 0x66 })]
    [InlineData(new byte[] { 0x48 })]
    public void LocalDescriptorTable_Loaded_LeavesTheTaskRegister(byte[] prefix)
    {
        using SystemFixture f = new SystemFixture().Long();
        ulong task = f.State->Tr.Selector;
        f.State->Ldtr.Selector = 0;
        f.Cpu[Gpr.Rax] = SystemFixture.Ldt;
        f.Completes([.. prefix, 0x0F, 0x00, 0xD0]);
        Assert.Equal((SystemFixture.Ldt, task), ((ushort)f.State->Ldtr.Selector, (ulong)f.State->Tr.Selector));
    }

    [Fact]
    public void FloatingPointControl_Instructions_ChangeTheirOwn()
    {
        using SystemFixture f = new SystemFixture().Long();
        f.State->Cr0 &= ~(Cr0.Em | Cr0.Ts);
        (f.State->Fcw, f.State->Fsw, f.State->Ftw) = (0x0040, 0x3880, 0);
        f.Completes(0xDB, 0xE0); // fneni, fndisi, fnsetpm do nothing
        f.Completes(0xDB, 0xE1);
        f.Completes(0xDB, 0xE4);
        Assert.Equal((0x0040UL, 0x3880UL, 0UL), ((ulong)f.State->Fcw, (ulong)f.State->Fsw, (ulong)f.State->Ftw));
        f.Completes(0xDB, 0xE2); // fnclex
        Assert.Equal((0x0040UL, 0x3800UL, 0UL), ((ulong)f.State->Fcw, (ulong)f.State->Fsw, (ulong)f.State->Ftw));
        f.Completes(0xDB, 0xE3); // fninit
        Assert.Equal((0x037FUL, 0UL, 0xFFFFUL), ((ulong)f.State->Fcw, (ulong)f.State->Fsw, (ulong)f.State->Ftw));
        f.State->Ftw = 0;
        f.Cpu[Gpr.Rax] = 0x1234;
        f.Completes(0x0F, 0x77); // emms
        Assert.Equal((0xFFFFUL, 0x1234UL), ((ulong)f.State->Ftw, f.Cpu[Gpr.Rax]));
    }

    [Fact]
    public void Fxsave_And_Fxrstor_MoveTheStateInTheirDirection()
    {
        using SystemFixture f = new SystemFixture().Protected32();
        f.State->Cr4 |= Cr4.Osfxsr;
        f.Cpu[Gpr.Rbx] = At;
        f.State->Mxcsr = 0x1F80;
        f.Completes(0x0F, 0xAE, 0x03);
        Assert.Equal(0x1F80UL, f.Read(At + 24, 4));
        f.Write(At + 24, 4, 0x1FA0);
        f.Completes(0x0F, 0xAE, 0x0B);
        Assert.Equal(0x1FA0UL, (ulong)f.State->Mxcsr);
        Assert.Equal(0x1FA0UL, f.Read(At + 24, 4));
    }

    [Theory]
    [InlineData(new byte[] { 0x66 })]
    [InlineData(new byte[0])]
    [InlineData(new byte[] { 0x48 })]
    public void ReservedHint_OfTwoRegisters_DoesNothing(byte[] prefix)
    {
        using SystemFixture f = new SystemFixture().Long();
        (f.Cpu[Gpr.Rax], f.Cpu[Gpr.Rcx]) = (1, 2);
        f.Cpu.RFlagsValue = 0;
        f.Completes([.. prefix, 0x0F, 0x0D, 0xC1]);
        Assert.Equal((1UL, 2UL, 0UL), (f.Cpu[Gpr.Rax], f.Cpu[Gpr.Rcx], f.Cpu.RFlagsValue & RFlags.Arithmetic));
    }

    [Fact]
    public void CacheHint_OfAnAddressThatIsNotThere_DoesNothing()
    {
        using SystemFixture f = new SystemFixture().Long();
        f.Cpu[Gpr.Rax] = 0x8000_0000_0000_0000;
        f.Completes(0x0F, 0x1C, 0x00); // cldemote
    }

    [Fact]
    public void Xrstor_In64Bits_ReadsTheState()
    {
        using SystemFixture f = new SystemFixture().Long();
        f.State->Cr4 |= Cr4.Osxsave | Cr4.Osfxsr;
        f.State->Xcr0 = 3;
        f.Cpu[Gpr.Rbx] = At;
        f.Cpu[Gpr.Rax] = 2;
        f.Write(At + 24, 4, 0x1FA0);
        f.Write(At + 0xA0, 8, 0x1122_3344);
        f.Write(At + 512, 8, 2);
        f.Completes(0x48, 0x0F, 0xAE, 0x2B);
        Assert.Equal((0x1FA0UL, 0x1122_3344UL), ((ulong)f.State->Mxcsr, f.State->Ymm[0]));
    }

    [Fact]
    public void Bswap_Of16Bits_GivesZero()
    {
        using SystemFixture f = new SystemFixture().Long();
        f.Cpu[Gpr.Rax] = 0x1122_3344;
        f.Completes(0x66, 0x0F, 0xC8);
        Assert.Equal((0x1122_0000UL, SystemFixture.Stack), (f.Cpu[Gpr.Rax], f.Cpu[Gpr.Rsp]));
    }

    [Fact]
    public void Sysenter_ClearsTheInterruptFlag_AndSysexitGoesToTheUser()
    {
        using SystemFixture f = new SystemFixture().Long();
        f.State->SysenterCs = SystemFixture.Code64;
        f.State->SysenterEip = 0x9000;
        f.Cpu.RFlagsValue = RFlags.If;
        f.Completes(0x0F, 0x34);
        Assert.Equal((0x9000UL, 0UL), (f.Cpu.Rip, f.Cpu.RFlagsValue & RFlags.If));
        f.Cpu[Gpr.Rdx] = 0xA000;
        f.Cpu[Gpr.Rcx] = 0x6000;
        f.Completes(0x48, 0x0F, 0x35);
        Assert.Equal((0xA000UL, 0x6000UL, 3), (f.Cpu.Rip, f.Cpu[Gpr.Rsp], f.Cpu.Cpl));
    }

    private static Iced.Intel.Instruction Decode(byte[] code) => Iced.Intel.Decoder.Create(64, code).Decode();

    // Notes what it is asked, and sets flags.
    private sealed class Unit(Processor cpu, ulong flags) : IVmxInstructions
    {
        public SensitiveInstruction? Executed { get; private set; }

        public ExecResult Execute(SensitiveInstruction instruction, ulong memory, bool hasMemory, Gpr register, Gpr other)
        {
            Executed = instruction;
            cpu.RFlagsValue = flags;
            return ExecResult.Next;
        }
    }
}
