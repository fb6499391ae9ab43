; Protected mode: prints "hi" on port 0xe9 and ends the run with value 0.
; Start: -machine flat, protected32; flat segments, no paging, EIP = 0x10000.
        bits 32
        org 0x10000

        mov     esi, text
next:   lodsb
        out     0xe9, al
        cmp     al, 10
        jne     next
        xor     eax, eax
        out     0xf4, eax
stop:   hlt
        jmp     stop

text:   db      "hi", 10
