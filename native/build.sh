#!/bin/sh
# Builds one of the programs here with the CPU kernels in it, where there is a C++ compiler and nothing else:
#   sh native/build.sh bench|check [OUT]        (CXX names the compiler; OUT is build/bench or build/check)
# Node builds the same with src/backend/build.ts; both read from native/isas which sources are compiled for which
# instruction set, with which flags.
set -e
here=$(cd "$(dirname "$0")" && pwd)
out=${2:-$here/../build/$1}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
flags="-std=c++17 -O3 -Wall -Wno-psabi -fno-math-errno -ffp-contract=fast -pthread -I$here"
special=" "
while read -r isa sources own; do
  for name in $(echo "$sources" | tr , ' '); do
    special="$special$name "
    ${CXX:-g++} $flags $own -DLATENT_ISA="$isa" -c "$here/cpu/$name.cc" -o "$work/$name-$isa.o"
  done
done < "$here/isas"
for source in "$here"/cpu/*.cc; do
  name=$(basename "$source" .cc)
  case "$special" in *" $name "*) ;; *) ${CXX:-g++} $flags -c "$source" -o "$work/$name.o" ;; esac
done
mkdir -p "$(dirname "$out")"
${CXX:-g++} $flags "$here/$1.cc" "$work"/*.o -o "$out"
