; A ROM of 64 KiB for emulators that start at the reset vector: goes to 64-bit mode with 4-level paging, copies peers64.bin to
; its place and starts it. The guest's first bytes are the ROM's, so whoever loads it sets `kernel` and `rounds` there.

%define ROM     0xffff0000
%define PLACE   0x10000
%define TABLES  0x1000

        org 0
guest:  incbin  "peers64.bin"
guest_end:

        bits 16
real:   cli
        mov     al, 2                           ; A20
        out     0x92, al
        o32 lgdt [cs:gdtr]
        mov     eax, cr0
        or      al, 1
        mov     cr0, eax
        jmp     dword 8:ROM + protected

        bits 32
protected:
        mov     eax, 16
        mov     ds, eax
        mov     es, eax
        mov     ss, eax
        mov     esi, ROM + guest
        mov     edi, PLACE
        mov     ecx, guest_end - guest
        rep movsb

        mov     edi, TABLES                     ; one page, one page, four pages of 2 MiB entries
        xor     eax, eax
        mov     ecx, 6 * 1024
        rep stosd
        mov     dword [TABLES], TABLES + 0x1003
        mov     edi, TABLES + 0x1000
        mov     eax, TABLES + 0x2003
.directory:
        mov     [edi], eax
        add     edi, 8
        add     eax, 0x1000
        cmp     edi, TABLES + 0x1020
        jb      .directory
        mov     edi, TABLES + 0x2000
        mov     eax, 0x83
.page:  mov     [edi], eax
        add     edi, 8
        add     eax, 0x200000
        cmp     edi, TABLES + 0x6000
        jb      .page

        mov     eax, TABLES
        mov     cr3, eax
        mov     eax, cr4
        or      eax, 0x20
        mov     cr4, eax
        mov     ecx, 0xc0000080
        rdmsr
        or      eax, 0x100
        wrmsr
        mov     eax, cr0
        or      eax, 0x80000000
        and     eax, 0x9fffffff                 ; caches on
        mov     cr0, eax
        jmp     24:PLACE

        align 8
gdt:    dq      0, 0x00cf9b000000ffff, 0x00cf93000000ffff, 0x00af9b000000ffff
gdtr:   dw      gdtr - gdt - 1
        dd      ROM + gdt

        times 0xfff0 - ($ - $$) db 0
        bits 16
        jmp     real
        times 0x10000 - ($ - $$) db 0
