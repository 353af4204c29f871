# about: a C++ program full of std::map and exceptions, in eight threads
# needs: g++
# quick
. "$PB_HERE/common.bash"

g++ -std=c++17 -O1 -pthread -o maps "$PB_HERE/maps.cc"
proved maps ./maps
