# What learning lifetimes gains real programs; the top Makefile includes this.
#
#   make bench-lifetimes                                all, about 15 minutes
#   make bench-lifetimes WORKLOADS_FLAGS='--quick'      about four
#   make bench-lifetimes WORKLOADS_FLAGS='--only ruby'  see workloads/lifetimes --help

LIFETIMES_NEEDS := python3 redis-server ruby nodejs clangd postgresql sqlite3 memcached \
  libmimalloc2.0 libjemalloc2 libgoogle-perftools4

.PHONY: bench-lifetimes
bench-lifetimes: $(WORKLOADS_DIR)/replay $(BUILD)/libpageblock.so $(BUILD)/pageblock
	$(call workloads_need,$(LIFETIMES_NEEDS))
	@workloads/lifetimes --build $(BUILD) $(WORKLOADS_FLAGS)
