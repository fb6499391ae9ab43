; A bare-metal test image in small: an ELF image of 32 bits with a multiboot 1 header, which looks at what -machine unit-test
; has for such images. Prints a letter on the serial port for each thing that is right, and switches off by port 0x8900.
        bits 32
BASE    equ 0x100000
        org BASE

file:   db      0x7F, "ELF", 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0
        dw      2, 3                    ; executable, 386
        dd      1, start, headers - file, 0, 0
        dw      headers - file, 32, 1, 40, 0, 0
headers:
        dd      1, 0, BASE, BASE, end - file, end - file, 7, 0x1000

        align 4
        dd      0x1BADB002, 0, -0x1BADB002

APIC    equ 0xFEE00000
IOAPIC  equ 0xFEC00000
IDT     equ 0x200000

start:  mov     esp, 0x180000
        cmp     eax, 0x2BADB002
        jne     stop
        mov     al, 'm'
        call    print

; The configuration device: one processor, 128 MiB.
        mov     eax, 5
        call    select
        call    config
        cmp     eax, 1
        jne     stop
        mov     eax, 3
        call    select
        call    config
        cmp     eax, 128 << 20
        jne     stop
        mov     al, 'f'
        call    print

; The latch, by byte and at its second place.
        mov     dx, 0xE0
        mov     eax, 0x12345678
        out     dx, eax
        mov     dx, 0xE9
        in      al, dx
        cmp     al, 0x56
        jne     stop
        mov     dx, 0xE4
        mov     eax, 0x1000
        out     dx, eax
        mov     al, 'l'
        call    print

; Storage behind memory accesses.
        mov     ebx, 0xFF000000
        mov     dword [ebx + 0x123], 0xCAFE1234
        cmp     byte [ebx + 0x125], 0xFE
        jne     stop
        mov     al, 's'
        call    print

; The root pointer and the tables behind it, as far as the FADT.
        mov     esi, 0xE0000
.seek:  cmp     dword [esi], "RSD "
        je      .found
        add     esi, 16
        cmp     esi, 0x100000
        jne     .seek
        jmp     stop
.found: mov     esi, [esi + 16]
        cmp     dword [esi], "RSDT"
        jne     stop
        mov     esi, [esi + 36]
        cmp     dword [esi], "FACP"
        jne     stop
        cmp     dword [esi + 76], 0x608
        jne     stop
        mov     al, 'a'
        call    print

; An interrupt line through the IO APIC.
        mov     dword [IDT + 0x55 * 8], (8 << 16) + (arrive - BASE)
        mov     dword [IDT + 0x55 * 8 + 4], BASE + 0x8E00
        lidt    [idtr]
        lgdt    [gdtr]
        jmp     8:.flat
.flat:  mov     dword [APIC + 0xF0], 0x1FF
        mov     dword [IOAPIC], 0x10 + 2 * 14
        mov     dword [IOAPIC + 0x10], 0x55
        sti
        mov     dx, 0x2000 + 14
        mov     al, 1
        out     dx, al
        nop
        xor     eax, eax
        out     dx, al

; The PCI test function: its identity, and a write that counts.
        mov     dx, 0xCF8
        mov     eax, 0x80002000
        out     dx, eax
        mov     dx, 0xCFC
        in      eax, dx
        cmp     eax, 0x00051B36
        jne     stop
        mov     ebx, 0xFEBF0000
        mov     byte [ebx], 1
        mov     ecx, [ebx + 4]
        mov     [ebx + ecx], al
        cmp     dword [ebx + 12], 1
        jne     stop
        mov     al, 'p'
        call    print

        mov     al, 10
        call    print
        mov     esi, word8
        mov     dx, 0x8900
.off:   lodsb
        out     dx, al
        jmp     .off

stop:   cli
        hlt
        jmp     stop

arrive: push    eax
        mov     al, 'i'
        call    print
        mov     dword [APIC + 0xB0], 0
        pop     eax
        iretd

print:  push    edx
        mov     dx, 0x3F8
        out     dx, al
        pop     edx
        ret

select: mov     dx, 0x510
        out     dx, ax
        ret

; The next four bytes of an item; behind its end they are zero.
config: mov     dx, 0x511
        mov     ecx, 4
        xor     eax, eax
.next:  in      al, dx
        ror     eax, 8
        loop    .next
        ret

        align 8
gdt:    dq      0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF
gdtr:   dw      $ - gdt - 1
        dd      gdt
idtr:   dw      0x7FF
        dd      IDT
word8:  db      "Shutdown"
end:
