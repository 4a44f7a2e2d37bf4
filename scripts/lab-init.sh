#!/bin/bash
# The first process of the lab's virtual machine: mounts what is needed, runs the command, says how it ended, and turns
# the machine off. Its disks and ports are set up by scripts/lab.
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts pts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tmpfs run /run
mount -t debugfs debug /sys/kernel/debug
mount -t tracefs trace /sys/kernel/tracing
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup /sys/fs/cgroup
ln -sf /proc/self/fd /dev/fd
for number in 0:stdin 1:stdout 2:stderr; do ln -sf "/proc/self/fd/${number%:*}" "/dev/${number#*:}"; done
ip link set lo up
hostname lab

# port <name>: the device of one of QEMU's serial ports.
port() {
  local entry
  for entry in /sys/class/virtio-ports/*; do
    [ "$(cat "$entry/name")" = "lab.$1" ] && echo "/dev/${entry##*/}"
  done
}

# shellcheck disable=SC2155
export URING_LAB="$(uname -r)"
export PATH=/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin HOME=/root LANG=C.UTF-8 TMPDIR=/tmp
export BUN=/usr/bin/bun DENO=/usr/bin/deno DENO_NO_UPDATE_CHECK=1 NO_COLOR=1 CI=true
mkdir -p /run/lab
mount -t ext4 -o ro /dev/vdb /run/lab && mount --bind /run/lab/tree /src && mount -o remount,ro,bind /src
if [ -d /run/lab/in ]; then ln -s /run/lab/in /in; fi
cd /src || echo "lab: the working tree cannot be mounted"
# What tests of the suite look for, and nothing asks for by itself.
for module in loop ublk_drv tls; do modprobe "$module"; done
ulimit -l unlimited
ulimit -n 65536
# Through pipes, since a port can be opened once only, and /dev/stdout is opened anew.
mkfifo /run/out /run/err
cat /run/out >"$(port out)" &
out=$!
cat /run/err >"$(port err)" &
err=$!
bash /run/lab/command </dev/null >/run/out 2>/run/err
status=$?
# What is left running may hold them open.
for ((i = 0; i < 20; i++)); do kill -0 $out 2>/dev/null || kill -0 $err 2>/dev/null || break; usleep 50000; done
if [ -n "$(ls -A /out)" ]; then tar -c -f "$(port tar)" -C /out .; fi
echo "$status" >"$(port status)"
poweroff -f
