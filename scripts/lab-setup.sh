# shellcheck shell=bash
# Sourced by scripts/lab after setup.sh. Makes what its virtual machine boots, in .cache/lab: the newest cloud kernel of
# Debian's suite sid, and a root file system of busybox, this machine's C library, Bun, Deno and liburing. Packages are
# unpacked there and never installed; what is installed on this machine is QEMU and what makes the images.

LAB="$ROOT/.cache/lab"
# After so many days a newer kernel is looked for.
LAB_DAYS=7
# The package that depends on the newest cloud kernel.
LAB_KERNEL_PACKAGE=linux-image-cloud-amd64
# Programs of this machine that the guest gets where they are there; the first ones always are.
LAB_PROGRAMS=(bash ip tc strace fio git sqlite3 mkfs.ext4 e2fsck prlimit setpriv losetup)

lab_host_tools() {
  local tool missing=()
  if [ "$(uname -m)" != x86_64 ]; then
    echo "the lab needs an x86_64 machine, not $(uname -m)" >&2
    return 1
  fi
  # Where others than root may not look by themselves.
  PATH="$PATH:/usr/sbin:/sbin"
  for tool in qemu-system-x86_64:qemu-system-x86 mke2fs:e2fsprogs zstd:zstd xz:xz-utils ip:iproute2; do
    command -v "${tool%:*}" >/dev/null || missing+=("${tool#*:}")
  done
  [ "${#missing[@]}" -eq 0 ] || ensure_deb "${missing[@]}" || return 1
  # Tests do without these where they have to.
  ensure_deb fio git sqlite3 strace 2>/dev/null
  if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
    echo "the lab's kernel comes from Debian's archive, and there is no apt-get here" >&2
    return 1
  fi
}

# lab_archive: where this machine's apt has Debian from.
lab_archive() {
  local uri origin
  # shellcheck disable=SC2016
  while read -r uri origin; do
    [ "$origin" = Debian ] && [[ "$uri" != *security* ]] && { echo "$uri"; return; }
  done < <(apt-get indextargets --format '$(REPO_URI) $(ORIGIN)' 'Created-By: Packages' 2>/dev/null)
  # Without lists it does not tell.
  cat /etc/apt/sources.list /etc/apt/sources.list.d/*.{list,sources} 2>/dev/null |
    grep -v '^ *#' | grep -oE '[a-z+]+:/[^ ]+/debian/?( |$)' | head -n 1 | tr -d ' '
}

# lab_apt <apt-get or apt-cache> <arguments...>: with the suite sid and lists of its own.
lab_apt() {
  local program="$1"
  shift
  "$program" -o "Dir::Etc::sourcelist=$LAB/apt/sid.list" -o Dir::Etc::sourceparts=/dev/null \
    -o "Dir::State::lists=$LAB/apt/lists" -o "Dir::Cache=$LAB/apt/cache" -o APT::Sandbox::User=root \
    -o Acquire::Languages=none -o Acquire::Retries=3 -q=2 "$@"
}

# lab_wanted: the packages that the guest is made of, by name.
lab_wanted() {
  lab_apt apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces \
    --no-enhances "$LAB_KERNEL_PACKAGE" | grep -E '^linux-.*-cloud-amd64$' | LC_ALL=C sort -u
  echo liburing2
  echo busybox-static
}

# Looks up the newest kernel and downloads what is not there of it: $LAB/packages/*.deb.
lab_download() {
  local archive keyring=/usr/share/keyrings/debian-archive-keyring.gpg signed="" wanted=()
  archive="$(lab_archive)"
  [ -n "$archive" ] || { echo "apt is not configured with an archive of Debian's" >&2; return 1; }
  [ -f "$keyring" ] && signed="[signed-by=$keyring] "
  mkdir -p "$LAB/apt/lists/partial" "$LAB/apt/cache/archives/partial"
  echo "deb $signed$archive sid main" >"$LAB/apt/sid.list"
  lab_apt apt-get update || return 1
  mapfile -t wanted < <(lab_wanted)
  [ "${#wanted[@]}" -gt 2 ] || { echo "the archive has no $LAB_KERNEL_PACKAGE" >&2; return 1; }
  rm -rf "$LAB/packages.new"
  mkdir -p "$LAB/packages.new"
  local name
  (
    cd "$LAB/packages.new" || exit 1
    # Of what is there already it would not tell.
    lab_apt apt-get download --print-uris "${wanted[@]}" | cut -d ' ' -f 2 >wanted
    [ -s wanted ] || exit 1
    while read -r name; do
      if [ -f "../packages/$name" ]; then ln "../packages/$name" .; fi
    done <wanted
    lab_apt apt-get download "${wanted[@]}" || exit 1
    while read -r name; do [ -f "$name" ] || exit 1; done <wanted
  ) || return 1
  rm -rf "$LAB/packages"
  mv "$LAB/packages.new" "$LAB/packages"
  # More than the packages, and of no use before the next look, days away.
  rm -rf "$LAB/apt"
}

lab_packages() {
  local newest="$1"
  if ! "$newest" && [ -n "$(find "$LAB/packages/wanted" -mtime "-$LAB_DAYS" 2>/dev/null)" ]; then return 0; fi
  if ! lab_download >"$LAB/download.log" 2>&1; then
    [ -f "$LAB/packages/wanted" ] && { echo "lab: no newer kernel to be had; going on with the last" >&2; return 0; }
    tail -n 5 "$LAB/download.log" >&2
    return 1
  fi
}

# lab_unpack_kernel <vmlinuz> <output>: the program inside, which boots without unpacking itself first.
lab_unpack_kernel() {
  local at
  # Where a stream of zstd's begins.
  for at in $(LC_ALL=C grep -abo $'\x28\xb5\x2f\xfd' "$1" | cut -d : -f 1); do
    tail -c "+$((at + 1))" "$1" | zstd -dcq >"$2" 2>/dev/null
    [ "$(head -c 4 "$2" | tr -d '\0')" = $'\x7fELF' ] && return 0
  done
  # It boots as it is, only later.
  cp "$1" "$2"
}

# lab_add <root> <program> <name>: a program of this machine and the libraries that it needs.
lab_add() {
  local root="$1" library
  rm -f "$root"/{bin,sbin,usr/bin,usr/sbin}/"$3"
  cp -L "$2" "$root/usr/bin/$3"
  ldd "$2" 2>/dev/null | grep -oE '/[^ ]+\.so[^ ]*' | while read -r library; do
    cp -Lu "$library" "$root/lib/x86_64-linux-gnu/"
  done
}

# lab_root <unpacked packages> <kernel version> <root>: the guest's root, as a directory.
lab_root() {
  local tree="$1" version="$2" root="$3" applet program path modules
  mkdir -p "$root"/{bin,sbin,usr/bin,usr/sbin,proc,sys,dev,tmp,run,etc,root,src,out,mnt,var/tmp,lib64,lib/modules} \
    "$root/lib/x86_64-linux-gnu"
  cp "$tree/usr/bin/busybox" "$root/bin/" 2>/dev/null || cp "$tree/bin/busybox" "$root/bin/" || return 1
  for applet in $("$root/bin/busybox" --list-full); do
    mkdir -p "$root/$(dirname "$applet")"
    [ -e "$root/$applet" ] || ln -s /bin/busybox "$root/$applet"
  done
  lab_add "$root" "$BUN" bun
  lab_add "$root" "$DENO" deno
  for program in "${LAB_PROGRAMS[@]}"; do
    path="$(command -v "$program")" && lab_add "$root" "$path" "$program"
  done
  # Busybox's own shell would prefer its applets.
  ln -sf /usr/bin/bash "$root/bin/bash"
  ln -sf bash "$root/bin/sh"
  cp -L /lib64/ld-linux-x86-64.so.2 "$root/lib64/" || return 1
  # What the C library opens by itself.
  cp -L /lib/x86_64-linux-gnu/{libnss_files,libnss_dns,libresolv,libgcc_s}.so.? "$root/lib/x86_64-linux-gnu/" 2>/dev/null
  cp -L "$tree"/usr/lib/x86_64-linux-gnu/liburing.so.2 "$root/lib/x86_64-linux-gnu/" || return 1
  printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n' >"$root/etc/passwd"
  printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"
  printf '127.0.0.1 localhost lab\n::1 localhost\n' >"$root/etc/hosts"
  cp "$ROOT/scripts/lab-init.sh" "$root/sbin/lab-init"
  chmod 755 "$root/sbin/lab-init"
  chmod 1777 "$root/tmp" "$root/var/tmp"
  modules="$root/lib/modules/$version"
  cp -r "$tree/usr/lib/modules/$version" "$modules" || return 1
  rm -f "$modules"/{vmlinuz,System.map,config}
  find "$modules" -name '*.ko.xz' -print0 | xargs -0 -r -P "$(nproc)" -n 50 xz -d
  "$root/bin/busybox" depmod -b "$root" "$version" 2>/dev/null
}

# lab_initrd <root> <kernel version> <output> <scratch>: loads the driver of the disk and goes on from there.
lab_initrd() {
  local root="$1" version="$2" tree="$4/initrd"
  mkdir -p "$tree"/{bin,dev,newroot}
  cp "$root/bin/busybox" "$tree/bin/"
  find "$root/lib/modules/$version" -name virtio_blk.ko -exec cp {} "$tree/" \;
  cat >"$tree/init" <<'INIT'
#!/bin/busybox sh
b=/bin/busybox
$b mount -t devtmpfs dev /dev
$b insmod /virtio_blk.ko
i=0
while [ ! -b /dev/vda ] && [ $i -lt 200 ]; do $b usleep 50000; i=$((i + 1)); done
$b mount -t ext4 -o rw,noatime,noinit_itable /dev/vda /newroot
$b umount /dev
exec $b switch_root /newroot /sbin/lab-init
INIT
  chmod 755 "$tree/init"
  (cd "$tree" && find . | bin/busybox cpio -o -H newc 2>/dev/null) >"$3"
}

# lab_stamp: what an image is made from.
lab_stamp() {
  local program
  cat "$LAB/packages/wanted" "$ROOT/scripts/lab-setup.sh" "$ROOT/scripts/lab-init.sh"
  stat -L -c '%s %Y' "$BUN" "$DENO"
  for program in "${LAB_PROGRAMS[@]}"; do command -v "$program"; done
}

# Makes $LAB/image/{vmlinux,initrd,root.img,version}, unless they are there.
lab_image() {
  local new="$LAB/image.new" scratch version file
  lab_stamp | cmp -s - "$LAB/image/stamp" && return 0
  rm -rf "$new"
  mkdir -p "$new"
  scratch="$(mktemp -d "$LAB/unpack.XXXXXX")"
  (
    for file in "$LAB"/packages/*.deb; do dpkg-deb --extract "$file" "$scratch/tree" || exit 1; done
    version="$(cd "$scratch/tree/usr/lib/modules" && echo *)"
    file="$(find "$scratch/tree" -name 'vmlinuz*' | head -n 1)"
    lab_unpack_kernel "$file" "$new/vmlinux" && lab_root "$scratch/tree" "$version" "$scratch/root" &&
      lab_initrd "$scratch/root" "$version" "$new/initrd" "$scratch" || exit 1
    # With room for what is written to /tmp; the file is sparse.
    mke2fs -qF -t ext4 -O ^has_journal -E root_owner=0:0 -L lab -d "$scratch/root" "$new/root.img" 4G >/dev/null || exit 1
    echo "$version" >"$new/version"
    lab_stamp >"$new/stamp"
  )
  local status=$?
  rm -rf "$scratch"
  [ "$status" -eq 0 ] || { echo "cannot make the lab's images" >&2; return 1; }
  rm -rf "$LAB/image"
  mv "$new" "$LAB/image"
}

# lab_ready <true or false>: whether there is all that the virtual machine needs; true looks for a newer kernel now.
lab_ready() {
  lab_host_tools || return 1
  mkdir -p "$LAB"
  (
    # Two that start together must not both make it.
    flock 9
    lab_packages "$1" && lab_image
  ) 9>"$LAB/lock"
}
