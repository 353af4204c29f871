# The benchmarks; the top Makefile includes this.
#
#   make bench               the quick cases, instructions, small processes: 5 minutes
#   make bench-twice         the quick cases two times: are the means within 3 %?
#   make bench-full          all of it, in at most an hour
#   make bench-report        the page with the plots once more, from the results at hand
#   make bench-instructions  instructions per malloc+free pair (needs valgrind)
#   make bench-small         what small processes pay
#   make bench-gate          counts and memory beside workloads/baseline.json; see workloads/gate
#   make bench-baseline      makes what is measured now the baseline, on purpose
#   make bench-sim           the page allocator with 1 to 256 virtual processors
#   make workloads           only builds the programs
#
# WORKLOADS_FLAGS goes to the scripts (--help tells which there are), for instance
# make bench-small WORKLOADS_FLAGS='--compiler-runs 1000'. All figures are also left as JSON
# in $(BUILD)/workloads/, and shown with plots by $(BUILD)/report/index.html.

WORKLOADS_DIR := $(BUILD)/workloads
WORKLOADS_SHAPES := $(patsubst workloads/shapes/%.c,%,$(wildcard workloads/shapes/*.c))
WORKLOADS_PROGRAMS := $(addprefix $(WORKLOADS_DIR)/,pairs launch warm handoff $(WORKLOADS_SHAPES) probe.so)

# Flags of their own: what is measured must not change with the library's. -fno-builtin,
# because the compiler removes a malloc whose block it sees freed.
WORKLOADS_CFLAGS := -std=gnu17 -D_GNU_SOURCE -O2 -fno-builtin -pthread -I. $(WARN)

workloads_instructions = workloads/instructions --build $(BUILD) \
  --json $(WORKLOADS_DIR)/instructions.json
workloads_run = workloads/run --build $(BUILD) --json $(WORKLOADS_DIR)/run.json
workloads_small = workloads/small --build $(BUILD) --json $(WORKLOADS_DIR)/small.json
workloads_report = workloads/report --build $(BUILD)

# The peers, what the instructions are counted with, and the programs that are measured.
# Without them the suite goes on and says what it leaves out.
WORKLOADS_PEERS := libmimalloc2.0 libjemalloc2 libtcmalloc-minimal4 libtbbmalloc2 valgrind
WORKLOADS_NEEDS_QUICK := redis-server sqlite3 python3 gcc
WORKLOADS_NEEDS := $(WORKLOADS_NEEDS_QUICK) memcached nginx postgresql rocksdb-tools ruby perl \
  lua5.4 nodejs g++ clang git ghostscript z3 openjdk-17-jre-headless
workloads_need = @for package in $(1); do tests/support/need $$package || :; done

.PHONY: workloads bench bench-full bench-report bench-instructions bench-small

workloads: $(WORKLOADS_PROGRAMS)

workloads_compile = @mkdir -p $(@D) && $(CC) $(WORKLOADS_CFLAGS) -MMD -MP -MT $@ -MF $@.d -o $@ $<

$(WORKLOADS_DIR)/%: workloads/%.c workloads/workloads.mk
	$(workloads_compile)

$(WORKLOADS_DIR)/%: workloads/shapes/%.c workloads/workloads.mk
	$(workloads_compile)

$(WORKLOADS_DIR)/%.so: workloads/%.c workloads/workloads.mk
	$(workloads_compile) -fPIC -shared -ftls-model=initial-exec

# One after the other, so that they do not disturb each other; a failure of one does not
# keep the next from being measured, but shows in the exit status. $(1): flags of run, $(2): of
# small.
define workloads_bench
@status=0; worse() { [ $$status = 1 ] || status=$$1; }; \
workloads/sim --build $(BUILD) >$(WORKLOADS_DIR)/sim.txt || worse $$?; \
$(workloads_instructions) || worse $$?; \
$(workloads_small) $(2) || worse $$?; echo; \
$(workloads_run) $(1) $(WORKLOADS_FLAGS) || worse $$?; \
$(workloads_report) || worse $$?; exit $$status
endef

bench: workloads $(BUILD)/libpageblock.so
	$(call workloads_need,$(WORKLOADS_PEERS) $(WORKLOADS_NEEDS_QUICK))
	$(call workloads_bench,--quick --runs 5 --budget 200,--runs 100 --compiler-runs 20 --memory-runs 10)

# On one commit; what it shows is how small a difference the suite can tell.
TWICE := $(WORKLOADS_DIR)/twice
.PHONY: bench-twice
bench-twice: workloads $(BUILD)/libpageblock.so
	$(call workloads_need,$(WORKLOADS_PEERS) $(WORKLOADS_NEEDS_QUICK))
	@for n in 1 2; do \
	  workloads/run --build $(BUILD) --quick --runs 5 --memory-runs 5 --json $(TWICE)-$$n.json \
	    $(WORKLOADS_FLAGS) >$(TWICE)-$$n.txt || [ $$? -ne 2 ] || { tail -5 $(TWICE)-$$n.txt; exit 2; }; done
	@workloads/compare.py $(TWICE)-1.json $(TWICE)-2.json

bench-full: workloads $(BUILD)/libpageblock.so
	$(call workloads_need,$(WORKLOADS_PEERS) $(WORKLOADS_NEEDS))
	@echo "bench-full: at most an hour: counts and small processes for some minutes, then up to"; \
	echo "7 rounds of all cases, of which none is begun that would end after 50 minutes"
	$(call workloads_bench,--runs 7 --budget 3000,)

bench-report:
	$(workloads_report)

# Tests of the runner and of the page; not of the library, thus for one of its variants.
.PHONY: check-bench
ifeq ($(is_clang)$(filter-out 0,$(DEBUG))$(SANITIZE),)
check-bench: workloads $(BUILD)/libpageblock.so
	@tests/support/need python3 gcc lua5.4
	@tests/workloads/bench $(BUILD)
else
check-bench:
	@echo 'bench: 0 passed, 0 failed, 1 skipped (done with the release build of gcc)'
endif

bench-instructions: workloads $(BUILD)/libpageblock.so
	$(workloads_instructions) $(WORKLOADS_FLAGS)

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

# --- traces ------------------------------------------------------------------------------------
# The page allocator is linked in, for --pages.
REPLAY_OBJ := $(patsubst %.c,$(OBJ)/%.o,workloads/replay.c workloads/pages.c tools/trace.c \
  $(CORE_SRC))

$(WORKLOADS_DIR)/replay: $(REPLAY_OBJ)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS_COMMON) $(LDFLAGS) -o $@ $(REPLAY_OBJ)
workloads: $(WORKLOADS_DIR)/replay

# --- simulation --------------------------------------------------------------------------------
# Core with the simulator's locks, every basic block counted.
SIM_OBJ := $(OBJ)/simulate
SIM_CORE := $(patsubst %.c,$(SIM_OBJ)/%.o,$(CORE_SRC))

$(SIM_OBJ)/core/%.o: SIM_FLAGS = -fsanitize-coverage=trace-pc -DSIMULATED -include workloads/simulate.h
$(SIM_OBJ)/core/lock.o $(SIM_OBJ)/core/os.o: SIM_FLAGS =
$(SIM_OBJ)/workloads/pages.o: SIM_FLAGS = -DSTREAM_RECORDS -include workloads/stream.h
$(SIM_OBJ)/%.o: %.c Makefile workloads/workloads.mk
	@mkdir -p $(@D)
	$(CC) $(filter-out -fsanitize=% -DPB_DEBUG=%,$(CFLAGS_COMMON)) -DPB_DEBUG=0 $(SIM_FLAGS) $(CFLAGS) -c -o $@ $<

$(WORKLOADS_DIR)/simulate: $(SIM_CORE) $(patsubst %.c,$(SIM_OBJ)/%.o,workloads/simulate.c \
    workloads/pages.c tools/trace.c)
	@mkdir -p $(@D)
	$(CC) -pthread -Wl,--wrap=madvise,--wrap=mprotect,--wrap=clock_gettime $(LDFLAGS) -o $@ $^
workloads: $(WORKLOADS_DIR)/simulate

.PHONY: bench-sim
bench-sim: workloads
	@workloads/sim --build $(BUILD) $(WORKLOADS_FLAGS)
