; Provokes exceptions, and checks in the handler the vector, the error code, the saved RIP and, where there is one, the
; address in CR2. Prints a letter for each and ends with value 0; a wrong one prints "!" and its number.
%include "flat64.inc"

; fault letter, vector, error code, instruction...: the instruction must fault; execution goes on after it.
%macro fault 4+
        mov     byte [rel letter], %1
        mov     qword [rel want_vector], %2
        mov     qword [rel want_error], %3
        lea     rax, [rel %%at]
        mov     [rel want_rip], rax
        lea     rax, [rel %%after]
        mov     [rel resume], rax
%%at:   %4
        jmp     wrong                           ; it did not fault
%%after:
        inc     qword [rel number]
%endmacro

; trap letter, vector, instruction...: the saved RIP must be the one after the instruction.
%macro trap 3+
        mov     byte [rel letter], %1
        mov     qword [rel want_vector], %2
        mov     qword [rel want_error], 0
        lea     rax, [rel %%after]
        mov     [rel want_rip], rax
        mov     [rel resume], rax
        %3
%%after:
        inc     qword [rel number]
%endmacro

%define PD0         0x3000                      ; page directory of the first GiB
%define READ_ONLY   0x400000
%define BEYOND      0x123456789000              ; canonical, nothing mapped
%define NON_CANONICAL 0x8000000000000000

start:
        fault   'U', 6, 0, ud2

        xor     edx, edx
        xor     ecx, ecx
        fault   'D', 0, 0, div ecx

        ; Quotient too large for the destination.
        mov     edx, 2
        mov     ecx, 1
        fault   'D', 0, 0, div ecx

        ; Data and stack references with an address that is not canonical.
        mov     rbx, NON_CANONICAL
        fault   'G', 13, 0, {mov rcx, [rbx]}
        mov     rbp, NON_CANONICAL
        fault   'S', 12, 0, {mov rcx, [rbp]}

        ; A selector beyond the descriptor table: the error code is the selector.
        mov     ecx, 0x28
        fault   'G', 13, 0x28, {mov ds, ecx}

        ; Not present, read.
        mov     rbx, BEYOND
        mov     [rel want_cr2], rbx
        fault   'P', 14, 0, {mov rcx, [rbx]}

        ; Not present, write; the last byte of four lies on the page that is absent.
        mov     rbx, 0xffffffff
        mov     rcx, 0x100000000
        mov     [rel want_cr2], rcx
        fault   'P', 14, 2, {mov dword [rbx - 2], 1}

        ; Present, write to a read-only page (CR0.WP is set).
        and     qword [PD0 + (READ_ONLY >> 21) * 8], ~2
        mov     rbx, READ_ONLY
        invlpg  [rbx]
        lea     rcx, [rbx + 0x123]
        mov     [rel want_cr2], rcx
        fault   'P', 14, 3, {mov [rbx + 0x123], eax}

        ; Reserved bit in a present entry.
        mov     rcx, 1 << 51
        or      qword [PD0 + (READ_ONLY >> 21) * 8], rcx
        invlpg  [rbx]
        mov     [rel want_cr2], rbx
        fault   'P', 14, 9, {mov ecx, [rbx]}
        mov     rcx, ~(1 << 51)
        and     qword [PD0 + (READ_ONLY >> 21) * 8], rcx
        or      qword [PD0 + (READ_ONLY >> 21) * 8], 2
        invlpg  [rbx]

        trap    'B', 3, int3
        trap    'I', 0x80, int 0x80

        ; Single step: TF set by POPFQ, the trap comes after the next instruction. DR6.BS says why.
        mov     byte [rel letter], 'T'
        mov     qword [rel want_vector], 1
        mov     qword [rel want_error], 0
        lea     rax, [rel .stepped]
        mov     [rel want_rip], rax
        mov     [rel resume], rax
        pushfq
        or      qword [rsp], 0x100
        popfq
        nop
.stepped:
        mov     rax, dr6
        test    eax, 1 << 14
        jz      wrong
        inc     qword [rel number]

        ; Every one was taken once.
        cmp     qword [rel taken], 13
        jne     wrong
        putc    10
        xor     eax, eax
        jmp     end_with

wrong:
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
        mov     rax, [rsp + 8 + VECTOR]
        cmp     rax, [rel want_vector]
        jne     .wrong
        cmp     eax, 14
        jne     .not_page
        mov     rax, cr2
        cmp     rax, [rel want_cr2]
        jne     .wrong
.not_page:
        mov     rax, [rsp + 8 + ERROR]
        cmp     rax, [rel want_error]
        jne     .wrong
        mov     rax, [rsp + 8 + SAVED_RIP]
        cmp     rax, [rel want_rip]
        jne     .wrong
        cmp     qword [rsp + 8 + SAVED_CS], CODE
        jne     .wrong
        cmp     qword [rsp + 8 + SAVED_RSP], STACK
        jne     .wrong
        putc    [rel letter]
        inc     qword [rel taken]
        mov     rax, [rel resume]
        mov     [rsp + 8 + SAVED_RIP], rax
        and     qword [rsp + 8 + SAVED_FLAGS], ~0x100
        pop     rax
        add     rsp, 16
        iretq
.wrong: jmp     wrong

        align 8
letter:      dq 0
number:      dq 1
taken:       dq 0
want_vector: dq 0
want_error:  dq 0
want_rip:    dq 0
want_cr2:    dq 0
resume:      dq 0
