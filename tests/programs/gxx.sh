# about: g++ compiles a program of many templates: the same object file
# needs: g++ binutils
# limit: 120
. "$PB_HERE/common.bash"

# Compiled in place: the name of the source is part of what is compared.
cp "$PB_HERE/maps.cc" .
proved cc1plus g++ -std=c++17 -O2 -c -o maps.o maps.cc
checksum maps.o
# The whole standard library in one go, and then optimisation at link time.
printf '#include <bits/stdc++.h>\n#include <regex>\n%s\n' \
	'bool f(const std::string &s) { return std::regex_search(s, std::regex("a+(b|c)*")); }' >all.cc
under g++ -std=c++20 -O1 -c -o all.o all.cc
checksum all.o
under g++ -std=c++17 -O2 -flto=2 -pthread -o maps maps.cc
./maps | checksum
