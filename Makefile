# pageblock: a malloc replacement whose page allocator mirrors the kernel's.
#
#   make                 build/libpageblock.so and build/pageblock
#   make check           all tests; ends with "N passed, N failed"
#   make model           isolation's protocol in all interleavings (spin)
#   make mutants         historic mistakes built in: the tests must notice each
#   make demo            redis-server on glibc and on the library, compared
#   make bench           speed and memory beside the peers, 5 minutes (bench-full: an hour)
#   make install         PREFIX=/usr/local DESTDIR=
#
# Variants go to directories of their own and can stand side by side:
#   DEBUG=1|2   SANITIZE=address|thread|undefined   CC=clang      (V=1: commands shown)
#   SLOWDOWN=1  malloc and free with two idle instructions each: what the gate must notice

ifeq ($(origin CC),default)
CC := gcc
endif
DEBUG ?= 0
SANITIZE ?=
SLOWDOWN ?=
PREFIX ?= /usr/local
DESTDIR ?=

VERSION := 0.1.0

# --- where things go ---------------------------------------------------------
is_clang := $(findstring clang,$(notdir $(CC)))
variant := $(strip $(if $(is_clang),clang) $(if $(filter-out 0,$(DEBUG)),debug$(DEBUG)) $(SANITIZE) \
  $(if $(SLOWDOWN),slowdown))
empty :=
space := $(empty) $(empty)
ifeq ($(variant),)
BUILD ?= build
else
BUILD ?= build/$(subst $(space),-,$(variant))
endif
OBJ := $(BUILD)/obj

# --- flags ---------------------------------------------------------------------
WARN := -Wall -Wextra -Wpedantic -Wundef -Wshadow -Wconversion -Wsign-conversion \
  -Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition -Wwrite-strings \
  -Wcast-qual -Wpointer-arith -Wvla -Walloca -Wformat=2 -Wnull-dereference \
  -Wredundant-decls
ifeq ($(is_clang),)
WARN += -Wcast-align=strict -Wimplicit-fallthrough=5 -Wduplicated-cond -Wlogical-op
else
WARN += -Wmissing-variable-declarations -Wunreachable-code-aggressive -Wassign-enum -Wcomma
endif
WARN += $(if $(WERROR),-Werror)

OPTIMISE := $(if $(filter-out 0,$(DEBUG)),-O1 -fno-omit-frame-pointer,-O2 -fno-plt)
CFLAGS_COMMON := -std=gnu17 -g $(OPTIMISE) $(WARN) -I. -pthread \
  -DPB_DEBUG=$(DEBUG) -DPB_VERSION='"$(VERSION)"' \
  -fvisibility=hidden -ftls-model=initial-exec -fno-builtin-malloc -fno-builtin-calloc \
  -fno-builtin-realloc -fno-builtin-free -fno-strict-aliasing -MMD -MP
LDFLAGS_COMMON := -pthread
LIB_LDFLAGS := -shared -Wl,-z,defs,-z,relro,-z,now,-z,nodlopen,-z,text,-z,initfirst \
  -Wl,--version-script=preload/exports.map -Wl,-soname,libpageblock.so -Wl,--as-needed
$(shell mkdir -p $(BUILD))

# V=1 shows the commands, make -s nothing.
ifneq ($(V),1)
Q := @
silent := $(findstring s,$(firstword -$(MAKEFLAGS)))
say = $(if $(silent),@:,@printf '  %-7s %s\n' '$(1)' '$(2)')
endif

# --- what is built -----------------------------------------------------------------
CORE_SRC := $(wildcard core/*.c)
SHIM_SRC := $(wildcard shim/*.c)
PRELOAD_SRC := $(wildcard preload/*.c)
# Linked first, so that what every process runs lies together: the system maps the library
# by 64 KiB, and what lies elsewhere costs a small process nothing.
LIB_FIRST := $(addsuffix .c,preload/malloc \
  $(addprefix shim/,slow slab slabs settle limits classes large shim heap divert arena sample sparse) \
  $(addprefix core/,zone index pageblock pcp span lock work os inspect limit fallback ready waste \
  thp purge isolate) preload/process preload/config preload/limits shim/inspect shim/holes)
LIB_SRC := $(LIB_FIRST) $(filter-out $(LIB_FIRST),$(CORE_SRC) $(SHIM_SRC) $(PRELOAD_SRC))
LIB_OBJ := $(LIB_SRC:%.c=$(OBJ)/pic/%.o)

.PHONY: all clean check install format layers
.DEFAULT_GOAL := all
all: $(BUILD)/libpageblock.so $(BUILD)/pageblock

# The preload library replaces malloc, which the sanitizers do too: it is built
# without them, and what they check is linked into the tests under other names.
LIB_CFLAGS := $(CFLAGS_COMMON) -fPIC
LIB_LDFLAGS += $(LDFLAGS_COMMON)
ifneq ($(SANITIZE),)
CFLAGS_COMMON += -fsanitize=$(SANITIZE) -fno-sanitize-recover=all
LDFLAGS_COMMON += -fsanitize=$(SANITIZE)
endif

ifneq ($(SLOWDOWN),)
$(OBJ)/pic/preload/malloc.o: LIB_CFLAGS += -fpatchable-function-entry=2
endif

$(OBJ)/pic/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(LIB_CFLAGS) $(CFLAGS) -c -o $@ $<

$(OBJ)/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(CFLAGS_COMMON) $(CFLAGS) -c -o $@ $<

$(BUILD)/libpageblock.so: $(LIB_OBJ) preload/exports.map
	$(call say,LD,$@)
	$(Q)$(CC) $(LIB_LDFLAGS) $(LDFLAGS) -o $@ $(LIB_OBJ)

# --- tests ----------------------------------------------------------------------------
# The counts of the fast paths are promised for release builds by gcc; clang's are its own.
ifeq ($(filter-out 0,$(DEBUG))$(SANITIZE),)
FAST_PATH := $(if $(is_clang),13 22 16,13 19 15)
endif
CHECKS := check-layers $(if $(FAST_PATH),check-fast-path) check-generated check-man check-core check-mutants check-shim \
  check-victims check-preload check-prof check-programs check-trace check-gate check-bench

.PHONY: check-layers check-fast-path
check:
	@tests/support/need gcc g++ libc6-dev binutils groff libcriterion-dev python3 $(if $(is_clang),clang)
	@$(MAKE) --no-print-directory all
	@MAKE='$(MAKE)' tests/check $(CHECKS)

check-layers:
	@CC='$(CC)' tests/layers

check-fast-path: $(BUILD)/libpageblock.so
	@tests/fast_path $< $(FAST_PATH)

-include tools/tools.mk
-include tests/core.mk
-include tests/shim.mk
-include tests/preload.mk
-include tests/prof.mk
-include tests/views.mk
-include tests/programs.mk
-include workloads/workloads.mk
-include workloads/purge.mk
-include workloads/return.mk
-include workloads/lifetimes.mk
-include workloads/isolation.mk
-include tests/workloads.mk
-include doc/doc.mk

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)

clean:
	rm -rf build
