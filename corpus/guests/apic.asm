; The interrupt controllers of a PC, as a ROM: prints each vector that arrives as two hexadecimal digits on port 0xe9, and
; letters between them, and ends the run with value 0.
; Start: -machine pc with this file as firmware. The ROM is seen below 1 MiB too and runs there, in 64-bit mode.
        bits 16
        org 0xFF000

APIC    equ 0xFEE00000
IOAPIC  equ 0xFEC00000
TABLES  equ 0x1000              ; page tables, six pages
IDT     equ 0x8000
STUBS   equ 0x9000              ; one of 16 bytes for each vector
X2      equ 0x600               ; not 0 in x2APIC mode
PENDING equ 0x604               ; counts arrivals

%define real(x) ((x) - base + 0xF000)

base:
start:  cli
        xor     ax, ax
        mov     ds, ax
        mov     es, ax
        mov     ss, ax
        mov     sp, 0x8000
        cld
        mov     di, TABLES
        mov     cx, 6 * 2048
        rep     stosw
        mov     [X2], eax
        mov     [PENDING], eax

; The first 4 GiB, identity-mapped with 2 MiB pages.
        mov     dword [TABLES], TABLES + 0x1003
        mov     eax, TABLES + 0x2003
        mov     di, TABLES + 0x1000
        mov     cx, 4
.pdpt:  mov     [di], eax
        add     eax, 0x1000
        add     di, 8
        loop    .pdpt
        mov     eax, 0x83
        mov     di, TABLES + 0x2000
        mov     cx, 2048
.pd:    mov     [di], eax
        add     eax, 0x200000
        add     di, 8
        loop    .pd

        o32 lgdt [cs:real(gdtr)]
        mov     eax, 0x20
        mov     cr4, eax
        mov     eax, TABLES
        mov     cr3, eax
        mov     ecx, 0xC0000080
        rdmsr
        or      eax, 0x100
        wrmsr
        mov     eax, 0x80000011
        mov     cr0, eax
        jmp     dword 8:main

        bits 64
main:   mov     eax, 16
        mov     ds, eax
        mov     es, eax
        mov     ss, eax
        mov     esp, 0x8000
        mov     ebx, APIC
        mov     ebp, IOAPIC

; Stubs (PUSH vector, JMP arrive) and gates to them.
        mov     edi, STUBS
        xor     ecx, ecx
.stub:  mov     byte [rdi], 0x68
        mov     [rdi + 1], ecx
        mov     byte [rdi + 5], 0xE9
        mov     eax, arrive - 10
        sub     eax, edi
        mov     [rdi + 6], eax
        mov     eax, ecx
        shl     eax, 4
        mov     word [rax + IDT], di
        mov     dword [rax + IDT + 2], 0x8E000008
        mov     word [rax + IDT + 6], 0
        mov     qword [rax + IDT + 8], 0
        add     edi, 16
        inc     ecx
        cmp     ecx, 256
        jne     .stub
        lidt    [idtr]

; Registers after reset; the software enable.
        mov     eax, [rbx + 0x30]
        call    word32
        mov     eax, [rbx + 0x320]
        call    word32
        mov     dword [rbx + 0xF0], 0x1FF
        sti

; An interrupt to itself; two at once, the higher class first.
        mov     al, 'a'
        out     0xe9, al
        mov     dword [rbx + 0x300], 0x40041
        nop
        cli
        mov     dword [rbx + 0x300], 0x40042
        mov     dword [rbx + 0x300], 0x40092
        sti
        nop
        nop

; Held back by CR8, by the register, and let through by either.
        mov     al, 'b'
        out     0xe9, al
        mov     eax, 5
        mov     cr8, rax
        mov     dword [rbx + 0x300], 0x40051
        nop
        mov     al, '-'
        out     0xe9, al
        mov     eax, 4
        mov     cr8, rax
        nop
        mov     dword [rbx + 0x80], 0x77
        mov     rax, cr8
        call    byte8
        mov     dword [rbx + 0x300], 0x40061
        nop
        mov     eax, [rbx + 0xA0]
        call    byte8
        mov     dword [rbx + 0x80], 0
        nop
        mov     rax, cr8
        call    byte8

; The timer chip by the 8259A and LINT0.
        mov     al, 'c'
        out     0xe9, al
        cli
        mov     dword [rbx + 0x350], 0x700
        mov     al, 0x11
        out     0x20, al
        mov     al, 0x20
        out     0x21, al
        mov     al, 4
        out     0x21, al
        mov     al, 1
        out     0x21, al
        mov     al, 0xFE
        out     0x21, al
        mov     al, 0x30
        out     0x43, al
        mov     al, 0x40
        out     0x40, al
        xor     eax, eax
        out     0x40, al
        call    wait1
        mov     al, 0xFF
        out     0x21, al

; By the IO APIC, pin 2, twice.
        mov     al, 'd'
        out     0xe9, al
        mov     dword [rbp], 0x15
        mov     dword [rbp + 0x10], 0
        mov     dword [rbp], 0x14
        mov     dword [rbp + 0x10], 0x62
        mov     al, 0x34
        out     0x43, al
        mov     al, 0x40
        out     0x40, al
        xor     eax, eax
        out     0x40, al
        call    wait1
        call    wait1
        mov     dword [rbp + 0x10], 0x10062

; The APIC's timer: one shot, periodic, TSC deadline.
        mov     al, 'e'
        out     0xe9, al
        mov     dword [rbx + 0x3E0], 0xB
        mov     dword [rbx + 0x320], 0x71
        mov     dword [rbx + 0x380], 20000
        call    wait1
        mov     dword [rbx + 0x320], 0x20072
        mov     dword [rbx + 0x380], 50000
        call    wait1
        call    wait1
        call    wait1
        mov     dword [rbx + 0x380], 0
        mov     dword [rbx + 0x320], 0x40073
        rdtsc
        add     eax, 50000
        adc     edx, 0
        mov     ecx, 0x6E0
        wrmsr
        call    wait1
        rdmsr
        or      eax, edx
        call    byte8

; An NMI to itself, and a message with an illegal vector.
        mov     al, 'f'
        out     0xe9, al
        sti
        mov     dword [rbx + 0x310], 0
        mov     dword [rbx + 0x300], 0x400
        nop
        mov     dword [rbx + 0x370], 0xE1
        mov     dword [rbx + 0x300], 0x40003
        nop
        mov     dword [rbx + 0x280], 0
        mov     eax, [rbx + 0x280]
        call    byte8

; x2APIC mode: no page, registers as MSRs, #GP on what is reserved.
        mov     al, 'g'
        out     0xe9, al
        mov     ecx, 0x1B
        rdmsr
        or      eax, 0x400
        wrmsr
        mov     dword [X2], 1
        mov     eax, [rbx + 0x30]
        call    word32
        xor     edx, edx
        mov     eax, 0x81
        mov     ecx, 0x83F
        wrmsr
        nop
        mov     eax, 0x90
        mov     ecx, 0x808
        wrmsr
        mov     rax, cr8
        call    byte8
        mov     eax, 0x40082
        mov     ecx, 0x830
        wrmsr
        nop
        mov     al, '-'
        out     0xe9, al
        xor     eax, eax
        mov     ecx, 0x808
        wrmsr
        nop
        xor     eax, eax
        mov     ecx, 0x802
        wrmsr
        mov     ecx, 0x80E
        rdmsr

; Disabled and enabled again: the registers are as they were.
        mov     al, 'h'
        out     0xe9, al
        mov     ecx, 0x1B
        rdmsr
        and     eax, ~0xC00
        wrmsr
        mov     dword [X2], 0
        mov     eax, 1
        cpuid
        mov     ebx, APIC
        shr     edx, 9
        and     edx, 1
        mov     eax, edx
        call    byte8
        mov     eax, [rbx + 0xF0]
        call    word32
        mov     ecx, 0x1B
        rdmsr
        or      eax, 0x800
        wrmsr
        mov     eax, [rbx + 0xF0]
        call    word32
        mov     dword [rbx + 0x300], 0x400A1
        nop

        mov     al, 10
        out     0xe9, al
        xor     eax, eax
        out     0xf4, eax
stop:   hlt
        jmp     stop

; Waits with interrupts on until one has come. Interrupts are off before and after.
wait1:  cli
        mov     dword [PENDING], 0
.more:  sti
        hlt
        cli
        cmp     dword [PENDING], 0
        je      .more
        ret

; Prints EAX, or AL, in hexadecimal.
word32: push    rcx
        push    rax
        mov     ecx, 4
.next:  rol     eax, 8
        call    byte8
        loop    .next
        pop     rax
        pop     rcx
        ret
byte8:  push    rax
        push    rax
        shr     al, 4
        call    .digit
        pop     rax
        and     al, 15
        call    .digit
        pop     rax
        ret
.digit: add     al, '0'
        cmp     al, '9'
        jbe     .out
        add     al, 7
.out:   out     0xe9, al
        ret

; Every vector: prints it and ends the interrupt where it came from. #GP has an error code and skips two bytes.
arrive: push    rax
        push    rcx
        push    rdx
        inc     dword [PENDING]
        mov     eax, [rsp + 24]
        call    byte8
        cmp     al, 0x0D
        je      .fault
        cmp     al, 0x20
        jb      .done
        cmp     al, 0x30
        jb      .pic
        cmp     al, 0xFF
        je      .done
        cmp     dword [X2], 0
        jne     .x2
        mov     dword [rbx + 0xB0], 0
        jmp     .done
.x2:    xor     eax, eax
        xor     edx, edx
        mov     ecx, 0x80B
        wrmsr
        jmp     .done
.pic:   mov     al, 0x20
        out     0x20, al
.done:  pop     rdx
        pop     rcx
        pop     rax
        add     rsp, 8
        iretq
.fault: add     qword [rsp + 40], 2
        pop     rdx
        pop     rcx
        pop     rax
        add     rsp, 16
        iretq

        align 8
gdt:    dq      0, 0x00AF9B000000FFFF, 0x00CF93000000FFFF
gdtr:   dw      $ - gdt - 1
        dd      gdt
idtr:   dw      0xFFF
        dq      IDT

        times 0xFF0 - ($ - base) db 0xF4
        bits 16
        jmp     0xF000:real(start)
        times 0x1000 - ($ - base) db 0
