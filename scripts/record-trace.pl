#!/usr/bin/perl
# SPDX-License-Identifier: MIT
#
# record-trace.pl - records what a real program does to memory, as a trace for "memtide mmu compare"
#
# usage: record-trace.pl [-s SKIP] [-n VISITS] OUTPUT PROGRAM [ARGUMENT]...
#
# Runs the program, and all it forks, under valgrind's lackey, which prints every load, store and fetch, and strips the
# output: an access to one of the 16 pages used last is only counted ("hit"), since no TLB would miss it. System calls
# tell about fork, munmap and exit. With -n at most VISITS are taken, from behind the first SKIP accesses on, and then the
# program is killed: a piece out of the middle of a long run of one process, whose log goes through a pipe and never to
# the disk. OUTPUT is text; "lz4 -9 OUTPUT" makes it small, and is read as well.
use strict;
use warnings;
use Getopt::Std;
use File::Temp qw(tempdir);

use constant RECENT => 16;    # pages a TLB surely has
use constant GAP    => 64;    # untouched pages between two ranges that become one mapping

my %opt = (s => 0, n => 0);
getopts('s:n:', \%opt) && @ARGV >= 2 or die "usage: record-trace.pl [-s SKIP] [-n VISITS] OUTPUT PROGRAM [ARGUMENT]...\n";
my $output = shift @ARGV;
my $dir    = tempdir(CLEANUP => 1);
my $pids   = 1;

# Events of one process: "r PAGE", "w PAGE", "x PAGE", "hit N", "fork PID", "unmap FIRST COUNT".
sub read_log {
	my ($path) = @_;
	my (@events, @recent, %written, $hits, $visits);
	open my $log, '<', $path or die "$path: $!\n";
	my $end = $opt{n} || 1e12;
	$hits = $visits = 0;
	if ($opt{n} && $opt{s}) { while (<$log>) { last if $. >= $opt{s} } }
	while (<$log>) {
		if (/^(I | [LSM]) ([0-9a-f]+)[0-9a-f]{3},/) {
			my ($page, $store) = (hex $2, $1 eq ' S' || $1 eq ' M');
			my $at = -1;
			for my $i (0 .. $#recent) {
				if ($recent[$i] == $page) { $at = $i; last }
			}
			$hits++ if $1 eq ' M';
			if ($at >= 0) {
				unshift @recent, splice @recent, $at, 1 if $at;
				if (!$store || $written{$page}) { $hits++; next }
			} else {
				delete $written{ pop @recent } if @recent == RECENT;
				unshift @recent, $page;
			}
			$written{$page} = 1 if $store;
			last if ++$visits > $end;
			push @events, [$store ? 'w' : $1 eq 'I ' ? 'x' : 'r', $page];
			if ($visits % 64 == 0) { push @events, ['hit', $hits]; $hits = 0 }
		} elsif (/sys_fork.*created child (\d+)/ || /sys_clone.*created child (\d+)/) {
			push @events, ['fork', $1];
		} elsif (/sys_munmap \( 0x([0-9a-f]+), (\d+) \).*Success/) {
			push @events, ['unmap', hex($1) >> 12, ($2 + 4095) >> 12];
		}
	}
	push @events, ['hit', $hits] if $hits && $visits <= $end;
	return @events;
}

# Ranges that hold all pages touched.
sub ranges {
	my %touched = map { $_->[1] => 1 } grep { $_->[0] =~ /^[rwx]$/ } @_;
	my @ranges;
	for my $page (sort { $a <=> $b } keys %touched) {
		if (@ranges && $page <= $ranges[-1][1] + GAP) { $ranges[-1][1] = $page }
		else { push @ranges, [$page, $page] }
	}
	return @ranges;
}

sub write_process {
	my ($out, $pid, $log) = @_;
	my @events = read_log($log);
	my (@gone, @line);
	my $flush = sub {
		print $out 'a ', join(' ', splice @line, 0, 24), "\n" while @line;
	};
	printf $out "map %x %x\n", $_->[0], $_->[1] - $_->[0] + 1 for ranges(@events);
	print $out "loop\n" if $opt{n};
	for my $event (@events) {
		my ($kind, $page, $count) = @$event;
		if ($kind =~ /^[rwx]$/) {
			for my $i (reverse 0 .. $#gone) {
				next unless $page >= $gone[$i][0] && $page < $gone[$i][0] + $gone[$i][1];
				$flush->();
				printf $out "map %x %x\n", @{ splice @gone, $i, 1 };
			}
			push @line, sprintf '%s%x', $kind, $page;
			next;
		}
		$flush->();
		print $out "hit $page\n" if $kind eq 'hit' && $page;
		if ($kind eq 'unmap') {
			next if grep { $page < $_->[0] + $_->[1] && $_->[0] < $page + $count } @gone;
			printf $out "unmap %x %x\n", $page, $count;
			push @gone, [$page, $count];
		} elsif ($kind eq 'fork' && -e "$dir/$page") {
			my $child = ++$pids;
			print $out "fork $child\nrun $child\nexec\n";
			write_process($out, $child, "$dir/$page");
			print $out "exit\nrun $pid\n";
		}
	}
	$flush->();
}

my $log = $opt{n} ? "$dir/pipe" : "$dir/%p";
$opt{n} and (system('mkfifo', $log) and die "mkfifo $log: $!\n");
my $root = fork // die "fork: $!\n";
if (!$root) {
	open STDOUT, '>', '/dev/null' or die;
	exec 'valgrind', '--tool=lackey', '--trace-mem=yes', '--trace-children=' . ($opt{n} ? 'no' : 'yes'),
		'--trace-syscalls=yes', '--child-silent-after-fork=yes', "--log-file=$log", @ARGV
		or die "valgrind: $!; install the package valgrind\n";
}
waitpid $root, 0 unless $opt{n};
$opt{n} or -s "$dir/$root" or die "record-trace.pl: valgrind left no log; is it installed?\n";
open my $out, '>', $output or die "$output: $!\n";
print $out "memtide-trace 1\n# @ARGV\n";
write_process($out, 1, $opt{n} ? $log : "$dir/$root");
print $out "exit\n" unless $opt{n};
close $out or die "$output: $!\n";
kill 'KILL', $root if $opt{n};
