# Tests of the trace recorder and player: check-trace.
#
#   make check-trace                    all
#   make check-trace TRACE_TESTS=bad    some

TW := $(BUILD)/tests/workloads
TW_PROGRAMS := $(TW)/recorded $(TW)/broken.so

$(TW)/%: tests/workloads/%.c tests/workloads.mk
	@mkdir -p $(@D)
	$(CC) $(TEST_CFLAGS) -o $@ $<

$(TW)/%.so: tests/workloads/%.c tests/workloads.mk
	@mkdir -p $(@D)
	$(CC) $(TEST_CFLAGS) -fPIC -shared -o $@ $<

.PHONY: check-trace
check-trace: all $(WORKLOADS_DIR)/replay $(WORKLOADS_DIR)/simulate $(TW_PROGRAMS)
	@tests/support/need python3 xz-utils
	@tests/workloads/trace $(BUILD) $(TRACE_TESTS)
