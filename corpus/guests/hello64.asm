; 64-bit mode: prints "hi" on port 0xe9 and ends the run with value 0.
; Start: -machine flat, long64; identity-mapped, RIP = 0x10000.
        bits 64
        org 0x10000

        lea     rsi, [rel text]
next:   lodsb
        out     0xe9, al
        cmp     al, 10
        jne     next
        xor     eax, eax
        out     0xf4, eax
stop:   hlt
        jmp     stop

text:   db      "hi", 10
