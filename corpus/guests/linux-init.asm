; An initial RAM disk for Linux whose only program says that it runs, and starts the machine again.
; The bytes are the archive itself (cpio, "newc" format, as the kernel's documentation of early user space describes it) with
; a static ELF program of 64 bits in it. No C library, no device files: the program makes the one it writes to.
bits 64

%macro hex 1                            ; a field of the archive: eight hexadecimal digits
    %assign shift 28
    %rep 8
    db '0' + ((%1) >> shift & 15) + 39 * (((%1) >> shift & 15) + 6 >> 4)
    %assign shift shift - 4
    %endrep
%endmacro

%macro entry 4                          ; inode, mode, bytes of content, bytes of name with its zero
    db '070701'
    hex %1
    hex %2
    hex 0                               ; owner
    hex 0                               ; group
    hex 1                               ; links
    hex 0                               ; time
    hex %3
    hex 0                               ; device
    hex 0
    hex 0                               ; device that it stands for
    hex 0
    hex %4
    hex 0                               ; check sum
%endmacro

    entry 1, 0o100755, program_end - program, 5
    db 'init', 0
    align 4, db 0

BASE equ 0x400000
program:
    db 0x7F, 'ELF', 2, 1, 1, 0
    dq 0
    dw 2, 62                            ; executable, x86-64
    dd 1
    dq BASE + start - program
    dq headers - program
    dq 0
    dd 0
    dw 64, 56, 1, 64, 0, 0
headers:
    dd 1, 5                             ; loaded, read and execute
    dq 0, BASE, BASE
    dq program_end - program, program_end - program
    dq 0x1000

start:
    lea rdi, [rel device]               ; mknod("/kmsg", character device, 1:11)
    mov esi, 0o020600
    mov edx, 1 << 8 | 11
    mov eax, 133
    syscall
    lea rdi, [rel device]               ; open("/kmsg", write only)
    mov esi, 1
    xor edx, edx
    mov eax, 2
    syscall
    mov edi, eax                        ; write it
    lea rsi, [rel line]
    mov edx, line_end - line
    mov eax, 1
    syscall
    mov edi, 0xFEE1DEAD                 ; reboot(restart)
    mov esi, 672274793
    mov edx, 0x01234567
    mov eax, 169
    syscall
    jmp $

device:
    db '/kmsg', 0
line:
    db '<1>vmfuzz: init runs', 10
line_end:
program_end:
    align 4, db 0

    entry 0, 0, 0, 11
    db 'TRAILER!!!', 0
    align 512, db 0
