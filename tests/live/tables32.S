/* SPDX-License-Identifier: MIT */
/*
 * tables32.S - a guest that is nothing but page tables, for "memtide translate" on 32-bit paging
 *
 * Linux for 32-bit processors is hard to come by; its kinds of paging are not. QEMU starts this by
 * its multiboot header, in protected mode without paging. It builds tables at 2 MiB, turns paging on,
 * writes to the pages that the table of small pages maps, and halts for ever.
 *
 *              4-byte entries                PAE=1: 8-byte entries, EFER.NXE
 *   0          4 MiB page, in its place      two 2 MiB pages, in their place
 *   4 MiB      table: pages from 8 MiB on, in the opposite order, each fifth missing (PAE: some NX)
 *   8 MiB      4 MiB page at 16 MiB          6 MiB: 2 MiB page at 16 MiB
 *   the end    the directory as a table      2 MiB page at 18 MiB, NX
 */
#define TOP   0x200000 /* page directory; PAE: its four entries above the directories */
#define TABLE (TOP + 0x2000)
#define SMALL 0x400000 /* virtual address of the first small page */
#define RAM   0x800000 /* where small pages are */

	.code32
	.text
	.globl	_start
	.align	4
	.long	0x1badb002, 0, -0x1badb002	/* multiboot: magic, no wishes, checksum */

_start:
	cli
#if PAE
	movl	$(TOP + 0x1001), TOP
	movl	$(TOP + 0x3001), TOP + 3 * 8
	movl	$0x83, TOP + 0x1000
	movl	$0x200083, TOP + 0x1000 + 1 * 8
	movl	$(TABLE + 7), TOP + 0x1000 + 2 * 8
	movl	$0x01000083, TOP + 0x1000 + 3 * 8
	movl	$0x01200083, TOP + 0x3000 + 511 * 8
	movl	$0x80000000, TOP + 0x3000 + 511 * 8 + 4
#define ENTRIES 512
#define ENTRY   8
#define CR4     0x20
	movl	$0xc0000080, %ecx	/* EFER.NXE */
	rdmsr
	orl	$0x800, %eax
	wrmsr
#else
	movl	$0x83, TOP
	movl	$(TABLE + 7), TOP + 1 * 4
	movl	$0x01000083, TOP + 2 * 4
	movl	$(TOP + 3), TOP + 1023 * 4
#define ENTRIES 1024
#define ENTRY   4
#define CR4     0x10
#endif
	xorl	%ecx, %ecx
	movl	$5, %edx
1:	movl	$(ENTRIES - 1), %eax
	subl	%ecx, %eax
	shll	$12, %eax
	addl	$(RAM + 7), %eax
	decl	%edx
	jnz	2f
	movl	$5, %edx
	xorl	%eax, %eax
2:	movl	%eax, TABLE(, %ecx, ENTRY)
#if PAE
	movl	%ecx, %ebx
	shll	$31, %ebx
	testl	%eax, %eax
	jz	3f
	movl	%ebx, TABLE + 4(, %ecx, ENTRY)
3:
#endif
	incl	%ecx
	cmpl	$ENTRIES, %ecx
	jb	1b

	movl	%cr4, %eax
	orl	$CR4, %eax
	movl	%eax, %cr4
	movl	$TOP, %eax
	movl	%eax, %cr3
	movl	%cr0, %eax
	orl	$0x80010000, %eax	/* PG, WP */
	movl	%eax, %cr0

	xorl	%ecx, %ecx
4:	testl	$1, TABLE(, %ecx, ENTRY)
	jz	5f
	movl	%ecx, %ebx
	shll	$12, %ebx
	movl	%ecx, SMALL(%ebx)
5:	incl	%ecx
	cmpl	$ENTRIES, %ecx
	jb	4b
6:	hlt
	jmp	6b
