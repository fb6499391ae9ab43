; Maps and remaps pages, watches accessed and dirty bits, modifies its own code. Prints OK and ends with value 0; a check
; that fails prints "E" and its number and ends with value 1.
%include "flat64.inc"

%define PD0         0x3000                      ; page directory of the first GiB
%define TABLE       0x90000                     ; a page table for the 2 MiB at WINDOW
%define WINDOW      0x800000
%define FIRST       0x500000                    ; two pages of memory behind the window
%define SECOND      0x501000
%define PRESENT     1
%define WRITABLE    2
%define ACCESSED    0x20
%define DIRTY       0x40

; check number, condition: goes on when the condition holds.
%macro check 2
        mov     qword [rel number], %1
        j%-2    failed
%endmacro

start:
        ; Two pages with different contents, seen through the identity map.
        mov     rax, 0x1111111111111111
        mov     [FIRST], rax
        mov     rax, 0x2222222222222222
        mov     [SECOND], rax

        ; An empty table of 4 KiB pages replaces the 2 MiB page at WINDOW.
        mov     edi, TABLE
        xor     eax, eax
        mov     ecx, 512
        rep stosq
        mov     qword [TABLE], FIRST | PRESENT | WRITABLE
        mov     qword [PD0 + (WINDOW >> 21) * 8], TABLE | PRESENT | WRITABLE
        mov     rax, cr3                        ; drops what was cached about the 2 MiB page
        mov     cr3, rax

        ; Read: the first page's content, accessed set, dirty clear.
        mov     rbx, WINDOW
        mov     rax, [rbx]
        cmp     rax, [FIRST]
        check   1, e
        mov     rax, [TABLE]
        and     eax, ACCESSED | DIRTY
        cmp     eax, ACCESSED
        check   2, e

        ; Write: dirty set, memory changed.
        mov     qword [rbx + 8], 77
        cmp     qword [FIRST + 8], 77
        check   3, e
        mov     rax, [TABLE]
        and     eax, ACCESSED | DIRTY
        cmp     eax, ACCESSED | DIRTY
        check   4, e

        ; Remap, INVLPG: the second page's content, and only it changes.
        mov     qword [TABLE], SECOND | PRESENT | WRITABLE
        invlpg  [rbx]
        mov     rax, [rbx]
        cmp     rax, [SECOND]
        check   5, e
        mov     qword [rbx + 8], 88
        cmp     qword [FIRST + 8], 77
        check   6, e
        cmp     qword [SECOND + 8], 88
        check   7, e

        ; Two addresses for one page: a write through one is read through the other.
        mov     qword [TABLE + 8], SECOND | PRESENT | WRITABLE
        mov     qword [rbx + 0x1000 + 16], 99
        cmp     qword [rbx + 16], 99
        check   8, e

        ; An access across two pages that are neighbours only in the window, in reverse order.
        mov     qword [TABLE], SECOND | PRESENT | WRITABLE
        mov     qword [TABLE + 8], FIRST | PRESENT | WRITABLE
        invlpg  [rbx]
        invlpg  [rbx + 0x1000]
        mov     rax, 0x8877665544332211
        mov     [rbx + 0xffc], rax
        cmp     dword [SECOND + 0xffc], 0x44332211
        check   9, e
        mov     eax, [FIRST]
        cmp     eax, 0x88776655
        check   10, e
        cmp     rax, [rbx + 0x1000]
        check   11, ne                          ; the upper half of FIRST is still 0x11111111

        ; Many remaps in a row: each time the new page.
        mov     ecx, 1000
        mov     dword [FIRST], 0
        mov     dword [SECOND], 0
.flip:  xor     qword [TABLE], FIRST ^ SECOND
        invlpg  [rbx]
        inc     dword [rbx]
        loop    .flip
        cmp     dword [FIRST], 500
        check   12, e
        cmp     dword [SECOND], 500
        check   13, e

        ; A page that is taken away faults; the handler puts it back and the instruction runs again.
        mov     qword [TABLE], 0
        invlpg  [rbx]
        mov     qword [rel faults], 0
        mov     dword [rbx], 1234
        cmp     qword [rel faults], 1
        check   14, e
        cmp     dword [FIRST], 1234
        check   15, e

        ; Code: "mov eax, imm32; ret" in the window, changed between calls.
        mov     byte [rbx], 0xb8
        mov     dword [rbx + 1], 1
        mov     byte [rbx + 5], 0xc3
        call    rbx
        cmp     eax, 1
        check   16, e
        mov     dword [rbx + 1], 2
        call    rbx
        cmp     eax, 2
        check   17, e

        ; Changed through the other address of the page.
        mov     dword [FIRST + 1], 3
        call    rbx
        cmp     eax, 3
        check   18, e

        ; The same address, another page with other code.
        mov     byte [SECOND], 0xb8
        mov     dword [SECOND + 1], 4
        mov     byte [SECOND + 5], 0xc3
        mov     qword [TABLE], SECOND | PRESENT | WRITABLE
        invlpg  [rbx]
        call    rbx
        cmp     eax, 4
        check   19, e

        ; A loop that changes its own next instruction in every iteration (a branch follows the store).
        xor     edx, edx
        mov     ecx, 300
.again: mov     [rel .patched + 1], ecx
        jmp     .patched
.patched:
        mov     eax, 0
        add     edx, eax
        loop    .again
        cmp     edx, 300 * 301 / 2
        check   20, e

        putc    'O'
        putc    'K'
        putc    10
        xor     eax, eax
        jmp     end_with

failed:
        putc    'E'
        mov     dx, DEBUGCON
        mov     rax, [rel number]
        call    print_hex
        putc    10
        mov     eax, 1
        jmp     end_with

; A page fault at the window puts the first page there. Anything else is a failure.
on_interrupt:
on_exception:
        push    rax
        cmp     qword [rsp + 8 + VECTOR], 14
        jne     failed
        mov     rax, cr2
        cmp     rax, WINDOW
        jne     failed
        cmp     qword [rel faults], 0
        jne     failed
        inc     qword [rel faults]
        mov     qword [TABLE], FIRST | PRESENT | WRITABLE
        pop     rax
        add     rsp, 16
        iretq

        align 8
number: dq 0
faults: dq 1                                    ; none is expected before check 14
