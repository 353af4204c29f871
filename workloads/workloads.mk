# The benchmarks; the top Makefile includes this.
#
#   make bench               all of it, in at most five minutes
#   make bench-instructions  instructions per malloc+free pair (needs valgrind)
#   make bench-small         what small processes pay
#   make bench-gate          counts and memory beside workloads/baseline.json; see workloads/gate
#   make bench-baseline      makes what is measured now the baseline, on purpose
#   make workloads           only builds the programs
#
# WORKLOADS_FLAGS goes to the scripts (--help tells which there are), for instance
# make bench-small WORKLOADS_FLAGS='--compiler-runs 1000'. All figures are also left as JSON
# in $(BUILD)/workloads/.

WORKLOADS_DIR := $(BUILD)/workloads
WORKLOADS_SHAPES := $(patsubst workloads/shapes/%.c,%,$(wildcard workloads/shapes/*.c))
WORKLOADS_PROGRAMS := $(addprefix $(WORKLOADS_DIR)/,pairs launch warm handoff $(WORKLOADS_SHAPES))

# Flags of their own: what is measured must not change with the library's. -fno-builtin,
# because the compiler removes a malloc whose block it sees freed.
WORKLOADS_CFLAGS := -std=gnu17 -D_GNU_SOURCE -O2 -fno-builtin -pthread -I. $(WARN)

workloads_instructions = workloads/instructions --build $(BUILD) \
  --json $(WORKLOADS_DIR)/instructions.json $(WORKLOADS_FLAGS)
workloads_run = workloads/run --build $(BUILD) --json $(WORKLOADS_DIR)/run.json \
  --runs 7 --budget 150 $(WORKLOADS_FLAGS)
workloads_small = workloads/small --build $(BUILD) --json $(WORKLOADS_DIR)/small.json

.PHONY: workloads bench bench-instructions bench-small

workloads: $(WORKLOADS_PROGRAMS)

workloads_compile = @mkdir -p $(@D) && $(CC) $(WORKLOADS_CFLAGS) -MMD -MP -MT $@ -MF $@.d -o $@ $<

$(WORKLOADS_DIR)/%: workloads/%.c workloads/workloads.mk
	$(workloads_compile)

$(WORKLOADS_DIR)/%: workloads/shapes/%.c workloads/workloads.mk
	$(workloads_compile)

# One after the other, so that they do not disturb each other; a failure of one does not
# keep the next from being measured.
bench: workloads $(BUILD)/libpageblock.so
	@status=0; \
	$(workloads_instructions) || status=1; echo; \
	$(workloads_run) || status=1; echo; \
	$(workloads_small) --runs 150 --compiler-runs 30 $(WORKLOADS_FLAGS) || status=1; \
	exit $$status

bench-instructions: workloads $(BUILD)/libpageblock.so
	$(workloads_instructions)

bench-small: workloads $(BUILD)/libpageblock.so
	$(workloads_small) $(WORKLOADS_FLAGS)

# --- the regression gate ------------------------------------------------------------------
# The baseline is of gcc's release build: elsewhere there is nothing to compare with.
ifeq ($(is_clang)$(filter-out 0,$(DEBUG))$(SANITIZE),)
GATE := workloads/gate --build $(BUILD) --cc $(CC)
endif

.PHONY: bench-gate bench-baseline check-gate
bench-gate: $(if $(GATE),workloads $(BUILD)/libpageblock.so)
ifdef GATE
	@tests/support/need valgrind python3
	@$(GATE) --json $(WORKLOADS_DIR)/gate.json $(WORKLOADS_FLAGS)
else
	@echo "gate: the baseline is of gcc's release build, this is $(variant)"; \
	echo 'gate: 0 passed, 0 failed, 1 skipped'
endif

bench-baseline: $(if $(GATE),workloads $(BUILD)/libpageblock.so)
	@$(if $(GATE),tests/support/need valgrind python3 && $(GATE) --write, \
	  echo "the baseline is of gcc's release build" >&2; exit 2)

# The gate, and whether it can fail: a library that is 5 % slower must not pass.
check-gate: bench-gate
ifdef GATE
	@tests/workloads/gate $(BUILD)
endif
