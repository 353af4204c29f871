# Tests of the shim on the real core: check-shim.
#
#   make check-shim                          all
#   make check-shim SHIM_FILTER='heap/*'     some
#   PB_SEED=.. PB_OPS=..                     repeats a seeded test

TS := $(BUILD)/tests
TS_OBJ := $(BUILD)/tests/obj/shim
TS_SRC := $(CORE_SRC) $(SHIM_SRC) $(wildcard tests/shim/*.c)
TS_OBJS := $(patsubst %.c,$(TS_OBJ)/%.o,$(TS_SRC))

# Criterion's Test() declares variables that nobody else names.
$(TS_OBJ)/tests/%.o: TS_WARN := $(if $(is_clang),-Wno-missing-variable-declarations)

$(TS_OBJ)/%.o: %.c Makefile tests/shim.mk
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_COMMON) $(CFLAGS) $(TS_WARN) -DTEST_BINARY='"$(TS)/shim"' -c -o $@ $<

# ThreadSanitizer and Criterion exclude each other: see tests/shim/support.h.
$(TS)/shim: $(TS_OBJS)
	$(CC) $(LDFLAGS_COMMON) $(LDFLAGS) -o $@ $(TS_OBJS) \
	  $(if $(filter thread,$(SANITIZE)),,-lcriterion)

.PHONY: check-shim
check-shim: $(TS)/shim
	@tests/support/need libcriterion-dev
	$(TS)/shim $(if $(SHIM_FILTER),--filter '$(SHIM_FILTER)')
