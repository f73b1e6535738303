#!/bin/sh
# Builds one of the programs here with the CPU kernels in it, where there is a C++ compiler and nothing else:
#   sh native/build.sh bench|check [OUT]        (CXX names the compiler; OUT is build/bench or build/check)
# Node builds the same with src/backend/build.ts; both read the instruction sets' flags from native/isas.
set -e
here=$(cd "$(dirname "$0")" && pwd)
out=${2:-$here/../build/$1}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
flags="-std=c++17 -O3 -Wall -Wno-psabi -fno-math-errno -ffp-contract=fast -pthread -I$here"
while read -r isa own; do
  ${CXX:-g++} $flags $own -DLATENT_ISA="$isa" -c "$here/cpu/kernels.cc" -o "$work/kernels-$isa.o"
done < "$here/isas"
for source in "$here"/cpu/*.cc; do
  name=$(basename "$source" .cc)
  [ "$name" = kernels ] || ${CXX:-g++} $flags -c "$source" -o "$work/$name.o"
done
mkdir -p "$(dirname "$out")"
${CXX:-g++} $flags "$here/$1.cc" "$work"/*.o -o "$out"
