# What the compiler calls for copies, fills and comparisons; in the syntax of AT&T. In assembly, so
# that no compiler recognises the loop of memcpy and turns it into a call of memcpy.
#
# Long copies are the string instructions' business; short ones, such as arrays of page handles, are
# faster in steps of 16 bytes, which is what a request of 64 pages comes to.

    .section .text
    .balign 16
    .globl memcpy
memcpy:
    movq %rdi, %rax
    cmpq $2048, %rdx
    jae 3f
    cmpq $16, %rdx
    jb 4f
1:  cmpq $64, %rdx
    jb 2f
    movups (%rsi), %xmm0
    movups 16(%rsi), %xmm1
    movups 32(%rsi), %xmm2
    movups 48(%rsi), %xmm3
    movups %xmm0, (%rdi)
    movups %xmm1, 16(%rdi)
    movups %xmm2, 32(%rdi)
    movups %xmm3, 48(%rdi)
    addq $64, %rsi
    addq $64, %rdi
    subq $64, %rdx
    jmp 1b
2:  cmpq $16, %rdx
    jb 4f
    movups (%rsi), %xmm0
    movups %xmm0, (%rdi)
    addq $16, %rsi
    addq $16, %rdi
    subq $16, %rdx
    jmp 2b
3:  movq %rdx, %rcx
    shrq $3, %rcx
    rep movsq
    andl $7, %edx
4:  movl %edx, %ecx
    rep movsb
    ret

    .balign 16
    .globl memmove
memmove:
    # Forwards unless the target begins inside the source.
    movq %rdi, %rax
    subq %rsi, %rax
    cmpq %rdx, %rax
    jae memcpy
    movq %rdi, %rax
    leaq -1(%rsi, %rdx), %rsi
    leaq -1(%rdi, %rdx), %rdi
    movq %rdx, %rcx
    std
    rep movsb
    cld
    ret

    .balign 16
    .globl memset
memset:
    movq %rdi, %r8
    movzbl %sil, %eax
    movabsq $0x0101010101010101, %rcx
    imulq %rcx, %rax
    movq %rdx, %rcx
    shrq $3, %rcx
    rep stosq
    movl %edx, %ecx
    andl $7, %ecx
    rep stosb
    movq %r8, %rax
    ret

    .balign 16
    .globl memcmp, bcmp
memcmp:
bcmp:
    movq %rdx, %rcx
    xorl %eax, %eax
    # Equal if there is nothing to compare.
    cmpq %rcx, %rcx
    repe cmpsb
    je 1f
    movzbl -1(%rsi), %ecx
    movzbl -1(%rdi), %eax
    subl %ecx, %eax
    # cmpsb compares the byte of rsi with that of rdi; the first argument was rdi.
1:  ret

    .balign 16
    .globl strlen
strlen:
    xorl %eax, %eax
1:  cmpb $0, (%rdi, %rax)
    je 2f
    incq %rax
    jmp 1b
2:  ret
