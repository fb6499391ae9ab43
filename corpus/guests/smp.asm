; Two processors of a PC, as a ROM: the first starts the second by INIT and start-up IPIs, then both go through the stages
; below in step. Prints a letter for each stage on port 0xe9 and ends the run with value 0; anything wrong prints '!' and
; ends it with value 1.
; Start: -machine pc -smp 2 with this file as firmware. Stage r has an intended race: its numbers, in hexadecimal, depend
; on how the processors take turns.
        bits 16
        org 0xFE000

APIC    equ 0xFEE00000
TABLES  equ 0x1000              ; page tables, six pages
IDT     equ 0x7000
FIRST   equ 8                   ; pages where start-up IPIs begin
SECOND  equ 9
CODE    equ 0xA000              ; a function that is rewritten while both call it
MAP     equ 0xB000              ; a page table for one page at WINDOW
PAGE1   equ 0xC000
PAGE2   equ 0xD000
WINDOW  equ 0x40000000
STACKS  equ 0x70000

STARTED equ 0x600               ; processors that came up
PHASE   equ 0x604               ; the stage that the first processor wants
DONE    equ 0x608               ; the stage, or round, that the second has finished
MUTEX   equ 0x60C
COUNTER equ 0x610               ; changed under the lock
ATOMIC  equ 0x614               ; changed by LOCK XADD
PINGS   equ 0x618               ; IPIs that the second processor took
PONGS   equ 0x61C               ; answers that the first one took
NMIS    equ 0x620
ACKS    equ 0x624               ; translations dropped on demand
RACE    equ 0x628               ; changed by both without a lock
TICKS   equ 0x62C
VECTOR  equ 0x630               ; page at which the second processor was started
ORDER   equ 0x638               ; who had the lock, in order

ROUNDS  equ 1000
RACES   equ 20000
CHANGES equ 40
PINGERS equ 8

%define real(x) ((x) - base + 0xE000)
%define rom(x)  ((x) - base + 0xFE000)

; Waits until a cell has a value.
%macro await 2
%%wait: pause
        cmp     dword [%1], %2
        jne     %%wait
%endmacro

; Sends an interrupt command: destination, low word.
%macro send 2
        mov     dword [rbp + 0x310], (%1) << 24
        mov     dword [rbp + 0x300], %2
%endmacro

%macro putc 1
        mov     al, %1
        out     0xe9, al
%endmacro

; From real mode to 64-bit mode at a place.
%macro enter64 1
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
        jmp     dword 8:%1
%endmacro

base:
start:  cli
        cld
        xor     ax, ax
        mov     ds, ax
        mov     es, ax
        mov     ss, ax
        mov     sp, 0x7000
        mov     di, 0x600
        mov     cx, 0x100
        rep     stosw
        mov     di, TABLES
        mov     cx, 6 * 2048
        rep     stosw

; The first 4 GiB, identity-mapped with 2 MiB pages; the one at WINDOW through a page table.
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
        mov     dword [TABLES + 0x3000], MAP + 3

; Where start-up IPIs begin: DL says which, and on to the ROM.
        mov     word [FIRST << 12], 0xB2 + (FIRST << 8)
        mov     byte [(FIRST << 12) + 2], 0xEA
        mov     dword [(FIRST << 12) + 3], real(started) + 0xF0000000
        mov     bx, SECOND << 12 >> 4
        mov     es, bx
        mov     word [es:0], 0xB2 + (SECOND << 8)
        mov     byte [es:2], 0xEA
        mov     dword [es:3], real(started) + 0xF0000000
        enter64 first

started:
        cli
        xor     ax, ax
        mov     ds, ax
        mov     [VECTOR], dl
        enter64 second

        bits 64
; State of a processor in 64-bit mode: segments, stack by the APIC's number, interrupt table, local APIC. Number in R15,
; address of the APIC in RBP.
%macro settle 0
        mov     eax, 16
        mov     ds, eax
        mov     es, eax
        mov     ss, eax
        mov     ebp, APIC
        mov     r15d, [rbp + 0x20]
        shr     r15d, 24
        mov     esp, r15d
        shl     esp, 12
        add     esp, STACKS + 0x1000
        lidt    [idtr]
        mov     dword [rbp + 0xF0], 0x1FF
        lea     ecx, [r15d + 24]
        mov     eax, 1
        shl     eax, cl
        mov     [rbp + 0xD0], eax
%endmacro

first:
; Gates: exceptions end the run, interrupts of the 8259A pair and others that nobody expects are forgotten.
        mov     edi, IDT
        xor     ecx, ecx
.gate:  mov     eax, broken
        mov     ebx, forget
        cmp     ecx, 32
        cmovae  eax, ebx
        call    gate
        inc     ecx
        cmp     ecx, 256
        jne     .gate
        mov     esi, special
.named: lodsd
        movzx   ecx, al
        shr     eax, 8
        jz      .ready
        mov     edi, ecx
        shl     edi, 4
        add     edi, IDT
        call    gate
        jmp     .named
.ready: settle

; The 8259A pair, masked, at 0x20 and 0x28; LINT0 is its output.
        mov     al, 0x11
        out     0x20, al
        out     0xA0, al
        mov     al, 0x20
        out     0x21, al
        mov     al, 0x28
        out     0xA1, al
        mov     al, 4
        out     0x21, al
        mov     al, 2
        out     0xA1, al
        mov     al, 1
        out     0x21, al
        out     0xA1, al
        mov     al, 0xFF
        out     0x21, al
        out     0xA1, al
        mov     dword [rbp + 0x350], 0x700

; a: INIT and two start-up IPIs to all others. The second one finds nobody who waits.
        mov     dword [rbp + 0x300], 0xC4500
        mov     dword [rbp + 0x300], 0xC4600 + FIRST
        mov     dword [rbp + 0x300], 0xC4600 + SECOND
        await   DONE, 1
        mov     ecx, 20000
.still: loop    .still
        cmp     dword [STARTED], 1
        jne     broken
        cmp     byte [VECTOR], FIRST
        jne     broken
        putc    'a'

; l: a lock and an atomic addition.
        mov     dword [PHASE], 2
        call    compete
        await   DONE, 2
        cmp     dword [COUNTER], 2 * ROUNDS
        jne     broken
        cmp     dword [ATOMIC], 2 * ROUNDS
        jne     broken
        putc    'l'

; m: code that the other processor has executed is changed; it serializes before it calls.
        mov     dword [CODE], 0x000000B8
        mov     dword [CODE + 4], 0xC300
        mov     dword [PHASE], 3
        xor     ebx, ebx
.next:  inc     ebx
        mov     [CODE + 1], ebx
        mov     eax, CODE
        call    rax
        cmp     eax, ebx
        jne     broken
        mov     [PHASE], ebx
        add     dword [PHASE], 100
.wait:  pause
        lea     eax, [rbx + 100]
        cmp     [DONE], eax
        jne     .wait
        cmp     ebx, CHANGES
        jne     .next
        putc    'm'

; t: a page gets another place; the other processor is told to drop its translation.
        mov     dword [PAGE1], 1
        mov     dword [PAGE2], 2
        mov     dword [MAP], PAGE1 + 3
        invlpg  [WINDOW]
        cmp     dword [WINDOW], 1
        jne     broken
        mov     dword [PHASE], 4
        await   DONE, 4
        mov     dword [MAP], PAGE2 + 3
        invlpg  [WINDOW]
        send    1, 0x42
        await   ACKS, 1
        mov     dword [PHASE], 5
        await   DONE, 5
        cmp     dword [WINDOW], 2
        jne     broken
        putc    't'

; i: IPIs there and back while both halt between them; to one by number, to the other by a logical destination.
        xor     ebx, ebx
.ping:  inc     ebx
        cli
        send    1, 0x40
.pong:  sti
        hlt
        cli
        cmp     [PONGS], ebx
        jne     .pong
        cmp     ebx, PINGERS
        jne     .ping
        cmp     dword [PINGS], PINGERS
        jne     broken
        putc    'i'

; n: an NMI.
        send    1, 0x400
.nmi:   pause
        cmp     dword [NMIS], 0
        je      .nmi
        mov     dword [PHASE], 6
        send    1, 0x44
        await   DONE, 6
        putc    'n'

; r: additions without a lock, and the order in which a lock was taken.
        mov     dword [PHASE], 7
        call    race
        await   DONE, 7
        putc    'r'
        mov     eax, [RACE]
        call    hex
        mov     rax, [ORDER]
        call    hex

; s: INIT, and a start at another page.
        send    1, 0x4500
        mov     dword [DONE], 0
        send    1, 0x4600 + SECOND
        await   DONE, 1
        cmp     dword [STARTED], 2
        jne     broken
        cmp     byte [VECTOR], SECOND
        jne     broken
        putc    's'

; h: both halt until a timer ticks.
        mov     dword [PHASE], 8
        mov     dword [rbp + 0x3E0], 0xB
        mov     dword [rbp + 0x320], 0x43
        mov     dword [rbp + 0x380], 1000000
.tick:  sti
        hlt
        cli
        cmp     dword [TICKS], 1
        jne     .tick
        putc    'h'
        putc    10
        xor     eax, eax
        out     0xF4, eax
.stop:  hlt
        jmp     .stop

second: settle
        lock inc dword [STARTED]
        cmp     byte [VECTOR], SECOND
        je      again
        mov     dword [DONE], 1
        await   PHASE, 2
        call    compete
        mov     dword [DONE], 2

        xor     r14d, r14d
.next:  inc     r14d
        lea     r13d, [r14 + 100]
.wait:  pause
        cmp     [PHASE], r13d
        jne     .wait
        xor     eax, eax
        cpuid
        mov     eax, CODE
        call    rax
        cmp     eax, r14d
        jne     broken
        mov     [DONE], r13d
        cmp     r14d, CHANGES
        jne     .next

        await   PHASE, 4
        cmp     dword [WINDOW], 1
        jne     broken
        sti
        mov     dword [DONE], 4
        await   PHASE, 5
        cmp     dword [WINDOW], 2
        jne     broken
        mov     dword [DONE], 5

.halt:  sti
        hlt
        cli
        cmp     dword [PHASE], 6
        jne     .halt
        mov     dword [DONE], 6
        await   PHASE, 7
        call    race
        mov     dword [DONE], 7
.spin:  pause
        jmp     .spin

again:  mov     dword [DONE], 1
.halt:  sti
        hlt
        jmp     .halt

; What both do in stage l. Changes EAX, ECX.
compete:
        mov     ecx, ROUNDS
.next:  call    acquire
        mov     eax, [COUNTER]
        inc     eax
        mov     [COUNTER], eax
        mov     dword [MUTEX], 0
        mov     eax, 1
        lock xadd [ATOMIC], eax
        loop    .next
        ret

; What both do in stage r. Changes RAX, ECX.
race:   mov     ecx, RACES
.add:   mov     eax, [RACE]
        inc     eax
        mov     [RACE], eax
        loop    .add
        mov     ecx, 5 * ROUNDS
.lock:  call    acquire
        imul    rax, [ORDER], 31
        lea     rax, [rax + r15 + 1]
        mov     [ORDER], rax
        mov     dword [MUTEX], 0
        loop    .lock
        ret

acquire:
        lock bts dword [MUTEX], 0
        jnc     .got
        pause
        jmp     acquire
.got:   ret

; Writes a gate at RDI to the handler at EAX, and moves RDI on. Changes EAX.
gate:   mov     [rdi], ax
        mov     dword [rdi + 2], 0x8E000008
        shr     eax, 16
        mov     [rdi + 6], ax
        mov     qword [rdi + 8], 0
        add     edi, 16
        ret

; Prints RAX as 16 hexadecimal digits. Changes RAX, RCX, RDX.
hex:    mov     rdx, rax
        mov     ecx, 16
.next:  rol     rdx, 4
        mov     eax, edx
        and     al, 15
        add     al, '0'
        cmp     al, '9'
        jbe     .out
        add     al, 7
.out:   out     0xe9, al
        loop    .next
        ret

broken: putc    '!'
        mov     eax, 1
        out     0xF4, eax
.stop:  hlt
        jmp     .stop

; Interrupts. On the second processor: a ping, a translation to drop, a wake-up; on the first: the answer, the timer.
ping:   lock inc dword [PINGS]
        mov     dword [rbp + 0xB0], 0
        send    1, 0x841
        iretq
pong:   lock inc dword [PONGS]
        jmp     ended
drop:   invlpg  [WINDOW]
        lock inc dword [ACKS]
        jmp     ended
tick:   lock inc dword [TICKS]
ended:  mov     dword [rbp + 0xB0], 0
forget: iretq
nmi:    lock inc dword [NMIS]
        iretq

        align 4
special:
        dd      2 | (rom(nmi) << 8)
        dd      0x40 | (rom(ping) << 8)
        dd      0x41 | (rom(pong) << 8)
        dd      0x42 | (rom(drop) << 8)
        dd      0x43 | (rom(tick) << 8)
        dd      0x44 | (rom(ended) << 8)
        dd      0

        align 8
gdt:    dq      0, 0x00AF9B000000FFFF, 0x00CF93000000FFFF
gdtr:   dw      $ - gdt - 1
        dd      gdt
idtr:   dw      0xFFF
        dq      IDT

        times 0x1FF0 - ($ - base) db 0xF4
        bits 16
        jmp     0xF000:real(start)
        times 0x2000 - ($ - base) db 0
