# Tests of the preload library as a whole: check-preload, check-victims.

TP := $(BUILD)/tests/preload
TV := $(BUILD)/tests/victims

ifeq ($(origin CXX),default)
CXX := $(if $(is_clang),clang++,g++)
endif

# Without built-ins: no call may be left out, folded or taken for another.
TEST_FLAGS := -g -O1 -Wall -Wextra $(if $(WERROR),-Werror) -I. -fno-builtin -pthread -MMD -MP \
  -DPB_VERSION='"$(VERSION)"'
TEST_CFLAGS := -std=gnu17 $(TEST_FLAGS)
TEST_CXXFLAGS := -std=c++17 -fsized-deallocation -faligned-new $(TEST_FLAGS)

TP_LIB_SRC := $(wildcard tests/preload/lib_*.c tests/preload/lib_*.cc)
TP_C := $(patsubst tests/preload/%.c,$(TP)/%,$(filter-out $(TP_LIB_SRC),$(wildcard tests/preload/*.c)))
TP_CXX := $(patsubst tests/preload/%.cc,$(TP)/%,$(filter-out $(TP_LIB_SRC),$(wildcard tests/preload/*.cc)))
TP_LIBS := $(patsubst tests/preload/%,$(TP)/%.so,$(basename $(TP_LIB_SRC)))
TV_C := $(patsubst tests/victims/%.c,$(TV)/%,$(wildcard tests/victims/*.c))

# Those that need more than one source.
$(TP)/early: private TEST_LINK = $(TP)/lib_early.so -Wl,-rpath,'$$ORIGIN'
$(TP)/early: $(TP)/lib_early.so
$(TP)/dlopen_origin: private TEST_LINK = -Wl,-rpath,'$$ORIGIN' -Wl,--enable-new-dtags
$(TP)/dlopen_origin: $(TP)/lib_deep.so
$(TP)/secure: private TEST_LINK = $(BUILD)/libpageblock.so -Wl,-rpath,$(abspath $(BUILD))
$(TP)/secure: $(BUILD)/libpageblock.so
$(TP)/lib_first.so: private TEST_LINK = -Wl,-z,initfirst
$(TP)/static: private TEST_LINK = -static
# Linked to the library, since libc has not these functions.
$(TP)/mallctl $(TP)/tcmalloc: private TEST_LINK = $(BUILD)/libpageblock.so -Wl,-rpath,$(abspath $(BUILD))
$(TP)/mallctl $(TP)/tcmalloc: $(BUILD)/libpageblock.so
$(TP)/optional: private TEST_INCLUDE = -Ipreload

$(TP)/%: tests/preload/%.c tests/preload.mk
	@mkdir -p $(@D)
	$(CC) $(TEST_CFLAGS) $(TEST_INCLUDE) -o $@ $< $(TEST_LINK)

$(TP)/%: tests/preload/%.cc tests/preload.mk
	@mkdir -p $(@D)
	$(CXX) $(TEST_CXXFLAGS) -o $@ $< $(TEST_LINK)

$(TP)/lib_%.so: tests/preload/lib_%.c tests/preload.mk
	@mkdir -p $(@D)
	$(CC) $(TEST_CFLAGS) -fPIC -shared -o $@ $< $(TEST_LINK)

$(TP)/lib_%.so: tests/preload/lib_%.cc tests/preload.mk
	@mkdir -p $(@D)
	$(CXX) $(TEST_CXXFLAGS) -fPIC -shared -o $@ $< $(TEST_LINK)

$(TV)/%: tests/victims/%.c tests/preload.mk
	@mkdir -p $(@D)
	$(CC) $(TEST_CFLAGS) -o $@ $<

# Also with LLVM's C++ library, where there is one.
ifneq ($(and $(shell command -v clang++),$(wildcard /usr/lib/llvm-*/include/c++/v1/new)),)
TP_CXX += $(TP)/new_libcxx
$(TP)/new_libcxx: tests/preload/new.cc tests/preload.mk
	@mkdir -p $(@D)
	clang++ -stdlib=libc++ $(TEST_CXXFLAGS) -o $@ $<
endif

.PHONY: check-preload check-victims
check-preload: $(BUILD)/libpageblock.so $(BUILD)/pageblock $(TP_C) $(TP_CXX) $(TP_LIBS)
	CC='$(CC)' CXX='$(CXX)' tests/preload/run $(BUILD)

check-victims: $(BUILD)/libpageblock.so $(TV_C)
	tests/victims/run $(BUILD)
