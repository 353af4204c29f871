# What giving memory back costs others; the top Makefile includes this.
#
#   make bench-purge      99.99th percentile of malloc, while memory goes back and not; 15 s

.PHONY: bench-purge
bench-purge: $(WORKLOADS_DIR)/purge $(BUILD)/libpageblock.so
	@for run in 1 2 3; do \
	  PAGEBLOCK_CONF=decay:20ms LD_PRELOAD=$(abspath $(BUILD)/libpageblock.so) $< 40 || exit 1; \
	done
