; 64-bit code at 0x10000: prints a prompt on the serial port and sends back what comes there; 'q' ends the run.
bits 64
org 0x10000

DATA equ 0x3F8
STATUS equ 0x3FD
READY equ 1
EXIT equ 0xF4

    mov dx, DATA
    mov al, '>'
    out dx, al
.wait:
    mov dx, STATUS
    in al, dx
    test al, READY
    jz .wait
    mov dx, DATA
    in al, dx
    out dx, al
    cmp al, 'q'
    jne .wait
    xor eax, eax
    out EXIT, al
