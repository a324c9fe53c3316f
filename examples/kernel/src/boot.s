# From where the loader jumps to, to Rust; in the syntax of AT&T. Names in braces are Rust's.

    .set trampoline, {trampoline}

# The loader finds the 32-bit entry in a note: type 18 is XEN_ELFNOTE_PHYS32_ENTRY.
    .section .note.Xen, "a", @note
    .balign 4
    .long 4, 8, 18
    .asciz "Xen"
    .quad pvh_start

# PVH: 32-bit protected mode, flat segments, no paging, interrupts off, the start info in ebx.
    .section .boot, "ax", @progbits
    .code32
    .globl pvh_start
pvh_start:
    cld
    # The first 4 GiB in pages of 2 MiB: present, writable, large. The tables are in .bss.
    movl $boot_directories, %edi
    movl $0x83, %eax
    movl $2048, %ecx
1:  movl %eax, (%edi)
    addl $0x200000, %eax
    addl $8, %edi
    decl %ecx
    jnz 1b
    movl $boot_directories + 3, %eax
    movl $boot_pointers, %edi
    movl $4, %ecx
2:  movl %eax, (%edi)
    addl $0x1000, %eax
    addl $8, %edi
    decl %ecx
    jnz 2b
    # Twice: where it is, for the image, and from 0xffff800000000000 on, as the direct map.
    movl $boot_pointers + 3, boot_root
    movl $boot_pointers + 3, boot_root + 256 * 8
    movl $first_cpu, %esi
    # fall through

# Every CPU comes by here, with the address to go on at in esi.
enter_long_mode:
    # PAE, and SSE with its exceptions: compiled code uses SSE from the first instruction on.
    movl %cr4, %eax
    orl $0x620, %eax
    movl %eax, %cr4
    movl $boot_root, %eax
    movl %eax, %cr3
    # EFER.LME
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x100, %eax
    wrmsr
    # Paging, write protection also for the kernel, no emulation of the FPU.
    movl %cr0, %eax
    andl $~0xc, %eax
    orl $0x80010003, %eax
    movl %eax, %cr0
    lgdt boot_gdt_pointer
    ljmp $0x08, $long_mode

    .code64
long_mode:
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    xorl %eax, %eax
    movl %eax, %fs
    movl %eax, %gs
    movl %esi, %esi
    jmp *%rsi

first_cpu:
    movq $boot_stack_top, %rsp
    movl %ebx, %edi
    xorl %ebp, %ebp
    call {kernel_main}
    ud2

# The others take numbers in the order of their arrival; who is one too many sleeps for good.
other_cpu:
    movl $1, %edi
    lock xaddl %edi, {arrived_cpus}
    incl %edi
    cmpl {expected_cpus}, %edi
    jae 3f
    movq {cpu_stacks}(, %rdi, 8), %rsp
    xorl %ebp, %ebp
    call {cpu_main}
    ud2
3:  cli
    hlt
    jmp 3b

    .globl unwinding_is_absent
unwinding_is_absent:
    ud2

    .section .rodata
    .balign 8
boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff    # 0x08: code, 64 bits
    .quad 0x00cf93000000ffff    # 0x10: data
    .quad 0x00cf9b000000ffff    # 0x18: code, 32 bits
boot_gdt_pointer:
    .word 31
    .quad boot_gdt

# What another CPU executes first: copied below 1 MiB, to the address `trampoline`, and entered in real mode.
    .globl trampoline_start, trampoline_end
trampoline_start:
    .code16
    cli
    cld
    xorw %ax, %ax
    movw %ax, %ds
    lgdtl trampoline + (trampoline_gdt_pointer - trampoline_start)
    movl %cr0, %eax
    orl $1, %eax
    movl %eax, %cr0
    ljmpl $0x18, $trampoline + (trampoline_protected - trampoline_start)
    .code32
trampoline_protected:
    movw $0x10, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movl $other_cpu, %esi
    movl $enter_long_mode, %eax
    jmp *%eax
trampoline_gdt_pointer:
    .word 31
    .long boot_gdt
trampoline_end:
    .code64

    .section .bss
    .balign 4096
    .globl boot_root, boot_pointers
boot_root:          .skip 4096
boot_pointers:      .skip 4096
boot_directories:   .skip 4 * 4096
    .skip 64 * 1024
boot_stack_top:
