# Tests of core/, each a program linked with core and a fake operating system in place of
# core/os.c; those of CORE_REAL_TESTS with the real one.  `make check-core` runs them all.
# Those of CORE_SCHED_TESTS decide which thread runs, by pause points, and so are linked
# with a debug build of core whatever DEBUG says.

CORE_TEST_OBJ := $(BUILD)/tests/obj
CORE_TEST_SRC := $(wildcard core/*.c)
CORE_FAKE_LIB := $(patsubst %.c,$(CORE_TEST_OBJ)/%.o,$(filter-out core/os.c,$(CORE_TEST_SRC)) \
  tests/support/fake_os.c tests/support/oracle.c tests/support/random.c tests/support/dies.c)
CORE_REAL_LIB := $(patsubst %.c,$(CORE_TEST_OBJ)/%.o,$(CORE_TEST_SRC) tests/support/random.c \
  tests/support/dies.c)

CORE_REAL_NAMES := os lock
CORE_FAKE_NAMES := $(filter-out $(CORE_REAL_NAMES), \
  $(patsubst tests/core/test_%.c,%,$(wildcard tests/core/test_*.c)))
CORE_FAKE_TESTS := $(addprefix $(BUILD)/tests/core_,$(CORE_FAKE_NAMES))
CORE_REAL_TESTS := $(addprefix $(BUILD)/tests/core_,$(CORE_REAL_NAMES))
CORE_SCHED_LIB := $(patsubst $(CORE_TEST_OBJ)/%,$(CORE_TEST_OBJ)/paused/%,$(CORE_FAKE_LIB)) \
  $(CORE_TEST_OBJ)/paused/tests/support/sched.o
CORE_SCHED_TESTS := $(patsubst tests/core/%.c,$(BUILD)/tests/core_%,$(wildcard tests/core/sched_*.c))
# Seeded schedules of the same build.
CORE_SCHEDULES := $(BUILD)/tests/core_schedules
# Without Criterion, whose own threads and forks the thread sanitizer does not like.
CORE_PLAIN_TESTS := $(BUILD)/tests/core_churn $(BUILD)/tests/core_contig_churn

$(CORE_TEST_OBJ)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_COMMON) $(CFLAGS) -c -o $@ $<

$(CORE_TEST_OBJ)/paused/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_COMMON) $(CFLAGS) -UPB_DEBUG -DPB_DEBUG=1 -c -o $@ $<

# Criterion's macros are not written for these.
$(CORE_TEST_OBJ)/tests/core/test_%.o $(CORE_TEST_OBJ)/paused/tests/core/%.o: CFLAGS += -Wno-pedantic -Wno-conversion \
  -Wno-sign-conversion -Wno-redundant-decls -Wno-shadow -Wno-missing-prototypes \
  -Wno-null-dereference \
  $(if $(findstring clang,$(notdir $(CC))),-Wno-missing-variable-declarations)

$(CORE_FAKE_TESTS): $(BUILD)/tests/core_%: $(CORE_TEST_OBJ)/tests/core/test_%.o $(CORE_FAKE_LIB)
	$(CC) $(LDFLAGS_COMMON) $(LDFLAGS) -o $@ $^ -lcriterion

$(CORE_REAL_TESTS): $(BUILD)/tests/core_%: $(CORE_TEST_OBJ)/tests/core/test_%.o $(CORE_REAL_LIB)
	$(CC) $(LDFLAGS_COMMON) $(LDFLAGS) -o $@ $^ -lcriterion

$(CORE_SCHED_TESTS): $(BUILD)/tests/core_%: $(CORE_TEST_OBJ)/paused/tests/core/%.o $(CORE_SCHED_LIB)
	$(CC) $(LDFLAGS_COMMON) $(LDFLAGS) -o $@ $^ -lcriterion

$(CORE_SCHEDULES): $(CORE_TEST_OBJ)/paused/tests/core/schedules.o $(CORE_SCHED_LIB)
	$(CC) $(LDFLAGS_COMMON) $(LDFLAGS) -o $@ $^

$(CORE_PLAIN_TESTS): $(BUILD)/tests/core_%: $(CORE_TEST_OBJ)/tests/core/%.o $(CORE_REAL_LIB)
	$(CC) $(LDFLAGS_COMMON) $(LDFLAGS) -o $@ $^

.SECONDARY: $(CORE_FAKE_LIB) $(CORE_REAL_LIB) $(CORE_SCHED_LIB)
.PHONY: check-core check-core-churn check-schedules
# PB_SCHEDULES=n PB_SEED=n
check-schedules: $(CORE_SCHEDULES)
	@$(CORE_SCHEDULES)

check-core-churn: $(CORE_PLAIN_TESTS)
	set -e; for test in $(CORE_PLAIN_TESTS); do $$test; done

check-core: $(CORE_SCHED_TESTS) $(CORE_SCHEDULES) $(CORE_FAKE_TESTS) $(CORE_REAL_TESTS) \
  $(CORE_PLAIN_TESTS)
	@status=0; for test in $(CORE_SCHED_TESTS) $(CORE_FAKE_TESTS) $(CORE_REAL_TESTS); do \
	  echo "== $$test"; $$test || status=1; done; \
	for test in $(CORE_SCHEDULES) $(CORE_PLAIN_TESTS); do \
	  echo "== $$test"; $$test || status=1; done; exit $$status

# The oracles over ten million operations each, some of them the rarer ones of isolation.
CORE_ORACLES := $(BUILD)/tests/core_oracle $(BUILD)/tests/core_isolate_oracle
.PHONY: check-oracle-long
check-oracle-long: $(CORE_ORACLES)
	@status=0; for test in $(CORE_ORACLES); do \
	  echo "== $$test"; PB_OPS=$${PB_OPS:-10000000} $$test || status=1; done; exit $$status

# The historic mistakes, compiled in one at a time: all of them must be noticed.
.PHONY: mutants check-mutants
mutants:
	@tests/support/need patch libcriterion-dev
	@CC='$(CC)' tests/mutants/run $(MUTANTS)
# Whether they still fit the sources: quick.
check-mutants:
	@tests/support/need patch
	@CC='$(CC)' tests/mutants/run --apply-only

# The protocol of isolation, drained and disabled caches, in all interleavings.  TRACE=1
.PHONY: model
model:
	@tests/support/need spin gcc libc6-dev
	@tests/model/run
