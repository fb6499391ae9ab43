; Runs the instructions that a hypervisor intercepts. What they give goes into a checksum, unless it may differ between a
; bare processor and a virtual machine (time, random values, most of CPUID, VMCALL); those are only checked for sense.
; Prints a line with REP OUTSB and the checksum, and ends with value 0; a check that fails prints "!" and its number.
%include "flat64.inc"

%define MMIO        0xfee00000                  ; nothing there on machine flat: reads give ones, writes are lost
%define HOLE        0xf0000000
%define MSR_EFER    0xc0000080
%define MSR_FS_BASE 0xc0000100
%define MSR_GS_BASE 0xc0000101
%define MSR_STAR    0xc0000081
%define MSR_NONE    0x12345678

%macro check 2
        mov     qword [rel number], %1
        j%-2    failed
%endmacro

; May fault with the vector given: goes on at the label then, with RCX = 1 instead of 0.
%macro guarded 2+
        lea     rax, [rel %%after]
        mov     [rel resume], rax
        mov     qword [rel want_vector], %1
        mov     qword [rel caught], 0
        mov     rax, [rel argument]
        %2
%%after:
        mov     qword [rel resume], 0
%endmacro

start:
        mov     r15, 0xcbf29ce484222325         ; the checksum

        ; CPUID: the vendor, which no hypervisor changes.
        xor     eax, eax
        xor     ecx, ecx
        cpuid
        mov     eax, ebx
        call    mix
        mov     eax, ecx
        call    mix
        mov     eax, edx
        call    mix
        mov     eax, 1
        xor     ecx, ecx
        cpuid
        mov     eax, edx
        and     eax, 0x07808101                 ; FPU, CX8, CMOV, MMX, FXSR, SSE, SSE2
        call    mix

        ; MSRs.
        mov     ecx, MSR_EFER
        rdmsr
        call    mix_pair
        mov     ecx, MSR_EFER
        rdmsr
        or      eax, 1                          ; SYSCALL on
        wrmsr
        rdmsr
        call    mix_pair
        mov     ecx, MSR_FS_BASE
        mov     eax, 0x00200000
        xor     edx, edx
        wrmsr
        rdmsr
        call    mix_pair
        mov     rax, 0x0123456789abcdef
        mov     [0x200010], rax
        mov     rax, [fs:0x10]
        call    mix
        mov     ecx, MSR_GS_BASE
        mov     eax, 0x00200008
        xor     edx, edx
        wrmsr
        mov     rax, [gs:8]
        call    mix
        mov     ecx, MSR_STAR
        mov     eax, 0x13572468
        mov     edx, 0x00080010
        wrmsr
        rdmsr
        call    mix_pair
        mov     ecx, MSR_NONE
        guarded 13, rdmsr
        cmp     qword [rel caught], 1
        check   1, e
        mov     ecx, MSR_NONE
        guarded 13, wrmsr
        cmp     qword [rel caught], 1
        check   2, e
        mov     ecx, MSR_EFER                   ; a reserved bit
        mov     edx, 0x80000000
        guarded 13, wrmsr
        cmp     qword [rel caught], 1
        check   3, e

        ; Control registers.
        mov     rax, cr0
        call    mix
        mov     rax, cr0
        or      eax, 0x2                        ; MP
        mov     cr0, rax
        mov     rax, cr0
        call    mix
        mov     rax, cr0
        and     rax, ~2
        mov     cr0, rax
        clts
        smsw    ax
        movzx   eax, ax
        call    mix
        mov     rax, cr3
        mov     cr3, rax
        mov     rax, cr3
        call    mix
        mov     rax, cr4
        call    mix
        mov     rax, cr4
        or      eax, 0x80                       ; PGE
        mov     cr4, rax
        mov     rax, cr4
        call    mix
        mov     rax, cr4
        and     eax, ~0x80
        mov     cr4, rax
        mov     rax, 5
        mov     cr8, rax
        mov     rax, cr8
        call    mix
        xor     eax, eax
        mov     cr8, rax
        mov     rax, cr4
        bts     rax, 63                         ; a reserved bit
        mov     [rel argument], rax
        guarded 13, {mov cr4, rax}
        cmp     qword [rel caught], 1
        check   4, e
        mov     rax, cr0
        btr     rax, 0                          ; paging without protection
        mov     [rel argument], rax
        guarded 13, {mov cr0, rax}
        cmp     qword [rel caught], 1
        check   5, e

        ; Debug registers.
        mov     rax, 0x10000
        mov     dr0, rax
        mov     rax, dr0
        call    mix
        mov     rax, dr7
        call    mix

        ; Translation.
        mov     rbx, 0x600000
        mov     qword [rbx], 42
        invlpg  [rbx]
        mov     rax, [rbx]
        call    mix

        ; Ports: out, in, and string forms.
        in      al, DEBUGCON
        movzx   eax, al
        call    mix
        mov     dx, COM1 + 7                    ; scratch register of the serial port
        mov     al, 0x5a
        out     dx, al
        xor     eax, eax
        in      al, dx
        call    mix
        mov     dx, 0x1234                      ; nothing there
        in      eax, dx
        call    mix
        in      ax, dx
        movzx   eax, ax
        call    mix
        mov     dx, DEBUGCON
        lea     rsi, [rel line]
        mov     ecx, line_length
        cld
        rep outsb
        mov     rax, rcx
        call    mix
        lea     rax, [rel line + line_length]
        sub     rax, rsi
        call    mix
        mov     dx, DEBUGCON
        mov     edi, 0x201000
        mov     ecx, 7
        rep insb
        mov     rax, [0x201000]
        call    mix
        mov     rax, rdi
        call    mix

        ; Time must not go back; random values may come or not.
        rdtsc
        shl     rdx, 32
        or      rax, rdx
        mov     rbx, rax
        pause
        rdtsc
        shl     rdx, 32
        or      rax, rdx
        cmp     rax, rbx
        check   6, a
        rdtscp
        mov     eax, ecx                        ; IA32_TSC_AUX
        call    mix
        rdrand  rax
        rdrand  ecx
        rdseed  dx
        wbinvd

        ; VMCALL: #UD on a bare processor, a hypercall in a virtual machine. This number exists in none.
        mov     qword [rel argument], 0x7fff1234
        guarded 6, vmcall
        ; VMXON without CR4.VMXE: #UD in both.
        guarded 6, vmxon [rel number]
        cmp     qword [rel caught], 1
        check   7, e

        ; Memory-mapped I/O where nothing answers, in many forms.
        mov     rbx, MMIO
        mov     al, [rbx + 0x20]
        movzx   eax, al
        call    mix
        mov     ax, [rbx + 0x20]
        movzx   eax, ax
        call    mix
        mov     eax, [rbx + 0x20]
        call    mix
        mov     rax, [rbx + 0x30]
        call    mix
        mov     r9d, [rbx + 0x80]
        mov     rax, r9
        call    mix
        movzx   eax, byte [rbx + 0x33]
        call    mix
        movzx   r10d, word [rbx + 0x34]
        mov     rax, r10
        call    mix
        movsx   eax, byte [rbx + 0x35]
        call    mix
        movsx   rax, word [rbx + 0x36]
        call    mix
        movsxd  rax, dword [rbx + 0x38]
        call    mix
        mov     rcx, 4
        mov     ah, [rbx + rcx * 8]
        movzx   eax, ax
        call    mix
        mov     eax, [abs qword HOLE + 0x123]   ; absolute, not aligned
        call    mix
        mov     rdx, 0x55
        mov     [rbx + 0x40], dl
        mov     [rbx + 0x42], dx
        mov     [rbx + 0x44], edx
        mov     [rbx + 0x48], rdx
        mov     byte [rbx + 0x50], 1
        mov     word [rbx + 0x52], 0x102
        mov     dword [rbx + 0x54], 0x1020304
        mov     qword [rbx + 0x58], -2
        mov     eax, [rbx + 0x54]
        call    mix

        mov     dx, DEBUGCON
        mov     rax, r15
        call    print_hex
        putc    10
        xor     eax, eax
        jmp     end_with

; Mixes EDX:EAX into the checksum.
mix_pair:
        shl     rdx, 32
        mov     eax, eax
        or      rax, rdx
; Mixes RAX into the checksum (FNV-1a over the quadword). Changes RAX.
mix:
        xor     r15, rax
        mov     rax, 0x100000001b3
        imul    r15, rax
        ret

failed:
        putc    '!'
        mov     dx, DEBUGCON
        mov     rax, [rel number]
        call    print_hex
        putc    10
        mov     eax, 1
        jmp     end_with

on_interrupt:
on_exception:
        push    rax
        mov     rax, [rel resume]
        test    rax, rax
        jz      .wrong
        mov     [rsp + 8 + SAVED_RIP], rax
        mov     rax, [rsp + 8 + VECTOR]
        cmp     rax, [rel want_vector]
        jne     .wrong
        inc     qword [rel caught]
        pop     rax
        add     rsp, 16
        iretq
.wrong: mov     rax, [rsp + 8 + VECTOR]
        or      rax, 0x100
        mov     [rel number], rax
        jmp     failed

        align 8
number:      dq 0
want_vector: dq 0
caught:      dq 0
resume:      dq 0
argument:    dq 0
line:        db "exits "
line_length  equ $ - line
