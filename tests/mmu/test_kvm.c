/* SPDX-License-Identifier: MIT */
/*
 * test_kvm.c - an oracle nobody here wrote: the kernel's KVM_TRANSLATE on the same page tables
 *
 * A VM with one processor whose guest is never run: its registers point at random page tables, and
 * for each address KVM's own walker has to say the same as mt_walk(): mapped to where, or not.
 * Where /dev/kvm is missing or only half there, the test is skipped with the reason.
 */
#include "common/mt_test.h"
#include "mmu/walk.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define FRAMES    1024u
#define TABLES    40u
#define ADDRESSES 20000u

static uint64_t *words;
static uint64_t seed = 7;

static uint32_t below(uint32_t limit)
{
	seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)(seed >> 33) % limit;
}

static int load(void *ctx, uint64_t address, uint64_t *ret)
{
	(void)ctx;
	if (address >= (uint64_t)FRAMES << MT_PAGE_SHIFT)
		return -ENXIO;
	*ret = words[address / 8];
	return 0;
}

/* A processor with @regs, over our memory. Skips the test where there can be none. */
static int kvm_vcpu(const struct mt_regs *regs)
{
	struct kvm_userspace_memory_region region = {.memory_size = (uint64_t)FRAMES
								    << MT_PAGE_SHIFT,
						     .userspace_addr = (uintptr_t)words};
	struct kvm_sregs sregs;
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), vm, vcpu;

	if (kvm < 0)
		MT_SKIP("/dev/kvm: %s", strerror(errno));
	vm = ioctl(kvm, KVM_CREATE_VM, 0);
	if (vm < 0)
		MT_SKIP("KVM makes no VM here: %s", strerror(errno));
	vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	if (vcpu < 0 || ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region) ||
	    ioctl(vcpu, KVM_GET_SREGS, &sregs))
		MT_SKIP("KVM makes no processor here: %s", strerror(errno));
	sregs.cr0 = 0x80010001; /* PG, WP, PE */
	sregs.cr3 = regs->cr3;
	sregs.cr4 = 0x20;   /* PAE */
	sregs.efer = 0xd00; /* LME, LMA, NXE */
	sregs.cs.l = 1;
	sregs.cs.db = 0;
	if (ioctl(vcpu, KVM_SET_SREGS, &sregs))
		MT_SKIP("KVM takes no 64-bit registers here: %s", strerror(errno));
	return vcpu;
}

/* Tables 1 to 40, by level 4 4 12 20; entries 0, 1 and 511 of each. */
static void make_tables(void)
{
	static const unsigned int first[] = {0, 21, 9, 5, 1}, count[] = {0, 20, 12, 4, 4};

	for (unsigned int level = 4; level; level--)
		for (unsigned int t = 0; t < count[level]; t++)
			for (unsigned int i = 0; i < 3; i++) {
				unsigned int slot = i == 2 ? 511 : i;
				uint64_t entry = below(10) ? MT_PTE_P : 0;

				entry |= (below(4) ? MT_PTE_RW : 0) | (below(4) ? MT_PTE_US : 0);
				if (level == 1)
					entry |= (uint64_t)below(FRAMES) << 12;
				else if (level == 2 && !below(4))
					entry |= MT_PTE_PS | (uint64_t)below(2) << 21;
				else
					entry |= (uint64_t)(first[level - 1] +
							    below(count[level - 1]))
						 << 12;
				words[(first[level] + t) * 512 + slot] = entry;
			}
}

MT_TEST("KVM's own walker says the same of random page tables")
{
	struct mt_regs regs = {.paging = MT_PAGING_4LEVEL,
			       .cr3 = 0x1000,
			       .phys_bits = 36,
			       .wp = true,
			       .nxe = true};
	struct mt_memory memory = {NULL, load, NULL};
	unsigned int valid = 0;
	int vcpu;

	words = mmap(NULL, (size_t)FRAMES << MT_PAGE_SHIFT, PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	MT_CHECK(words != MAP_FAILED);
	make_tables();
	vcpu = kvm_vcpu(&regs);
	for (unsigned int i = 0; i < ADDRESSES; i++) {
		struct kvm_translation said = {0};
		struct mt_walk walk;
		uint64_t gva = below(4096);

		for (unsigned int level = 1; level <= 4; level++) {
			unsigned int slot = below(3);

			gva |= (uint64_t)(slot == 2 ? 511 : slot) << mt_level_shift(level);
		}
		gva = (uint64_t)((int64_t)(gva << 16) >> 16);
		said.linear_address = gva;
		if (ioctl(vcpu, KVM_TRANSLATE, &said))
			MT_SKIP("KVM_TRANSLATE: %s", strerror(errno));
		mt_walk(&regs, &memory, MT_GVA(gva), 0, NULL, &walk);
		MT_CHECK_EQ(said.valid, walk.end == MT_WALK_OK);
		if (said.valid)
			MT_CHECK_EQ(said.physical_address, walk.gpa.a);
		valid += said.valid;
	}
	MT_CHECK(valid > ADDRESSES / 10 && valid < ADDRESSES);
	printf("# %u of %u addresses are mapped\n", valid, ADDRESSES);
}

MT_TEST_MAIN
