# Tests of heap profiles, blame, leaks and other allocators' interfaces: check-prof.

TR := $(BUILD)/tests/prof
TR_BIN := $(patsubst tests/prof/%.c,$(TR)/%,$(filter-out tests/prof/lib_%,$(wildcard tests/prof/*.c))) \
  $(patsubst tests/prof/%.cc,$(TR)/%,$(wildcard tests/prof/*.cc))

# Optimised as little as keeps functions apart; names for dladdr.
TR_FLAGS := $(TEST_FLAGS) -fno-inline -fno-optimize-sibling-calls -rdynamic

$(TR)/%: tests/prof/%.c tests/prof.mk
	@mkdir -p $(@D)
	$(CC) -std=gnu17 $(TR_FLAGS) -o $@ $<

$(TR)/%: tests/prof/%.cc tests/prof.mk
	@mkdir -p $(@D)
	$(CXX) -std=c++17 $(TR_FLAGS) -o $@ $<

$(TR)/lib_any.so: tests/prof/lib_any.c tests/prof.mk
	@mkdir -p $(@D)
	$(CC) -std=gnu17 $(TR_FLAGS) -fPIC -shared -o $@ $<

.PHONY: check-prof
check-prof: $(BUILD)/libpageblock.so $(BUILD)/pageblock $(TR_BIN) $(TR)/lib_any.so
	@tests/prof/run $(BUILD)
