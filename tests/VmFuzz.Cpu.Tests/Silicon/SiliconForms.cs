using System.Buffers.Binary;
using Iced.Intel;
using VmFuzz.Arch;
using VmFuzz.Cpu.Tests.Integer;
using VmFuzz.Cpu.Tests.Vectors;

namespace VmFuzz.Cpu.Tests.Silicon;

/// <summary>Random cases of any instruction that user mode can execute: registers, memory, branches, the stack, faults.</summary>
internal static class SiliconForms
{
    private const ulong Window = NativeSandbox.WindowAddress;
    private const ulong WindowEnd = Window + NativeSandbox.WindowSize;
    private const ulong AnyFlag = RFlags.Arithmetic | RFlags.Df;

    /// <summary>Instructions without vectors from silicon, and why. Named tests are about them.</summary>
    public static readonly (Mnemonic[] Mnemonics, string Reason)[] Excluded =
    [
        ([Mnemonic.Syscall, Mnemonic.Sysenter, Mnemonic.Int], "enters the host's kernel"),
        ([Mnemonic.Sysexit, Mnemonic.Sysexitq, Mnemonic.Sysret, Mnemonic.Sysretq, Mnemonic.Getsec, Mnemonic.Rdpmc, Mnemonic.Monitor, Mnemonic.Mwait,
            Mnemonic.Vmcall, Mnemonic.Vmclear, Mnemonic.Vmfunc, Mnemonic.Vmlaunch, Mnemonic.Vmptrld, Mnemonic.Vmptrst, Mnemonic.Vmread, Mnemonic.Vmresume,
            Mnemonic.Vmwrite, Mnemonic.Vmxoff, Mnemonic.Vmxon, Mnemonic.Invept, Mnemonic.Invvpid], "differs between makers of processors"),
        ([Mnemonic.Sgdt, Mnemonic.Sidt, Mnemonic.Sldt, Mnemonic.Str, Mnemonic.Smsw], "gives the host's tables, or what its kernel says instead"),
        ([Mnemonic.Cpuid, Mnemonic.Rdtsc, Mnemonic.Rdtscp, Mnemonic.Rdrand, Mnemonic.Rdseed, Mnemonic.Xgetbv], "gives what the host is or what time it is"),
        ([Mnemonic.Rdfsbase, Mnemonic.Rdgsbase, Mnemonic.Wrfsbase, Mnemonic.Wrgsbase, Mnemonic.Lfs, Mnemonic.Lgs], "takes the thread's own data away"),
        ([Mnemonic.Fxsave, Mnemonic.Fxsave64, Mnemonic.Fxrstor, Mnemonic.Fxrstor64, Mnemonic.Xsave, Mnemonic.Xsave64, Mnemonic.Xsaveopt, Mnemonic.Xsaveopt64,
            Mnemonic.Xrstor, Mnemonic.Xrstor64], "has state of the host beside its own in the image"),
        ([Mnemonic.Retf, Mnemonic.Iret, Mnemonic.Iretd, Mnemonic.Iretq], "needs the host's descriptors"),
        ([Mnemonic.Rdpkru, Mnemonic.Wrpkru], "belongs to a feature that the default model does not show"),
        ([Mnemonic.Rsm, Mnemonic.Fneni, Mnemonic.Fndisi, Mnemonic.Fnsetpm], "has other meanings on other processors"),
    ];

    /// <summary>The same of single forms.</summary>
    public static readonly (Code[] Forms, string Reason)[] ExcludedForms =
    [
        ([Code.Jmp_m1616, Code.Jmp_m1632, Code.Jmp_m1664, Code.Call_m1616, Code.Call_m1632, Code.Call_m1664], "needs the host's descriptors"),
        ([Code.Reservednop_rm16_r16_0F0D, Code.Reservednop_rm32_r32_0F0D, Code.Reservednop_rm64_r64_0F0D], "does nothing on Intel's processors and is #UD on AMD's"),
        ([Code.Movsxd_r16_rm16], "reads two bytes on Intel's processors and four on AMD's"),
        ([Code.Lss_r64_m1664], "reads ten bytes on Intel's processors and six on AMD's"),
    ];

    /// <summary>Forms of a file that code of a size has, that the host has and that a row describes.</summary>
    public static IEnumerable<OpCodeInfo> Of(int bitness, VectorFile file) => InstructionForm.All
        .Where(form => form.Row is { } row && file.Model.Has(row.Feature) && file.IsAbout(form) && NativeForms.HostHas(row.Feature & NativeForms.Vectors))
        .Select(static form => form.Code.ToOpCode())
        .Where(info => NativeForms.IsIn(bitness, info) && NativeForms.HostHas(info.Mnemonic) && !IsExcluded(info));

    /// <summary>Makes a case of a form.</summary>
    /// <param name="form">The form.</param>
    /// <param name="bitness">Size of the code.</param>
    /// <param name="packed">Whether registers and memory hold elements that saturate, overflow, compare equal and count.</param>
    /// <param name="random">Where the values come from.</param>
    /// <returns>Null when the form has no such encoding in code of this size.</returns>
    public static SiliconCase? TryMake(OpCodeInfo form, int bitness, bool packed, ref SplitMix64 random)
    {
        for (int attempt = 0; attempt < 8; attempt++)
        {
            var maker = new Maker(form, bitness, packed, random);
            SiliconCase? made = maker.Make();
            random = maker.Random;
            if (made is not null)
            {
                return made;
            }
        }

        return null;
    }

    private static bool IsExcluded(OpCodeInfo info)
    {
        for (int i = 0; i < info.OpCount; i++)
        {
            if (info.GetOpKind(i) is OpCodeOperandKind.farbr2_2 or OpCodeOperandKind.farbr4_2 or OpCodeOperandKind.tr_reg
                || (info.GetOpKind(i) is OpCodeOperandKind.fs or OpCodeOperandKind.gs && info.Mnemonic == Mnemonic.Pop))
            {
                return true;
            }
        }

        return Excluded.Any(row => row.Mnemonics.Contains(info.Mnemonic)) || ExcludedForms.Any(row => row.Forms.Contains(info.Code));
    }

    private sealed class Maker(OpCodeInfo form, int bitness, bool packed, SplitMix64 seed)
    {
        private readonly SiliconState _start = new() { Rip = NativeSandbox.RipOf(bitness) };
        private readonly List<(ulong At, byte[] Bytes)> _memory = [(Window, [0]), (Window + 0x1000, [0])];
        private Instruction _ins = new() { Code = form.Code };
        private ulong _memoryAt;
        private SplitMix64 _random = seed;

        public SplitMix64 Random => _random;

        public SiliconCase? Make()
        {
            for (int r = 0; r < 16; r++)
            {
                _start.Registers[r] = RandomForms.Value(ref _random) & NativeForms.MaskOf(bitness);
                _start.Xmm[r] = new UInt128(_random.Next(), _random.Next());
            }

            if (UsesMmx)
            {
                _start.Fsw = (ushort)(_random.Next() & 0x7800);
                _start.Full = (byte)_random.Next();
                for (int r = 0; r < 8; r++)
                {
                    _start.X87[r] = new UInt128((ushort)_random.Next(), _random.Next());
                }
            }

            if (packed)
            {
                PackedElements();
            }

            _start.Registers[4] = Window + 0x800 + (ulong)(_random.Below(64) * 8);
            _start.Flags = RFlags.Reserved1 | RFlags.If | (_random.Next() & RFlags.Arithmetic) | (_random.Below(4) == 0 ? RFlags.Df : 0);
            for (int i = 0; i < form.OpCount; i++)
            {
                if (!TrySet(i, form.GetOpKind(i)))
                {
                    return null;
                }
            }

            AddPrefixes();
            return TryEncode(out byte[] code) ? Complete(code) : null;
        }

        // Values that depend on the encoding, and memory.
        private SiliconCase Complete(byte[] code)
        {
            ulong end = _start.Rip + (ulong)code.Length;
            if (UsesStack)
            {
                Fill(_start.Registers[4] - 16, 64);
            }

            switch (form.Mnemonic)
            {
                case Mnemonic.Div or Mnemonic.Idiv when _random.Below(4) != 0 && !Addresses(Register.RDX):
                    _start.Registers[2] = _random.Below(2) == 0 ? _random.Next() & 3 : (ulong)((long)_start.Registers[0] >> 63) & NativeForms.MaskOf(bitness);
                    break;
                case Mnemonic.Enter or Mnemonic.Leave:
                    _start.Registers[5] = Window + 0x700 + (ulong)(_random.Below(32) * 8);
                    Fill(_start.Registers[5] - 32, 64);
                    break;
                case Mnemonic.Loop or Mnemonic.Loope or Mnemonic.Loopne or Mnemonic.Jcxz or Mnemonic.Jecxz or Mnemonic.Jrcxz:
                    _start.Registers[1] = (_start.Registers[1] & 0xFFFF_0000_0000 & NativeForms.MaskOf(bitness)) + ((_random.Next() & 1) << 16) + (_random.Next() % 3);
                    break;
                case Mnemonic.Ret:
                    Put(_start.Registers[4], BitConverter.GetBytes(end));
                    break;
                case Mnemonic.Popf or Mnemonic.Popfd or Mnemonic.Popfq:
                    const ulong alike = RFlags.Tf | RFlags.Nt | RFlags.Rf | RFlags.Vm | RFlags.Ac | RFlags.Vif | RFlags.Vip;
                    Put(_start.Registers[4], BitConverter.GetBytes(_random.Next() & 0x3F_FFFF & ~alike));
                    break;
                case Mnemonic.Jmp or Mnemonic.Call when form.GetOpKind(0) is not (OpCodeOperandKind.br16_1 or OpCodeOperandKind.br32_1
                    or OpCodeOperandKind.br64_1 or OpCodeOperandKind.br16_2 or OpCodeOperandKind.br32_4 or OpCodeOperandKind.br64_4):
                    if (_ins.Op0Kind == OpKind.Memory)
                    {
                        Put(_memoryAt, BitConverter.GetBytes(end));
                    }
                    else
                    {
                        _start.Registers[_ins.Op0Register.GetFullRegister() - Register.RAX] = end;
                    }

                    break;
                case Mnemonic.Cmpxchg or Mnemonic.Cmpxchg8b or Mnemonic.Cmpxchg16b when _random.Below(2) == 0 && _memoryAt != 0:
                    Put(_memoryAt, [.. BitConverter.GetBytes(_start.Registers[0]).AsSpan(0, form.Mnemonic == Mnemonic.Cmpxchg8b ? 4 : 8), .. BitConverter.GetBytes(_start.Registers[2])]);
                    break;
                case Mnemonic.Bound when _memoryAt != 0:
                    Put(_memoryAt, _random.Below(2) == 0 ? [0, 0, 0, 0x80, 0xFF, 0xFF, 0xFF, 0x7F] : [0, 0x80, 0xFF, 0x7F, 0x12, 0x34, 0x56, 0x78]);
                    break;
                case Mnemonic.Psllw or Mnemonic.Pslld or Mnemonic.Psllq or Mnemonic.Psrlw or Mnemonic.Psrld or Mnemonic.Psrlq or Mnemonic.Psraw or Mnemonic.Psrad
                    or Mnemonic.Vpsllw or Mnemonic.Vpslld or Mnemonic.Vpsllq or Mnemonic.Vpsrlw or Mnemonic.Vpsrld or Mnemonic.Vpsrlq or Mnemonic.Vpsraw
                    or Mnemonic.Vpsrad when _random.Below(4) != 0 && _ins.GetOpKind(form.OpCount - 1) != OpKind.Immediate8:
                    SetCount((ulong)_random.Below(40));
                    break;
                case Mnemonic.Pcmpestri or Mnemonic.Pcmpestri64 or Mnemonic.Pcmpestrm or Mnemonic.Pcmpestrm64
                    or Mnemonic.Vpcmpestri or Mnemonic.Vpcmpestri64 or Mnemonic.Vpcmpestrm or Mnemonic.Vpcmpestrm64 when _ins.Op1Kind != OpKind.Memory:
                    _start.Registers[0] = VectorValues.Length(ref _random) & NativeForms.MaskOf(bitness);
                    _start.Registers[2] = VectorValues.Length(ref _random) & NativeForms.MaskOf(bitness);
                    break;
                default:
                    break;
            }

            if (form.Mnemonic is Mnemonic.Lds or Mnemonic.Les or Mnemonic.Lss && _memoryAt != 0)
            {
                int offset = form.Code is Code.Lds_r16_m1616 or Code.Les_r16_m1616 or Code.Lss_r16_m1616 ? 2 : form.Code == Code.Lss_r64_m1664 ? 8 : 4;
                Put(_memoryAt + (ulong)offset, BitConverter.GetBytes(Selector()));
            }

            KeepUsed();
            return new SiliconCase(bitness, [.. code, 0xF4], _start, _memory);
        }

        // Values that saturate, overflow and compare equal, in most of the cases; counts of shifts in the others.
        private void PackedElements()
        {
            Span<byte> registers = stackalloc byte[24 * 16];
            VectorValues.Fill(registers, ref _random);
            for (int r = 0; r < 16; r++)
            {
                _start.Xmm[r] = BinaryPrimitives.ReadUInt128LittleEndian(registers[(r * 16)..]);
            }

            if (IsVex)
            {
                VectorValues.Fill(registers, ref _random);
                for (int r = 0; r < 16; r++)
                {
                    _start.High[r] = BinaryPrimitives.ReadUInt128LittleEndian(registers[(r * 16)..]);
                }
            }

            for (int r = 0; UsesMmx && r < 8; r++)
            {
                _start.X87[r] = new UInt128((ulong)(_start.X87[r] >> 64), BinaryPrimitives.ReadUInt64LittleEndian(registers[((16 + r) * 16)..]));
            }
        }

        private bool IsVex => packed && form.Encoding == EncodingKind.VEX;

        private bool UsesMmx => Enumerable.Range(0, form.OpCount).Any(i => form.GetOpKind(i) is OpCodeOperandKind.mm_or_mem or OpCodeOperandKind.mm_reg or OpCodeOperandKind.mm_rm)
            || form.Mnemonic == Mnemonic.Emms;

        private void SetCount(ulong count)
        {
            Register register = _ins.GetOpRegister(form.OpCount - 1);
            if (_ins.GetOpKind(form.OpCount - 1) == OpKind.Memory)
            {
                Put(_memoryAt, BitConverter.GetBytes(count));
            }
            else if (register.IsMM())
            {
                _start.X87[register - Register.MM0] = count;
            }
            else
            {
                _start.Xmm[register - Register.XMM0] = count;
            }
        }

        private void AddPrefixes()
        {
            bool writesMemory = _memoryAt != 0 && _ins.OpCount > 0 && _ins.Op0Kind == OpKind.Memory;
            if (writesMemory && form.CanUseLockPrefix && _random.Below(4) == 0)
            {
                _ins.HasLockPrefix = true;
            }

            if (form.CanUseRepPrefix && _random.Below(2) == 0 && IsString)
            {
                _ins.HasRepPrefix = true;
            }
            else if (form.CanUseRepnePrefix && _random.Below(3) != 0 && IsString)
            {
                _ins.HasRepnePrefix = true;
            }

            if (IsString)
            {
                _start.Registers[1] = (ulong)_random.Below(6);
            }
        }

        private bool IsString { get; set; }

        private bool TrySet(int operand, OpCodeOperandKind kind)
        {
            switch (kind)
            {
                case OpCodeOperandKind.mem or OpCodeOperandKind.mem_mib:
                    return SetMemory(operand);
                case OpCodeOperandKind.r8_or_mem or OpCodeOperandKind.r16_or_mem or OpCodeOperandKind.r32_or_mem or OpCodeOperandKind.r64_or_mem
                    or OpCodeOperandKind.mm_or_mem or OpCodeOperandKind.xmm_or_mem or OpCodeOperandKind.ymm_or_mem when _random.Below(5) > 1 && _memoryAt == 0:
                    return SetMemory(operand);
                case OpCodeOperandKind.xmm_or_mem or OpCodeOperandKind.xmm_reg or OpCodeOperandKind.xmm_rm:
                    return SetRegister(operand, Register.XMM0 + _random.Below(bitness == 64 ? 16 : 8));
                case OpCodeOperandKind.mem_offs:
                    return SetOffset(operand);
                case OpCodeOperandKind.es or OpCodeOperandKind.cs or OpCodeOperandKind.ss or OpCodeOperandKind.ds or OpCodeOperandKind.fs or OpCodeOperandKind.gs:
                    if (form.Mnemonic == Mnemonic.Pop)
                    {
                        Put(_start.Registers[4], BitConverter.GetBytes((ulong)Selector()));
                    }

                    return SetRegister(operand, Register.ES + (kind - OpCodeOperandKind.es));
                case OpCodeOperandKind.seg_reg:
                    // Loads of FS and GS would take the thread's own data away; there is no CS to load.
                    return SetRegister(operand, operand == 1 ? Register.ES + _random.Below(6) : Either(Register.ES, Register.SS, Register.DS))
                        && (operand == 1 || LoadsSelector());
                case OpCodeOperandKind.cr_reg:
                    return SetRegister(operand, Either(Register.CR0, Register.CR2, Register.CR3, Register.CR4));
                case OpCodeOperandKind.dr_reg:
                    return SetRegister(operand, Either(Register.DR0, Register.DR3, Register.DR6, Register.DR7));
                case OpCodeOperandKind.dx:
                    return SetRegister(operand, Register.DX);
                case OpCodeOperandKind.br16_1 or OpCodeOperandKind.br16_2:
                    return SetBranch(operand, OpKind.NearBranch16);
                case OpCodeOperandKind.br32_1 or OpCodeOperandKind.br32_4:
                    return SetBranch(operand, OpKind.NearBranch32);
                case OpCodeOperandKind.br64_1 or OpCodeOperandKind.br64_4:
                    return SetBranch(operand, OpKind.NearBranch64);
                case OpCodeOperandKind.seg_rSI:
                    return SetString(operand, 6, bitness == 64 ? OpKind.MemorySegRSI : OpKind.MemorySegESI);
                case OpCodeOperandKind.seg_rDI:
                    return SetString(operand, 7, bitness == 64 ? OpKind.MemorySegRDI : OpKind.MemorySegEDI);
                case OpCodeOperandKind.es_rDI:
                    return SetString(operand, 7, bitness == 64 ? OpKind.MemoryESRDI : OpKind.MemoryESEDI);
                case OpCodeOperandKind.seg_rBX_al:
                    _ins.SetOpKind(operand, OpKind.Memory);
                    _ins.MemoryBase = bitness == 64 ? Register.RBX : Register.EBX;
                    _ins.MemoryIndex = Register.AL;
                    _start.Registers[3] = Window + 0x20;
                    Fill(Window + 0x20, 256);
                    return true;
                case OpCodeOperandKind.imm8 when packed && _random.Below(4) != 0:
                    _ins.SetOpKind(operand, OpKind.Immediate8);
                    _ins.Immediate8 = (byte)_random.Below(24);
                    return true;
                case OpCodeOperandKind.imm8 when form.Mnemonic == Mnemonic.Enter:
                    _ins.SetOpKind(operand, OpKind.Immediate8_2nd);
                    _ins.Immediate8_2nd = (byte)_random.Below(4);
                    return true;
                case OpCodeOperandKind.imm16 when form.Mnemonic is Mnemonic.Enter or Mnemonic.Ret:
                    _ins.SetOpKind(operand, OpKind.Immediate16);
                    _ins.Immediate16 = (ushort)_random.Below(0x60);
                    return true;
                default:
                    return RandomForms.TrySetOperand(ref _ins, operand, kind, ref _random, bitness) && LoadsSelector();
            }
        }

        // An operand whose value is used as a selector.
        private bool LoadsSelector()
        {
            if (form.Mnemonic is Mnemonic.Lar or Mnemonic.Lsl or Mnemonic.Verr or Mnemonic.Verw or Mnemonic.Mov)
            {
                for (int i = 0; i < form.OpCount; i++)
                {
                    bool source = form.Mnemonic is Mnemonic.Verr or Mnemonic.Verw || i == 1;
                    if (source && (form.Mnemonic != Mnemonic.Mov || _ins.Op0Register.IsSegmentRegister()) && _ins.GetOpKind(i) == OpKind.Register
                        && _ins.GetOpRegister(i).IsGPR())
                    {
                        _start.Registers[_ins.GetOpRegister(i).GetFullRegister() - Register.RAX] = Selector();
                    }
                }
            }

            return true;
        }

        // Null selectors, and those that no user may load: of the kernel's code, and behind the table. What LAR and its like say
        // of the former is the host's own; and a return from its kernel makes all null selectors 0.
        private ushort Selector()
        {
            bool looks = form.Mnemonic is Mnemonic.Lar or Mnemonic.Lsl or Mnemonic.Verr or Mnemonic.Verw;
            ushort[] chosen = _random.Below(3) == 0 ? (looks ? [0xFFF8] : [0x8, 0x10, 0xFFF8]) : looks ? [0, 1, 2, 3] : [0];
            return chosen[_random.Below(chosen.Length)];
        }

        private Register Either(params ReadOnlySpan<Register> registers) => registers[_random.Below(registers.Length)];

        private bool SetRegister(int operand, Register register)
        {
            _ins.SetOpKind(operand, OpKind.Register);
            _ins.SetOpRegister(operand, register);
            return true;
        }

        private bool SetBranch(int operand, OpKind kind)
        {
            _ins.SetOpKind(operand, kind);
            _ins.NearBranch64 = _start.Rip;
            return true;
        }

        private bool SetString(int operand, int register, OpKind kind)
        {
            _ins.SetOpKind(operand, kind);
            // A fault of MASKMOVQ changes the x87 state on AMD's processors.
            _start.Registers[register] = form.Mnemonic == Mnemonic.Maskmovq ? Window + 0x200 + (ulong)_random.Below(64) : Address();
            Fill(_start.Registers[register] - 16, 48);
            IsString = true;
            return true;
        }

        private bool SetOffset(int operand)
        {
            _ins.SetOpKind(operand, OpKind.Memory);
            _ins.MemoryDisplSize = bitness == 64 ? 8 : 4;
            _ins.MemoryDisplacement64 = _memoryAt = Address();
            Fill(_memoryAt, 16);
            return true;
        }

        private bool SetMemory(int operand)
        {
            _ins.SetOpKind(operand, OpKind.Memory);

            // AMD's processors do not ask for the alignment of SHA's operands.
            _memoryAt = form.Code.CpuidFeatures() is [CpuidFeature.SHA] ? Address() & ~15UL : Address();
            Fill(_memoryAt - 8, IsVex ? 40 : 24);
            if (form.Mnemonic is Mnemonic.Lar or Mnemonic.Lsl or Mnemonic.Verr or Mnemonic.Verw or Mnemonic.Mov)
            {
                Put(_memoryAt, BitConverter.GetBytes(form.Mnemonic == Mnemonic.Mov ? Selector() | (_random.Next() << 16) : Selector()));
            }

            if (form.Mnemonic is Mnemonic.Bt or Mnemonic.Bts or Mnemonic.Btr or Mnemonic.Btc && form.GetOpKind(1) != OpCodeOperandKind.imm8)
            {
                for (int r = 0; r < 16; r++)
                {
                    _start.Registers[r] = (ulong)(_random.Below(256) - 128) & NativeForms.MaskOf(bitness);
                }

                _start.Registers[4] = Window + 0x800;
            }

            if (form.Mnemonic == Mnemonic.Ldmxcsr && _random.Below(4) != 0)
            {
                Put(_memoryAt, BitConverter.GetBytes((uint)_random.Next() & 0xFFFF));
            }

            if (bitness == 64 && _random.Below(12) == 0)
            {
                _ins.MemoryBase = Register.RIP;
                _ins.MemoryDisplacement64 = _memoryAt;
                _ins.MemoryDisplSize = 8;
                return true;
            }

            bool wide = bitness == 64 && _random.Below(8) != 0;
            Register first = wide ? Register.RAX : Register.EAX;
            int chosen = RandomForms.NotStack(ref _random, bitness);
            int index = _random.Below(3) == 0 ? RandomForms.NotStack(ref _random, bitness) : -1;
            long displacement = _random.Below(257) - 128;
            ulong scaled = 0;
            _ins.MemoryBase = first + chosen;
            if (index >= 0 && index != chosen)
            {
                _ins.MemoryIndex = first + index;
                _ins.MemoryIndexScale = 1 << _random.Below(4);
                _start.Registers[index] = (ulong)_random.Below(64);
                scaled = _start.Registers[index] * (ulong)_ins.MemoryIndexScale;
            }

            _ins.MemoryDisplacement64 = (ulong)displacement & (wide ? ulong.MaxValue : uint.MaxValue);
            _ins.MemoryDisplSize = wide ? 8 : 4;
            _start.Registers[chosen] = (_memoryAt - (ulong)displacement - scaled) & (wide ? ulong.MaxValue : uint.MaxValue);
            if (form.Mnemonic == Mnemonic.Lea)
            {
                return true;
            }

            if (bitness != 64 && _random.Below(16) == 0)
            {
                _ins.SegmentPrefix = Either(Register.ES, Register.CS, Register.SS, Register.DS);
            }
            else if (bitness == 64 && wide && _random.Below(24) == 0 && (!packed || (_memoryAt & (IsVex ? 31UL : 15)) == 0))
            {
                // Not canonical, and aligned: which fault comes first otherwise differs between makers.
                _start.Registers[chosen] += 0x8000_1234_0000_0000;
            }

            return true;
        }

        // In the window, now and then at the boundary of its pages or across its end.
        private ulong Address() => _random.Below(ChecksAddressOnly ? 2 : 12) switch
        {
            0 => WindowEnd - (ulong)(ChecksAddressOnly ? 0 : _random.Below(16)),
            1 or 2 => Window + 0x1000 - (ulong)_random.Below(20),
            3 or 4 => Window + 0x100 + (ulong)_random.Below(NativeSandbox.WindowSize - 0x200),
            _ => Window + 0x100 + (ulong)(_random.Below((NativeSandbox.WindowSize - 0x200) / 16) * 16),
        };

        // All that shows of these is whether they fault.
        private bool ChecksAddressOnly => form.OpCount == 1 && (form.Mnemonic == Mnemonic.Clflush || form.Code.ToString().StartsWith("Prefetch", StringComparison.Ordinal));

        private void Fill(ulong at, int count)
        {
            byte[] bytes = new byte[count];
            if (packed)
            {
                VectorValues.Fill(bytes, ref _random);
            }
            else
            {
                _random.Fill(bytes);
            }

            Put(at, bytes);
        }

        private void Put(ulong at, byte[] bytes)
        {
            ulong from = Math.Max(at, Window), to = Math.Min(at + (ulong)bytes.Length, WindowEnd);
            if (from < to)
            {
                _memory.Add((from, bytes[(int)(from - at)..(int)(to - at)]));
            }
        }

        // A branch goes over a marker, LEA of a register, so it shows whether it was taken.
        private bool TryEncode(out byte[] code)
        {
            if (!TryEncodeOne(out code))
            {
                return false;
            }

            if (_ins.OpCount > 0 && _ins.Op0Kind is OpKind.NearBranch16 or OpKind.NearBranch32 or OpKind.NearBranch64)
            {
                byte[] marker = bitness switch { 64 => [0x48, 0x8D, 0x5B, 0x55], 32 => [0x8D, 0x5B, 0x55], _ => [0x67, 0x8D, 0x5B, 0x55] };
                ulong target = _start.Rip + (ulong)(code.Length + marker.Length);
                _ins.NearBranch64 = _ins.Op0Kind == OpKind.NearBranch16 ? (ushort)target : target;
                if (!TryEncodeOne(out code))
                {
                    return false;
                }

                code = [.. code, .. marker];
            }

            return true;
        }

        private bool TryEncodeOne(out byte[] code)
        {
            var writer = new RandomForms.ListWriter();
            code = [];
            if (!Encoder.Create(bitness, writer).TryEncode(_ins, _start.Rip, out _, out _))
            {
                return false;
            }

            code = [.. writer.Bytes];
            var decoder = Decoder.Create(bitness, new ByteArrayCodeReader(code), _start.Rip);
            return decoder.Decode().Code == form.Code;
        }

        private bool Addresses(Register register) => _ins.MemoryBase.GetFullRegister() == register || _ins.MemoryIndex.GetFullRegister() == register;

        private bool UsesStack => new InstructionInfoFactory().GetInfo(_ins).GetUsedRegisters().Any(static used => used.Register.GetFullRegister() == Register.RSP);

        // Registers that the instruction does not use are zero: less to read, and the file is small.
        private void KeepUsed()
        {
            var general = new bool[16];
            var vector = new bool[16];
            var mmx = new bool[8];
            general[3] = (_ins.OpCount > 0 && _ins.Op0Kind is OpKind.NearBranch16 or OpKind.NearBranch32 or OpKind.NearBranch64);
            foreach (UsedRegister used in new InstructionInfoFactory().GetInfo(_ins).GetUsedRegisters())
            {
                if (used.Register.IsGPR())
                {
                    general[used.Register.GetFullRegister() - Register.RAX] = true;
                }
                else if (used.Register.IsVectorRegister())
                {
                    vector[used.Register.GetFullRegister() - Register.ZMM0] = true;
                }
                else if (used.Register.IsMM())
                {
                    mmx[used.Register - Register.MM0] = true;
                }
            }

            _start.Registers[4] = general[4] ? _start.Registers[4] : Window + 0x800;
            general[4] = true;
            general[0] |= form.OpCount == 0;
            for (int r = 0; r < 16; r++)
            {
                _start.Registers[r] = general[r] && r < NativeForms.RegistersOf(bitness) ? _start.Registers[r] & NativeForms.MaskOf(bitness) : 0;
                _start.Xmm[r] = vector[r] ? _start.Xmm[r] : 0;
                _start.High[r] = vector[r] ? _start.High[r] : 0;
            }

            for (int r = 0; r < 8; r++)
            {
                _start.X87[r] = mmx[r] ? _start.X87[r] : 0;
            }

            _start.Flags &= AnyFlag | RFlags.If | RFlags.Reserved1;
        }
    }
}
