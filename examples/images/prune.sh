# Cuts a root made of Debian packages down to what a container needs. Sourced by the images' finish scripts.
# shellcheck shell=bash

# keep_only FOLDER NAME...: removes every other entry of the folder.
keep_only() {
  local folder=$1 entry
  shift
  for entry in "$folder"/* "$folder"/.[!.]*; do
    [[ " $* " == *" ${entry##*/} "* ]] || rm -rf "$entry"
  done
}

# prune ROOT: what no image needs.
prune() {
  local root=${1:?} libraries folder
  for folder in bin sbin lib lib64; do # from Debian 13 on packages have them in usr alone
    [[ -e $root/$folder || ! -e $root/usr/$folder ]] || ln -s "usr/$folder" "$root/$folder"
  done
  keep_only "$root/usr/share" postgresql zoneinfo
  keep_only "$root/etc" ld.so.conf ld.so.conf.d python3.11 terminfo
  rm -rf "${root:?}/var" "${root:?}"/usr/{games,include,local,src} "$root"/lib/{systemd,init,udev} \
    "$root"/usr/lib/{apt,binfmt.d,dpkg,init,mime,pam.d,sasl2,systemd,sysusers.d,tmpfiles.d,valgrind}
  for libraries in "$root"/usr/lib/*-linux-gnu; do
    rm -rf "$libraries"/{gconv,perl,perl-base,sasl2,audit} "$libraries"/libperl.so*
  done
  # Programs whose interpreter is gone, those that manage a system, and those that would gain rights.
  { grep -lIE '^#! ?/usr/bin/perl' "$root"/usr/bin/* 2>/dev/null || true; } | xargs -r rm -f
  find "$root/usr/bin" -lname '*/pg_wrapper' -delete
  find "$root" -xdev -type f -perm /6000 -delete
  rm -f "$root"/usr/bin/{dpkg*,deb*,openssl,perl*,py3*,run-parts,savelog,update-alternatives} "$root"/bin/{run-parts,tar}
  keep_only "$root/usr/sbin" ldconfig # the same folder as /sbin, from Debian 13 on
  keep_only "$root/sbin" ldconfig

  keep_only "$root/tmp" # what apt was set up with
  mkdir -p "$root"/{run,tmp,root} "$root"/var/{lib,tmp} "$root/usr/local/bin"
  chmod 1777 "$root/tmp" "$root/var/tmp"
  ln -s ../run "$root/var/run"
  printf '%s\n' 'root:x:0:0:root:/root:/bin/sh' 'nobody:x:65534:65534:nobody:/nonexistent:/bin/false' >"$root/etc/passwd"
  printf '%s\n' 'root:x:0:' 'nogroup:x:65534:' >"$root/etc/group"
  printf '%s\n' 'passwd: files' 'group: files' 'hosts: files dns' >"$root/etc/nsswitch.conf"
  chroot "$root" /sbin/ldconfig
  rm -rf "$root/var/cache"
}
