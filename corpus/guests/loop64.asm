; A kernel of arithmetic, branches and memory references for benchmarks: about fifty million instructions, no exits but
; the output at its end. Prints a checksum and ends with value 0.
%include "flat64.inc"

%define TABLE       0x200000
%define MASK        0xffff                      ; 512 KiB of quadwords
%define ROUNDS      3846000                     ; 13 instructions each

start:
        mov     rbx, 0x9e3779b97f4a7c15
        mov     r8, 6364136223846793005
        mov     r9, 1442695040888963407
        mov     edi, TABLE
        xor     esi, esi
        mov     ebp, ROUNDS
round:
        imul    rbx, r8
        add     rbx, r9
        mov     rcx, rbx
        shr     rcx, 40
        and     ecx, MASK
        mov     rax, [rdi + rcx * 8]
        xor     rax, rbx
        mov     [rdi + rcx * 8], rax
        rol     rax, 23
        add     rsi, rax
        jns     .positive
        inc     rsi
.positive:
        dec     ebp
        jnz     round

        mov     dx, DEBUGCON
        mov     rax, rsi
        call    print_hex
        putc    10
        xor     eax, eax
        jmp     end_with

on_interrupt:
on_exception:
        putc    '!'
        mov     eax, 1
        jmp     end_with
