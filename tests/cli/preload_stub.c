/* SPDX-License-Identifier: MIT */
/* preload_stub.c - stands in for the preload library in tests: loads, and does nothing */
int mt_test_preload_stub;
