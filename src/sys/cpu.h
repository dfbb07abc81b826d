/* SPDX-License-Identifier: MIT */
/* cpu.h - how much processor this host has */
#ifndef MT_SYS_CPU_H
#define MT_SYS_CPU_H

/** mt_cpu_mhz() - clock rates of all processors, summed; 1000 for each whose rate is not told */
unsigned int mt_cpu_mhz(void);

#endif
