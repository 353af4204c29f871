# Tests of core/, each a program linked with core and a fake operating system in place of
# core/os.c; those of CORE_REAL_TESTS with the real one.  `make check-core` runs them all.

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
# Without Criterion, whose own threads and forks the thread sanitizer does not like.
CORE_PLAIN_TESTS := $(BUILD)/tests/core_churn $(BUILD)/tests/core_contig_churn

$(CORE_TEST_OBJ)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_COMMON) $(CFLAGS) -c -o $@ $<

# Criterion's macros are not written for these.
$(CORE_TEST_OBJ)/tests/core/test_%.o: CFLAGS += -Wno-pedantic -Wno-conversion \
  -Wno-sign-conversion -Wno-redundant-decls -Wno-shadow -Wno-missing-prototypes \
  -Wno-null-dereference \
  $(if $(findstring clang,$(notdir $(CC))),-Wno-missing-variable-declarations)

$(CORE_FAKE_TESTS): $(BUILD)/tests/core_%: $(CORE_TEST_OBJ)/tests/core/test_%.o $(CORE_FAKE_LIB)
	$(CC) $(LDFLAGS_COMMON) $(LDFLAGS) -o $@ $^ -lcriterion

$(CORE_REAL_TESTS): $(BUILD)/tests/core_%: $(CORE_TEST_OBJ)/tests/core/test_%.o $(CORE_REAL_LIB)
	$(CC) $(LDFLAGS_COMMON) $(LDFLAGS) -o $@ $^ -lcriterion

$(CORE_PLAIN_TESTS): $(BUILD)/tests/core_%: $(CORE_TEST_OBJ)/tests/core/%.o $(CORE_REAL_LIB)
	$(CC) $(LDFLAGS_COMMON) $(LDFLAGS) -o $@ $^

.SECONDARY: $(CORE_FAKE_LIB) $(CORE_REAL_LIB)
.PHONY: check-core check-core-churn
check-core-churn: $(CORE_PLAIN_TESTS)
	set -e; for test in $(CORE_PLAIN_TESTS); do $$test; done

check-core: $(CORE_FAKE_TESTS) $(CORE_REAL_TESTS) $(CORE_PLAIN_TESTS)
	@status=0; for test in $(CORE_FAKE_TESTS) $(CORE_REAL_TESTS); do \
	  echo "== $$test"; $$test || status=1; done; \
	for test in $(CORE_PLAIN_TESTS); do \
	  echo "== $$test"; $$test || status=1; done; exit $$status
