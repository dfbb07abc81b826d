/* SPDX-License-Identifier: MIT */
/* static_vmm.c - a statically linked program, to be refused as a VMM */
int main(void)
{
	return 0;
}
