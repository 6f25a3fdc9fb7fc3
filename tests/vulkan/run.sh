#!/usr/bin/env bash
# Runs a program on the software Vulkan of a Mesa that has all the kernels need; Debian's own, up to 13, crashes in shared memory.
#   tests/vulkan/run.sh FOLDER PROGRAM [ARGUMENTS...]
#   CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="$PWD/tests/vulkan/run.sh FOLDER" cargo test --release --test it -- gpu
# FOLDER gets Debian's newest packages once, half a gigabyte, unpacked and not installed. Needs root, debootstrap and Debian's mirror.
set -euo pipefail
folder=$1; shift
if [ ! -e "$folder/ready" ]; then
  rm -rf "$folder"; mkdir -p "$folder"
  debootstrap --foreign --variant=minbase --include=mesa-vulkan-drivers,libvulkan1 sid "$folder" > "$folder.log" 2>&1
  for package in "$folder"/var/cache/apt/archives/*.deb; do dpkg -x "$package" "$folder"; done
  touch "$folder/ready"
fi
export VK_DRIVER_FILES=$folder/usr/share/vulkan/icd.d/lvp_icd.json
[ $# = 0 ] || exec "$folder/lib64/ld-linux-x86-64.so.2" --library-path "$folder/usr/lib/x86_64-linux-gnu" "$@"
