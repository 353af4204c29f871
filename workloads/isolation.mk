# What isolation costs; the top Makefile includes this.
#
#   make bench-isolation   blocks marked and undone, offlining beside bare madvise calls,
#                          malloc's latency while other threads' blocks are isolated,
#                          instructions of pins and hints; about half a minute
#
# Links core and shim themselves, as the library has them.

ISOLATION_OBJ := $(patsubst %.c,$(OBJ)/pic/%.o,$(CORE_SRC) $(SHIM_SRC))

$(WORKLOADS_DIR)/isolation: workloads/isolation.c $(ISOLATION_OBJ) workloads/isolation.mk
	@mkdir -p $(@D)
	$(CC) $(WORKLOADS_CFLAGS) -I. -MMD -MP -MT $@ -MF $@.d -o $@ $< $(ISOLATION_OBJ)

.PHONY: bench-isolation
bench-isolation: $(WORKLOADS_DIR)/isolation
	@tests/support/need valgrind
	@$<
	@for what in none hint pin; do \
	  for nr in 10000 110000; do \
	    valgrind --tool=callgrind --callgrind-out-file=/dev/null $< $$what $$nr 2>&1 | \
	      sed -n "s/.*Collected : /$$what $$nr /p"; \
	  done; \
	done | awk '{ cost = ($$3 - last) / 100000; last = $$3 } \
	  NR % 2 == 0 { if ($$1 == "none") loop = cost; else \
	    printf "%-44s %10.1f instructions\n", $$1 == "pin" ? "pinning and unpinning a handle" : \
	      "pb_defrag_hint(), block of a full slab", cost - loop }'
