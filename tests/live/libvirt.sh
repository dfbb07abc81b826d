# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# libvirt.sh - a libvirt that has nothing of this machine's.
#
# Why: tests that start libvirtd must neither meet nor leave anything. How: sourced; what mounts is to be called in a mount
# namespace of one's own.

# add_lines FILE DIR LINE...: users or groups, where they are missing, in a copy of the file.
add_lines() {
	local file=$1 copy line
	copy=$2/$(basename "$1")
	shift 2
	cp "$file" "$copy"
	for line; do
		grep -q "^${line%%:*}:" "$copy" || echo "$line" >>"$copy"
	done
	mount --bind "$copy" "$file"
}

# libvirt_users DIR: those that libvirt asks for even when it uses others; copies of the files go to the directory.
libvirt_users() {
	add_lines /etc/passwd "$1" "libvirt-qemu:x:64055:64055::/var/lib/libvirt:/usr/sbin/nologin" &&
		add_lines /etc/group "$1" "libvirt-qemu:x:64055:" "kvm:x:64056:" "memtide:x:64057:libvirt-qemu"
}

# libvirt_empty USER: all of libvirt's directories are empty, and it will run QEMU as that user and take nothing else from it.
libvirt_empty() {
	local dir
	for dir in /run/libvirt /var/lib/libvirt /etc/libvirt /var/cache/libvirt /var/log/libvirt; do
		mkdir -p $dir && mount -t tmpfs tmpfs $dir || return 1
	done
	# A device that its user can't open makes libvirt look QEMU over again and again, for a minute.
	if [ -e /dev/kvm ]; then
		mknod -m 666 /run/libvirt/kvm c 10 232 && mount --bind /run/libvirt/kvm /dev/kvm || return 1
	fi
	cat >/etc/libvirt/qemu.conf <<-CONF
		user = "$1"
		group = "$1"
		dynamic_ownership = 0
		remember_owner = 0
		security_driver = "none"
		cgroup_controllers = []
		stdio_handler = "file"
	CONF
	echo 'auth_unix_rw = "none"' >/etc/libvirt/libvirtd.conf
}

# libvirt_domain NAME MIB PRELOAD SOCKET OS DEVICES: the XML of a managed domain, as in docs/ballooning.md, with what it boots
# and what it has besides a balloon.
libvirt_domain() {
	cat <<-END
		<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
		  <name>$1</name>
		  <memory unit='MiB'>$2</memory>
		  <vcpu>1</vcpu>
		  <os>
		    <type arch='x86_64' machine='q35'>hvm</type>
		    $5
		  </os>
		  <devices>
		    <emulator>$(command -v qemu-system-x86_64)</emulator>
		    $6
		    <memballoon model='virtio' autodeflate='on' freePageReporting='on'/>
		  </devices>
		  <qemu:commandline>
		    <qemu:env name='LD_PRELOAD' value='$3'/>
		    <qemu:env name='MEMTIDE_SOCKET' value='$4'/>
		    <qemu:env name='MEMTIDE_VM'/>
		  </qemu:commandline>
		</domain>
	END
}
