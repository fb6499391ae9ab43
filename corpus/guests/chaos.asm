; A guest for recording and replaying: it lets everything that comes from outside change its state.
;
; Survives, at every instruction boundary after the first: NMIs, interrupts with any vector from 0x20, bytes typed on the
; serial port (echoed by the interrupt handler). Mixes RDRAND values into a checksum in memory, reads the time-stamp
; counter (must not go back) and CPUID, works for about two million instructions, prints its counters on the serial port
; and ends with value 0. Any exception prints "!" and its vector and ends with status 1.
%include "flat64.inc"

%define BUFFER      0x100000
%define MASK        0x1fff                      ; 64 KiB of quadwords
%define ROUNDS      90000

start:
        mov     dx, COM1 + 2                    ; FIFO on, trigger level 1
        mov     al, 1
        out     dx, al
        mov     dx, COM1 + 4                    ; DTR, RTS, OUT2 (interrupt gate)
        mov     al, 0x0b
        out     dx, al
        mov     dx, COM1 + 1                    ; interrupt when a byte was received
        mov     al, 1
        out     dx, al
        sti

        mov     rbx, 0x9e3779b97f4a7c15         ; generator of the work
        mov     rdi, BUFFER
        mov     rbp, ROUNDS
round:
        mov     rax, rbx                        ; xorshift
        shl     rax, 13
        xor     rbx, rax
        mov     rax, rbx
        shr     rax, 7
        xor     rbx, rax
        mov     rax, rbx
        shl     rax, 17
        xor     rbx, rax
        mov     ecx, ebx
        and     ecx, MASK
        add     [rdi + rcx * 8], rbx
        mov     rax, [rdi + rcx * 8]
        xor     [rel sum], rax
        rol     qword [rel sum], 5

        test    ebp, 63
        jnz     .no_random
        rdrand  rax
        jnc     .no_random
        call    mix
.no_random:
        test    ebp, 255
        jnz     .no_time
        rdtsc
        shl     rdx, 32
        or      rax, rdx
        cmp     rax, [rel last_time]
        jb      time_went_back
        mov     [rel last_time], rax
        pause
.no_time:
        test    ebp, 1023
        jnz     .no_cpuid
        push    rbx
        xor     eax, eax
        xor     ecx, ecx
        cpuid
        mov     [rel vendor], ebx
        mov     [rel vendor + 4], edx
        mov     [rel vendor + 8], ecx
        pop     rbx
        call    copy
.no_cpuid:
        dec     rbp
        jnz     round

        cli
        mov     dx, COM1
        lea     rsi, [rel text_nmi]
        call    print
        mov     rax, [rel nmis]
        call    print_hex
        lea     rsi, [rel text_interrupts]
        call    print
        mov     rax, [rel interrupts]
        call    print_hex
        lea     rsi, [rel text_bytes]
        call    print
        mov     rax, [rel bytes]
        call    print_hex
        lea     rsi, [rel text_sum]
        call    print
        mov     rax, [rel sum]
        call    print_hex
        mov     al, 10
        out     dx, al
        xor     eax, eax
        jmp     end_with

; Mixes RAX into the checksum.
mix:
        xor     [rel sum], rax
        mov     rdx, 0x100000001b3
        mov     rax, [rel sum]
        imul    rax, rdx
        mov     [rel sum], rax
        ret

; Copies 256 bytes with a string instruction, so that events can arrive between its iterations.
copy:
        push    rsi
        push    rdi
        push    rcx
        mov     rsi, BUFFER
        mov     rdi, BUFFER + 0x20000
        mov     ecx, 256
        rep movsb
        pop     rcx
        pop     rdi
        pop     rsi
        ret

time_went_back:
        putc    'T'
        mov     eax, 2
        jmp     end_with

; NMIs, and every vector from 0x20. The serial port's own (0x24) also moves bytes; others may share that vector.
on_interrupt:
        push    rax
        push    rdx
        mov     eax, [rsp + 16 + VECTOR]
        cmp     eax, 2
        je      .nmi
        inc     qword [rel interrupts]
        cmp     eax, 0x24
        je      .serial
        xor     [rel vectors], rax
        rol     qword [rel vectors], 9
.done:  pop     rdx
        pop     rax
        add     rsp, 16
        iretq
.nmi:   inc     qword [rel nmis]
        jmp     .done
.serial:
        mov     dx, COM1 + 5
        in      al, dx
        test    al, 1
        jz      .done
        mov     dx, COM1
        in      al, dx
        out     dx, al
        inc     qword [rel bytes]
        jmp     .serial

on_exception:
        putc    '!'
        mov     dx, DEBUGCON
        mov     rax, [rsp + VECTOR]
        call    print_hex
        mov     eax, 1
        jmp     end_with

        align 8
sum:        dq 0
nmis:       dq 0
interrupts: dq 0
bytes:      dq 0
vectors:    dq 0
last_time:  dq 0
vendor:     dd 0, 0, 0

text_nmi:        db "nmi=", 0
text_interrupts: db " int=", 0
text_bytes:      db " echo=", 0
text_sum:        db " sum=", 0
