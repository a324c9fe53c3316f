# From QEMU's loader to Rust, in the syntax of AT&T. PVH: 32-bit protected mode, no paging,
# interrupts off, the address of the start info in ebx.

# The loader finds the entry in a note: type 18 is XEN_ELFNOTE_PHYS32_ENTRY.
    .section .note.Xen, "a", @note
    .balign 4
    .long 4, 8, 18
    .asciz "Xen"
    .quad pvh_start

    .section .text.boot, "ax", @progbits
    .code32
    .globl pvh_start
pvh_start:
    # Map the first GiB where it is, in pages of 2 MiB: present, writable, large.
    movl $directory, %edi
    movl $0x83, %eax
    movl $512, %ecx
1:  movl %eax, (%edi)
    addl $0x200000, %eax
    addl $8, %edi
    decl %ecx
    jnz 1b
    movl $directory + 3, pointers
    movl $pointers + 3, root
    # Long mode: PAE, the tables, EFER.LME, paging.
    movl $0x20, %eax
    movl %eax, %cr4
    movl $root, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x100, %eax
    wrmsr
    movl $0x80000001, %eax
    movl %eax, %cr0
    lgdt gdt_pointer
    ljmp $0x08, $long_mode

    .code64
long_mode:
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movq $stack_top, %rsp
    movl %ebx, %edi
    call kernel_main

    .section .rodata
    .balign 8
gdt:
    .quad 0
    .quad 0x00af9b000000ffff    # 0x08: code, 64 bits
    .quad 0x00cf93000000ffff    # 0x10: data
gdt_pointer:
    .word 23
    .long gdt

    .section .bss
    .balign 4096
root:       .skip 4096
pointers:   .skip 4096
directory:  .skip 4096
    .skip 128 * 1024
stack_top:
