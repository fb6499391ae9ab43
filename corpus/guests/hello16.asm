; Real mode: prints "hi" on port 0xe9 and ends the run with value 0.
; Start: -machine flat, real16; CS = 0x1000, IP = 0.
        bits 16
        org 0

        mov     si, text
next:   cs lodsb
        out     0xe9, al
        cmp     al, 10
        jne     next
        xor     eax, eax
        out     0xf4, eax
stop:   hlt
        jmp     stop

text:   db      "hi", 10
